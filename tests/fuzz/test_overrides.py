"""Overrides of every key on the command line: the value arrives where it is used, or a sentence.

All of a command but the steps' work is done: composing, building, the checks before any work.
"""

import copy
import importlib
import json
import os
from collections.abc import Mapping
from functools import cache, partial

import numpy as np
import pytest
from fuzzing import texts
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import strategies as st
from omegaconf import OmegaConf, open_dict

from dfwe import cli
from dfwe.command_line import check_words
from dfwe.config import config_folder
from dfwe.data.corpus import ByRole
from dfwe.errors import UserError
from dfwe.pipeline.deferred import Deferred
from dfwe.search.loop import search

COMMON = (
    *("task=emory", "sources.list=[meld]", "corpus=sample", "model=tiny"),
    *("trainer=cpu", "logger=csv"),
)
BASES = (
    (),
    ("search=cma_es",),
    ("search=dirichlet", "decoding=likelihood"),
    ("stage=region",),
    ("stage=report", "report.tasks=[emory]", "report.seeds=[0]"),
    ("experiment=controls",),
)
DOWNLOADS = ("corpus.url", "corpus.download", "corpus.size", "corpus.sha256")


def whole(least, most):
    return st.integers(least, most)


def optional(values):
    return st.one_of(st.none(), values)


words = st.sampled_from(["plain", "two words", "a-b_c", "é", "x" * 40])
positive = st.floats(1e-6, 10).map(lambda x: float(f"{x:.3g}"))
SOUND = {  # key -> values that it may have
    "training.learning_rate": positive,
    "training.batch": st.sampled_from([1, 2, 4, 8]),
    "training.epochs": whole(1, 9),
    "training.patience": optional(whole(1, 9)),
    "training.steps_at_least": whole(0, 99),
    "training.warmup": whole(0, 99),
    "training.clip": optional(positive),
    "training.accumulation": st.sampled_from(["tlidb", "mean"]),
    "training.precision": st.sampled_from(["32-true", "bf16-mixed"]),
    "training.monitor": st.sampled_from(["target", "own"]),
    "training.noise": st.sampled_from(["common", "own"]),
    "training.tokens": whole(1, 10**6),
    "model.name": words,
    "model.max_input": whole(8, 64),
    "model.max_target": whole(1, 64),
    "search.screen": optional(whole(1, 9)),
    "search.folds": optional(whole(2, 3)),
    "search.objective": st.sampled_from(["score", "log_likelihood"]),
    "search.ties": st.sampled_from(["none", "log_likelihood"]),
    "search.strategy.evaluations": optional(whole(60, 90)),
    "corpus.name": words,
    "corpus.shots": st.sampled_from(["few", "full"]),
    "corpus.source_shots": st.sampled_from(["few", "full", None]),
    "corpus.seed": optional(whole(0, 99)),
    "task.max_new_tokens": whole(1, 64),
    "trainer.deterministic": st.booleans(),
    "seed": whole(0, 10**6),
    "workers": whole(1, 3),
    "resume": st.sampled_from(["check", "anyway"]),
}
RAW = (
    *("null", "true", "-1", "0", "1.5", "nan", "inf", "1e400", "1e-400", "[]", "{}", "{a:1}"),
    *("[1,[2]]", "[null]", "[a,a]", "{_target_:os.system}", "{_target_:dfwe.nothing}", "''", "x"),
    *(
        "${seed}",
        "${nowhere}",
        "${oc.env:NOWHERE}",
        "???",
        "99999999999999999999",
        "a/b",
        "~",
        "1_0",
    ),
    *("{_target_:dfwe.search.uniform,_partial_:true}", "a" * 2000, "[1,2,3]", "'1'", "'[b]'"),
)


@cache
def base(words_of):
    return compose("config", [*COMMON, *words_of], return_hydra_config=True)


def keys_of(node, prefix=""):
    for name in node:
        yield f"{prefix}{name}"
        if OmegaConf.is_dict(node) and not OmegaConf.is_missing(node, name):
            inner = node._get_node(name)
            if OmegaConf.is_dict(inner) and not inner._is_none():
                yield from keys_of(inner, f"{prefix}{name}.")


@cache
def known_keys(words_of):
    cfg = base(words_of).copy()
    with open_dict(cfg):
        del cfg["hydra"]
    return [key for key in keys_of(cfg) if key not in DOWNLOADS]


def spelled(value):
    """A value in Hydra's grammar."""
    if isinstance(value, str):
        return "'" + value.replace("'", "\\'") + "'"
    return json.dumps(value)


