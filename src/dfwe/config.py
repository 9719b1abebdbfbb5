"""The configuration as Hydra composes it -> the objects that a stage runs with."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from dfwe.errors import UserError, did_you_mean
from dfwe.pipeline.disk import check_writable, refusal
from dfwe.plain import Plain, is_list, is_mapping
from dfwe.schema import RunSettings, Sources, check_keywords, find
from dfwe.settings import listed

if TYPE_CHECKING:
    from dfwe.data.corpus import Corpus
    from dfwe.pipeline.context import Context
    from dfwe.pipeline.deferred import Deferred
    from dfwe.search.config import Search
    from dfwe.studies.ensembling.plan import EnsemblingStudy
    from dfwe.tasks.task import Task
    from dfwe.training.config import TrainingConfig

DEFERRED = "dfwe.pipeline.deferred.Deferred"
TRUSTED = ("dfwe", "torch.optim", "lightning", "transformers")
DECIDING = (  # the parts of a configuration that decide a result
    *("corpus", "task", "sources", "decoding", "training", "model", "search", "experiment"),
    *("controls", "landscapes"),
)
T = TypeVar("T")


def build(key: str, config: object, kind: type[T]) -> T:
    """The object that a configuration declares, with those inside it.

    A node with `_partial_: true` becomes a `Deferred`: nothing is imported before it is called.
    So does a node where a `Deferred` is needed.

    Args:
        key: what the configuration calls it, for messages.
        config: a node, or a plain value.
        kind: what is needed there.

    Raises:
        UserError: it declares something else.
    """
    from dfwe.pipeline.deferred import Deferred

    plain = _resolved(config)
    if kind is Deferred and is_mapping(plain):
        plain = {**plain, "_partial_": True}
    check_keywords(key, plain)
    built: object = hydra.utils.instantiate(_deferring(plain), _convert_="all")
    if not isinstance(built, kind):
        raise UserError(
            f"{key}= declares a {type(built).__name__} where a {kind.__name__} is needed; correct "
            "its _target_ and _partial_."
        )
    return built


def _resolved(config: object) -> object:
    """A node as plain data, its references resolved; a plain value itself."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


