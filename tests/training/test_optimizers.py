"""Optimizers and schedules that a configuration names, against those of the libraries."""

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from dfwe.errors import UserError
from dfwe.pipeline.deferred import Deferred
from dfwe.training.config import TrainingConfig
from dfwe.training.optimizers import adam, adamw, constant, cosine, linear, optimizer_and_schedule

TORCH = "torch.optim.lr_scheduler"


def rates(schedule, warmup=0, steps=10):
    """The rate of each step under a full rate of 1."""
    optimizer, scheduling = optimizer_and_schedule(
        Deferred("torch.optim.SGD"),
        schedule,
        [torch.nn.Parameter(torch.zeros(1))],
        lr=1.0,
        warmup=warmup,
        steps=lambda: steps,
    )
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduling.step()
    return found


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(linear, get_linear_schedule_with_warmup), (cosine, get_cosine_schedule_with_warmup)],
)
def test_a_schedule_is_that_of_transformers_whose_warmup_starts_a_step_later(ours, theirs):
    """Its first step has rate 0; so its steps 1 to 9 under a warm-up of 3 are ours from 0 on."""
    reference = Deferred(f"transformers.{theirs.__name__}")
    assert rates(ours) == pytest.approx(rates(reference))
    assert rates(reference, warmup=3)[0] == 0.0
    assert rates(ours, warmup=4, steps=11)[3:] == pytest.approx(rates(reference, 3, 11)[3:])
    assert rates(ours, warmup=4)[:4] == [0.25, 0.5, 0.75, 1.0]


def test_a_constant_rate_is_full_at_the_end_of_the_warmup():
    assert rates(constant, warmup=3, steps=5) == pytest.approx([1 / 3, 2 / 3, 1, 1, 1])
    assert rates(constant, steps=2) == [1.0, 1.0]


def test_a_cosine_ends_at_its_lowest_rate():
    lowest = Deferred("dfwe.training.optimizers.cosine", {"lowest": 0.2})
    assert rates(lowest, steps=1000)[-1] == pytest.approx(0.2, abs=1e-4)


def test_a_librarys_schedule_gets_the_number_of_steps_under_its_own_name():
    assert rates(Deferred(f"{TORCH}.CosineAnnealingLR")) == pytest.approx(rates(cosine))
    assert max(rates(Deferred(f"{TORCH}.OneCycleLR", {"max_lr": 2.0}))) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(adam, torch.optim.Adam), (adamw, torch.optim.AdamW)]
)
def test_weight_decay_is_that_of_torch(ours, theirs):
    ends = []
    for make, more in ((ours, {}), (theirs, {"fused": True})):
        value = torch.nn.Parameter(torch.linspace(-1, 1, 5))
        optimizer = make([value], lr=0.1, weight_decay=0.3, **more)
        for _ in range(3):
            value.grad = value.detach() ** 2
            optimizer.step()
        ends.append(value.detach())
    assert torch.equal(*ends)


MISTAKES = {
    "an unknown argument": ({"optimizer": Deferred("torch.optim.AdamW", {"decay": 1})}, "'decay'"),
    "a value": ({"optimizer": Deferred("torch.optim.AdamW", {"eps": -1})}, "optimizer: Invalid"),
    "no optimizer": ({"optimizer": Deferred("torch.nn.Linear")}, "training.optimizer: "),
    "a closure": ({"optimizer": Deferred("torch.optim.LBFGS")}, "more than a training step has"),
    "a score": ({"schedule": Deferred(f"{TORCH}.ReduceLROnPlateau")}, "choose another"),
    "no warm-up": (
        {"schedule": Deferred(f"{TORCH}.CosineAnnealingLR"), "warmup": 3},
        "set training.warmup=0",
    ),
    "no callback": ({"callbacks": [Deferred("torch.nn.Identity")]}, "no Callback of Lightning"),
}


@pytest.mark.parametrize(("given", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_part_that_cannot_train_is_refused_before_training(given, words):
    training = TrainingConfig(**given)
    with pytest.raises(UserError, match=words):
        training.check()
    TrainingConfig().check()


@pytest.mark.parametrize("key", ["optimizer", "schedule"])
def test_a_name_is_no_part(key):
    with pytest.raises(UserError, match=rf"training\.{key}=sgd .* choose by training/{key}="):
        TrainingConfig(**{key: "sgd"})


def test_the_rate_stands_in_one_place():
    with pytest.raises(UserError, match=r"set training\.learning_rate\.$"):
        TrainingConfig(optimizer=Deferred("torch.optim.SGD", {"lr": 0.1}))


def test_a_recipe_has_a_part_by_path_version_and_arguments_where_it_is_not_the_usual_one():
    usual = TrainingConfig().settings()
    assert not {"optimizer", "schedule", "callbacks"} & set(usual)
    spelled = Deferred("dfwe.training.optimizers.adam", {"weight_decay": 0.0})
    assert TrainingConfig(optimizer=spelled).settings() == usual
    sgd = TrainingConfig(optimizer=Deferred("torch.optim.SGD", {"momentum": 0.9})).settings()
    assert sgd["optimizer"]["name"] == "torch.optim.sgd.SGD"
    assert sgd["optimizer"]["version"] == str(torch.__version__)
    assert sgd["optimizer"]["arguments"]["momentum"] == 0.9
    assert "lr" not in sgd["optimizer"]["arguments"]
    decayed = Deferred("dfwe.training.optimizers.adam", {"weight_decay": 0.1})
    assert TrainingConfig(optimizer=decayed).settings()["optimizer"]["version"] == 1
    observed = Deferred("lightning.pytorch.callbacks.EMAWeightAveraging", {"decay": 0.5})
    (callback,) = TrainingConfig(callbacks=[observed]).settings()["callbacks"]
    assert callback["arguments"]["decay"] == 0.5