def sound():
    chosen = st.lists(st.sampled_from(sorted(SOUND)), min_size=1, max_size=4, unique=True)
    given = chosen.flatmap(lambda keys: st.fixed_dictionaries({key: SOUND[key] for key in keys}))
    return st.tuples(st.just(()), given, st.just(()))


@st.composite
def unsound(draw):
    chosen = draw(st.sampled_from(BASES))
    key = draw(st.sampled_from(known_keys(chosen)))
    value = draw(st.one_of(st.sampled_from(RAW), texts().map(spelled), texts()))
    more = draw(
        st.sampled_from(
            ["{key}={value}"] * 6 + ["+{key}.x={value}", "~{key}", "++{key}={value}", "+{value}=1"]
        )
    )
    other = draw(st.sampled_from([(), (), ("stage=evaluate",), ("push=true",), ("workers=2",)]))
    return chosen, {}, (more.format(key=key, value=value), *other)


class Done(Exception):
    """Everything before the steps' work is done: the study, and the context."""


def judge(folder, case):
    chosen, values, raw = case
    overrides = [*(f"{key}={spelled(value)}" for key, value in values.items()), *raw]
    check_words(overrides, ())
    try:
        cfg = copy.deepcopy(base(chosen))
        plain = [
            word
            for word in overrides
            if "=" not in word
            or "." in word.split("=")[0]
            or word.split("=")[0].lstrip("+~")
            in (
                "seed",
                "workers",
                "resume",
                "store",
                "allow",
                "push",
                "checkpoints",
                "controls",
                "landscapes",
            )
        ]
        if len(plain) < len(overrides):  # a group is chosen: composed as Hydra does
            cfg = compose("config", [*COMMON, *chosen, *overrides], return_hydra_config=True)
        else:
            ConfigLoaderImpl._apply_overrides_to_config(
                OverridesParser.create().parse_overrides(overrides), cfg
            )
    except HydraException as error:
        raise UserError("Hydra refuses it.") from error
    with open_dict(cfg):
        hydra = cfg.hydra
        hydra.runtime.output_dir, hydra.runtime.cwd = str(folder / "run"), str(folder)
        hydra.overrides.task = [*COMMON, *chosen, *overrides]
        hydra.job.name = "config"
        hydra.job.config_name = "config"
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
        if "store" in cfg and cfg.store == base(chosen).store:
            cfg.store = str(folder / "store")
    try:
        cli._run(cfg, planning=False)
    except Done as done:
        built = done.args
    except Exception as error:
        sentence = cli._sentence(error, [folder])
        if sentence is None:
            raise
        raise UserError(
            sentence if isinstance(error, UserError) else "A library's sentence."
        ) from error
    else:
        return
    study, context = built
    for key, value in values.items():
        found = arrived(study, context, key.split("."))
        assert found == value, (key, found)
        assert isinstance(found, bool) == isinstance(value, bool)
    if values:
        check_search(study.search, values)
    return bool(values)


def arrived(study, context, names):
    """The value that a key has where it is used."""
    group, *rest = names
    node = {"trainer": context.trainer, "workers": context.workers, "resume": context.resume}.get(
        group
    )
    node = getattr(study, group) if node is None else node
    node = node.corpus if isinstance(node, ByRole) else node
    for name in rest:
        node = node.arguments if isinstance(node, Deferred) else node
        node = node[name] if isinstance(node, Mapping) else getattr(node, name)
    return node


def check_search(chosen, values):
    """The search has as many evaluations as were asked for, and ends with the best of them."""

    def score(alpha):
        return -float(np.sum((alpha - np.array([0.5, 0.3, 0.2])) ** 2))

    found = search(chosen(3), score)
    assert len(found.trials) <= (values.get("search.strategy.evaluations") or 120)
    scores = [score(trial.alpha) for trial in found.trials]
    assert found.score == max(scores)
    assert found.trials[scores.index(max(scores))].alpha.tolist() == found.alpha.tolist()


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Hydra's composition; steps are not computed, and Lightning is imported before any input."""
    importlib.import_module("lightning")
    for name in [x for x in os.environ if x.startswith(("DFWE_", "WANDB_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    studies, build = [None], cli.ensembling_study

    def built(cfg):
        studies.append(build(cfg))
        return studies[-1]

    def perform(work, stage, context, announce):
        context.check()
        announce()
        raise Done(studies[-1], context)

    monkeypatch.setattr(cli, "ensembling_study", built)
    monkeypatch.setattr("dfwe.pipeline.executor.perform", perform)
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(config_folder(), version_base="1.3"):
        yield tmp_path
    base.cache_clear()


def test_overrides_arrive_or_are_refused_in_a_sentence(command, fuzz):
    fuzz("overrides", partial(judge, command), sound(), unsound())
