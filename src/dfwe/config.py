"""The configuration as Hydra composes it -> the objects that a stage runs with."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from dfwe.errors import UserError
from dfwe.pipeline.disk import check_writable, refusal
from dfwe.plain import is_list, is_mapping

if TYPE_CHECKING:
    from dfwe.data.corpus import Corpus
    from dfwe.pipeline.context import Context
    from dfwe.pipeline.deferred import Deferred
    from dfwe.studies.ensembling.plan import EnsemblingStudy

DEFERRED = "dfwe.pipeline.deferred.Deferred"
TRUSTED = ("dfwe", "torch.optim", "lightning", "transformers")
T = TypeVar("T")


def build(key: str, config: object, kind: type[T]) -> T:
    """The object that a configuration declares, with those inside it.

    A node with `_partial_: true` becomes a `Deferred`: nothing is imported before it is called.

    Args:
        key: what the configuration calls it, for messages.
        config: a node, or a plain value.
        kind: what is needed there.

    Raises:
        UserError: it declares something else.
    """
    plain = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    built: object = hydra.utils.instantiate(_deferring(plain), _convert_="all")
    if not isinstance(built, kind):
        raise UserError(
            f"{key}= declares a {type(built).__name__} where a {kind.__name__} is needed; correct "
            "its _target_ and _partial_."
        )
    return built


def check_targets(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Refuses code that a configuration names and nobody has consented to.

    dfwe, torch.optim, Lightning and transformers may be named anywhere; what is typed on the
    command line is consent, as are the modules in `allow` and in DFWE_ALLOW (comma-separated).
    What Hydra itself runs before this, and what an allowed module does, is not checked: a
    configuration is code.

    Raises:
        UserError: a `_target_` is none of these.
    """
    allowed = (*TRUSTED, *_listed(cfg.allow), *os.environ.get("DFWE_ALLOW", "").split(","))
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
    return {"_target_": DEFERRED, "target": fields.pop("_target_"), "arguments": fields}


def config_folder() -> str:
    """`conf/` as installed beside this module, else at the top of the checkout."""
    here = Path(__file__).resolve().parent
    places = (here / "conf", here.parents[1] / "conf")
    return str(next((place for place in places if place.is_dir()), places[0]))


class OutputFolder(Callback):
    """Makes the run's folder before Hydra does, which would end in a traceback where it cannot."""

    def on_run_start(self, config: DictConfig, **kwargs: object) -> None:
        self._make(config.hydra.run.dir, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        self._make(config.hydra.sweep.dir, "hydra.sweep.dir")

    def _make(self, folder: str, key: str) -> None:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            check_writable(Path(folder))
        except OSError as error:
            words = refusal(error, [Path(folder)]) or f"{folder}: {error.strerror}"
            sys.stderr.write(f"Error: {words}; set {key}= to another place.\n")
            sys.exit(1)


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
    from dfwe.tasks.task import Task

    sources = tuple(build("task", source, Task) for source in _sources(cfg))
    from dfwe.models.family import ModelFamily
    from dfwe.pipeline.context import device_kind
    from dfwe.scoring.decoding import Decoding
    from dfwe.search.config import Search
    from dfwe.studies.ensembling.plan import EnsemblingStudy
    from dfwe.training.config import TrainingConfig

    return EnsemblingStudy(
        corpus=_corpus(OmegaConf.to_yaml(cfg.corpus, resolve=True)),
        task=build("task", cfg.task, Task),
        sources=sources,
        model=build("model", cfg.model, ModelFamily),
        decoding=build("decoding", cfg.decoding, Decoding),
        training=build("training", cfg.training, TrainingConfig),
        search=build("search", cfg.search, Search),
        seed=cfg.seed,
        device=device_kind(cfg.trainer.get("accelerator", "auto")),
        checkpoints=tuple(_listed(cfg.checkpoints)),
        controls=_built(cfg, "controls"),
        landscapes=_built(cfg, "landscapes"),
    )


def _built(cfg: DictConfig, key: str) -> "dict[str, Deferred]":
    """Name -> what is configured under it."""
    from dfwe.pipeline.deferred import Deferred

    if not isinstance(cfg[key], DictConfig):
        raise UserError(
            f"{key}={cfg[key]} is no set of named {key}; experiment=controls sets "
            f"them, '~{key}.NAME' drops one."
        )
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
    if cfg.sources.survey is None:
        return [_task(name, "sources.list") for name in source_names(cfg)]
    from dfwe.studies.region.survey import recommended

    given = "sources.survey, whose checkpoints are to be named after their tasks,"
    return [_task(name, given) for name in recommended(cfg.sources.survey, cfg.task.name)]


def source_names(cfg: DictConfig) -> list[str]:
    """The source tasks as listed, or those of the target's name."""
    names = cfg.sources.list
    return _listed(cfg.sources.of.get(cfg.task.name) if names is None else names)


def _listed(value: object) -> list[str]:
    """What is given without brackets is a list of one, null an empty one."""
    if value is None:
        return []
    return [str(item) for item in value] if is_list(value) else [str(value)]


def _task(name: str, given: str) -> DictConfig:
    """A task's configuration by its name: sources come from the same group as targets."""
    _check_option("task", name, given)
    corpus = HydraConfig.get().runtime.choices["corpus"]
    return _composed(f"corpus={corpus}", f"task={name}").task


def _check_option(group: str, name: str, given: str) -> None:
    """Raises UserError unless `given` names an option of a group in conf/."""
    known = _options(group)
    if name not in known:
        raise UserError(f"{given} has the unknown {group} '{name}'; known: {', '.join(known)}.")


def _options(group: str) -> list[str]:
    return GlobalHydra.instance().config_loader().get_group_options(group)


def context_of(cfg: DictConfig) -> "Context":
    """How and where the plan runs."""
    from dfwe.pipeline.context import Context
    from dfwe.pipeline.deferred import Deferred
    from dfwe.pipeline.store import Store

    overrides = list(HydraConfig.get().overrides.task)
    names = {key: cfg[key].get("name") for key in ("task", "corpus", "model")}
    return Context(
        store=Store(cfg.store),
        trainer=build("trainer", cfg.trainer, Deferred),
        loggers=(build("logger", cfg.logger, Deferred),),
        output=Path(HydraConfig.get().runtime.output_dir),
        command=_command_for(overrides),
        study={**names, "seed": cfg.seed, "overrides": overrides},
        workers=cfg.workers,
        resume=cfg.resume,
    )


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
    return lambda stage: " ".join(["python -m dfwe.run", *places, f"stage={stage}", *kept])
