"""On a device of its own, a search still writes each candidate in one pass."""

from dfwe.pipeline.executor import compute
from dfwe.studies.ensembling.plan import Plan
from dfwe.weights.layout import flat
from dfwe.weights.loading import save
from dfwe.weights.space import WeightSpace


def test_a_search_writes_into_one_piece(
    make_study, make_network, tokenizer, context, tmp_path, device_apart, monkeypatch
):
    for seed in (0, 1):
        save(make_network(seed), tokenizer, tmp_path / f"own{seed}")
    names = tuple(str(tmp_path / f"own{seed}") for seed in (0, 1))
    plan = Plan(make_study(checkpoints=names))
    for step in plan.finetuned:
        compute(step, context)
    whole, write = [], WeightSpace.write

    def record(space, alpha, module):
        whole.append(flat(module, space.layout) is not None)
        write(space, alpha, module)

    monkeypatch.setattr(WeightSpace, "write", record)
    compute(plan.interpolation, context)
    assert len(whole) > 3
    assert all(whole)