def check_targets(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Refuses code that a configuration names and nobody has consented to.

    dfwe, torch.optim, Lightning and transformers may be named anywhere; what is typed on the
    command line is consent, as are the modules in `allow` and in DFWE_ALLOW (comma-separated).
    What Hydra itself runs before this, and what an allowed module does, is not checked: a
    configuration is code.

    Raises:
        UserError: a `_target_` is none of these.
    """
    allowed = (*TRUSTED, *listed(cfg.allow), *os.environ.get("DFWE_ALLOW", "").split(","))
    for target in _targets(OmegaConf.to_container(cfg, resolve=True)):
        known = any(target == name or target.startswith(f"{name}.") for name in allowed if name)
        if target == DEFERRED or (not known and not any(target in typed for typed in overrides)):
            module = target.rpartition(".")[0] or target
            raise UserError(
                f"The configuration would run {target}; if you trust it, name its module: "
                f"allow=[{module}], or DFWE_ALLOW={module}."
            )


def _targets(node: object) -> Iterator[str]:
    """Every dotted path that is to be imported."""
    if is_mapping(node):
        if "_target_" in node:
            yield str(node["_target_"])
        node = list(node.values())
    for item in node if is_list(node) else ():
        yield from _targets(item)


def _deferring(node: object) -> object:
    """The node with every `_partial_` one inside as a `Deferred`."""
    if is_list(node):
        return [_deferring(item) for item in node]
    if not is_mapping(node):
        return node
    fields = {key: _deferring(value) for key, value in node.items()}
    if not fields.pop("_partial_", False):
        return fields
    if "_target_" not in fields:
        raise UserError(
            f"The configuration has _partial_: true beside {', '.join(map(str, fields))}, but no "
            "_target_; name the dotted path of a function there."
        )
    target = fields.pop("_target_")
    if not isinstance(target, str):
        raise UserError(f"_target_={target} should be the dotted path of a function.")
    return {"_target_": DEFERRED, "target": target, "arguments": fields}


def config_folder() -> str:
    """`conf/` as installed beside this module, else at the top of the checkout."""
    here = Path(__file__).resolve().parent
    places = (here / "conf", here.parents[1] / "conf")
    return str(next((place for place in places if place.is_dir()), places[0]))


@cache
def groups() -> tuple[str, ...]:
    """What stands at the top of a configuration beside the keys of `RunSettings`."""
    return tuple(path.name for path in sorted(Path(config_folder()).iterdir()) if path.is_dir())


class OutputFolder(Callback):
    """Makes the run's folder before Hydra does, which would end in a traceback where it cannot;
    shows the table of a sweep's runs, where all have ended well."""

    def on_run_start(self, config: DictConfig, **kwargs: object) -> None:
        self._make(config.hydra.run.dir, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        self._make(config.hydra.sweep.dir, "hydra.sweep.dir")

    def on_multirun_end(self, config: DictConfig, **kwargs: object) -> None:
        show_sweep(config.hydra.sweep.dir)

    def _make(self, folder: str, key: str) -> None:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            check_writable(Path(folder))
        except OSError as error:
            words = refusal(error, [Path(folder)]) or f"{folder}: {error.strerror}"
            sys.stderr.write(f"Error: {words}; set {key}= to another place.\n")
            sys.exit(1)


def show_sweep(folder: str) -> None:
    """Prints the table of a sweep's runs."""
    from dfwe.studies.ensembling import sweep

    sweep.show_sweep(Path(folder).absolute())


def run_settings(cfg: DictConfig) -> RunSettings:
    """The keys that belong to no group.

    Raises:
        UserError: one does not fit, or is unknown.
    """
    hydras = {*groups(), "hydra"}
    kept = [str(key) for key in cfg if key not in hydras]
    values = {str(key): value for key, value in plain(OmegaConf.masked_copy(cfg, kept)).items()}
    schema = {"_target_": "dfwe.schema.RunSettings", "_recursive_": False}
    given: object = hydra.utils.instantiate({**values, **schema}, _convert_="all")
    assert isinstance(given, RunSettings)
    return given


def check_keys(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Refuses keys that nothing reads: at the top, or added by `+` on the command line.

    Raises:
        UserError: there is no such key.
    """
    whole = plain(cfg)
    added = [item.partition("=")[0].lstrip("+") for item in overrides if item.startswith("+")]
    for key in (*whole, *added):
        if "/" not in str(key):  # a group's choice
            find(whole, str(key), groups())


def plain(cfg: DictConfig) -> Mapping[object, object]:
    """The configuration without Hydra."""
    whole = OmegaConf.to_container(cfg, resolve=True)
    assert is_mapping(whole)
    return whole


def check_complete(cfg: DictConfig) -> None:
    """Raise UserError for a key that is left open by what was chosen."""
    for key in sorted(OmegaConf.missing_keys(cfg)):
        group = key.partition(".")[0]
        chosen = HydraConfig.get().runtime.choices.get(group)
        if chosen is None:
            raise UserError(f"{key}= is missing; set it.")
        others = [name for name in _options(group) if name != chosen]
        raise UserError(
            f"{group}={chosen} is what others share and leaves {key} open; choose one of "
            f"{', '.join(others)}."
        )


def ensembling_study(cfg: DictConfig) -> "EnsemblingStudy":
    """The part of the configuration that decides weights, as objects."""
    given = run_settings(cfg)
    sources = tuple(map(build_task, _sources(cfg)))
    from dfwe.models.family import ModelFamily
    from dfwe.pipeline.context import device_kind
    from dfwe.pipeline.deferred import Deferred
    from dfwe.scoring.decoding import Decoding
    from dfwe.scoring.own_score import OwnScore
    from dfwe.studies.ensembling.plan import EnsemblingStudy

    return EnsemblingStudy(
        corpus=_corpus(OmegaConf.to_yaml(cfg.corpus, resolve=True)),
        task=build_task(cfg.task),
        sources=sources,
        model=build("model", cfg.model, ModelFamily),
        decoding=build("decoding", cfg.decoding, Decoding),
        training=training_of(cfg),
        search=search_of(cfg),
        seed=given.seed,
        device=device_kind(cfg.trainer.get("accelerator", "auto")),
        checkpoints=tuple(given.checkpoints),
        base=given.base,
        score=None if cfg.score is None else OwnScore(build("score", cfg.score, Deferred)),
        controls=_built(cfg, "controls"),
        landscapes=_built(cfg, "landscapes"),
    )


def training_of(cfg: DictConfig) -> "TrainingConfig":
    """How models are trained; what is named by dotted path is a part, called for each anew."""
    from dfwe.training.config import TrainingConfig

    node = dict(plain(cfg.training))
    for key in ("optimizer", "schedule"):
        node[key] = _partial(node[key])
    callbacks = node["callbacks"]
    named = list(callbacks.values()) if is_mapping(callbacks) else callbacks
    node["callbacks"] = [_partial(item) for item in named] if is_list(named) else named
    return build("training", node, TrainingConfig)


def search_of(cfg: DictConfig) -> "Search":
    """The search; with `trainer.fast_dev_run` it scores the experts and their average alone."""
    from dfwe.pipeline.deferred import Deferred
    from dfwe.pipeline.trainer import shortening
    from dfwe.search.config import Search

    search = build("search", cfg.search, Search)
    if "fast_dev_run" not in shortening(plain(cfg.trainer)):
        return search
    return replace(search, strategy=Deferred("dfwe.search.uniform"))


def _partial(node: object) -> object:
    return {**node, "_partial_": True} if is_mapping(node) and "_target_" in node else node


def chosen_parts(cfg: DictConfig, key: str) -> "tuple[Deferred, ...]":
    """What a group names: each of `key=[a,b]` and of `key.NAME._target_=`; or `key._target_=`
    alone, which leaves out what its files name.

    Raises:
        UserError: a key belongs to nothing that is named.
    """
    from dfwe.pipeline.deferred import Deferred

    nodes: Mapping[object, object] = plain(cfg[key]) if key in cfg else {}
    named = {name: node for name, node in nodes.items() if is_mapping(node) and "_target_" in node}
    own = {name: node for name, node in nodes.items() if name not in named}
    if "_target_" in own:
        return (build(key, _partial(own), Deferred),)
    if own:
        name = next(iter(own))
        raise UserError(
            f"{key}.{name}= is not known; what {key}= names has its keys under its own name: "
            f"{' or '.join(f'{key}.{part}.{name}=' for part in named) or f'{key}.NAME.{name}='}."
        )
    return tuple(build(f"{key}.{name}", _partial(node), Deferred) for name, node in named.items())


def build_task(config: object) -> "Task":
    """A task, which builds its metrics: a `_target_` there is a class or a plain function."""
    from dfwe.tasks.task import Task

    task = _resolved(config)
    check_keywords("task", task)  # not those of a part that is called later
    if is_mapping(task) and is_list(metrics := task.get("metrics")):
        parts = [{**part, "_partial_": True} if is_mapping(part) else part for part in metrics]
        task = {**task, "metrics": parts}
    return build("task", task, Task)


def _built(cfg: DictConfig, key: str) -> "dict[str, Deferred]":
    """Name -> what is configured under it."""
    from dfwe.pipeline.deferred import Deferred

    return {
        str(name): build(f"{key}.{name}", config, Deferred) for name, config in cfg[key].items()
    }


@cache
def _corpus(config: str) -> "Corpus":
    """Read and kept in memory once, however many studies of a process are on it."""
    from dfwe.data.corpus import Corpus

    return build("corpus", OmegaConf.create(config), Corpus)


def study_of(task: str, seed: int) -> "EnsemblingStudy":
    """The study of another task and seed, all else as on this command line."""
    _check_option("task", task, "report.tasks")
    given = HydraConfig.get().overrides.task
    kept = [item for item in given if item.split("=")[0] not in ("task", "seed", "stage")]
    cfg = _composed(*kept, f"task={task}").copy()
    cfg.seed = seed
    return ensembling_study(cfg)


@cache
def _composed(*overrides: str) -> DictConfig:
    """The configuration of these overrides; composing takes Hydra a third of a second."""
    cfg = hydra.compose(_config_name(), overrides=list(overrides))
    check_targets(cfg, overrides)
    return cfg


def _config_name() -> str:
    """Of the primary configuration: `config`, or that of --config-name."""
    return str(HydraConfig.get().job.config_name)


def _sources(cfg: DictConfig) -> list[DictConfig]:
    """The sources' configurations: as listed, by the target's name, or as a survey recommends."""
    sources = build("sources", cfg.sources, Sources)
    if sources.survey is None:
        return [_task(name, "sources.list") for name in sources.named(cfg.task.name)]
    from dfwe.studies.region.survey import recommended

    given = "sources.survey, whose checkpoints are to be named after their tasks,"
    return [_task(name, given) for name in recommended(sources.survey, cfg.task.name)]


def _task(name: str, given: str) -> DictConfig:
    """A task's configuration by its name: sources come from the same group as targets."""
    _check_option("task", name, given)
    corpus = HydraConfig.get().runtime.choices["corpus"]
    return _composed(f"corpus={corpus}", f"task={name}").task


def _check_option(group: str, name: str, given: str) -> None:
    """Raises UserError unless `given` names an option of a group in conf/."""
    known = _options(group)
    if name not in known:
        near = did_you_mean(name, known)
        raise UserError(
            f"{given} has the unknown {group} '{name}';{near} known: {', '.join(known)}."
        )


def _options(group: str) -> list[str]:
    return GlobalHydra.instance().config_loader().get_group_options(group)


def context_of(cfg: DictConfig) -> "Context":
    """How and where the plan runs."""
    from dfwe.pipeline.context import Context
    from dfwe.pipeline.deferred import Deferred
    from dfwe.pipeline.store import Store

    overrides = list(HydraConfig.get().overrides.task)
    given = run_settings(cfg)
    return Context(
        store=Store(given.store),
        trainer=build("trainer", cfg.trainer, Deferred),
        loggers=chosen_parts(cfg, "logger"),
        output=Path(HydraConfig.get().runtime.output_dir),
        command=_command_for(overrides),
        config={**_columns(cfg), "overrides": overrides},
        chosen=_chosen(overrides),
        callbacks=chosen_parts(cfg, "callbacks"),
        workers=given.workers,
        resume=given.resume,
    )


def _columns(cfg: DictConfig) -> dict[str, Plain]:
    """The resolved configuration, whose keys become a log's columns; of the sources, those that
    the target has."""
    sources = build("sources", cfg.sources, Sources).named(cfg.task.name)
    return {**{str(key): _as_plain(item) for key, item in plain(cfg).items()}, "sources": sources}


def _as_plain(value: object) -> Plain:
    if is_mapping(value):
        return {str(key): _as_plain(item) for key, item in value.items()}
    if is_list(value):
        return [_as_plain(item) for item in value]
    return value if isinstance(value, str | int | float | None) else str(value)


def _chosen(overrides: Sequence[str]) -> dict[str, str]:
    """Key -> value of those overrides that decide a result."""
    pairs = (word.lstrip("+").partition("=") for word in overrides)
    return {key: value for key, _, value in pairs if re.split(r"[./]", key)[0] in DECIDING}


def _command_for(overrides: Sequence[str]) -> Callable[[str], str]:
    """Stage -> the command that computes it, with the folders of configurations given here."""
    places = [
        f"--config-dir {shlex.quote(source.path)}"
        for source in HydraConfig.get().runtime.config_sources
        if source.provider == "command-line"
    ]
    if (name := _config_name()) != "config":
        places.append(f"--config-name {shlex.quote(name)}")
    kept = [shlex.quote(item) for item in overrides if not item.startswith("stage=")]
    return lambda stage: " ".join([_program(), *places, f"stage={stage}", *kept])


def _program() -> str:
    """How this command was started, for one to be pasted."""
    called = sys.argv[0]
    if Path(called).name == "run.py":
        return "python -m dfwe.run"
    return "dfwe" if called == shutil.which("dfwe") else called
