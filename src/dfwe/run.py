"""The command line: compose the configuration, build its objects, run the stage's steps."""

import errno
import logging
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dfwe.errors import UserError, machine_failed, reason

if TYPE_CHECKING:
    from dfwe.execute import Stage
    from dfwe.lab import Lab
    from dfwe.plan import Study

DISK = {
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.ENOENT: "there is no such place",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EEXIST: "a file stands where a folder is needed",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
}


build = partial(hydra.utils.instantiate, _convert_="all")


def config_folder() -> str:
    """`conf/` as installed beside this module, else at the top of the checkout."""
    here = Path(__file__).resolve().parent
    places = (here / "conf", here.parents[1] / "conf")
    return str(next((place for place in places if place.is_dir()), places[0]))


class OutputFolder(Callback):
    """Makes the run's folder before Hydra does, which would end in a traceback where it cannot."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._make(config.hydra.run.dir, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._make(config.hydra.sweep.dir, "hydra.sweep.dir")

    def _make(self, folder: str, key: str) -> None:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = DISK.get(error.errno or 0, error.strerror)
            sys.stderr.write(f"Error: {folder}: {why}; set {key}= to another place.\n")
            sys.exit(1)


@hydra.main(version_base="1.3", config_path=config_folder(), config_name="config")
def main(cfg: DictConfig) -> None:
    """Run one job; a user's mistake ends in one sentence and exit code 1.

    The other jobs of a sweep go on; it ends with exit code 1 when one of them failed.
    """
    try:
        _run(cfg)
    except (KeyboardInterrupt, SystemExit):  # Lightning makes the one the other
        sys.stderr.write("\nInterrupted; give the same command again to go on.\n")
        sys.exit(130)
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        sys.stdout.flush()
        sys.stderr.write(f"Error: {sentence}\n")
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise CompactHydraException(f"Error: {sentence}") from None
        sys.exit(1)


def _run(cfg: DictConfig) -> None:
    _quiet()
    os.chdir(hydra.utils.get_original_cwd())  # paths are those of the command, chdir or not
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    stage = build(cfg.stage)
    if cfg.push and stage.work is not None:
        raise UserError(
            f"push= takes DFWE's final model to the Hub; stage={stage.name} makes none."
        )
    work = stage.work or partial(_ensemble, push=cfg.push)
    work(partial(_study, cfg), stage, _lab(cfg))


def _ensemble(study: "Callable[[], Study]", stage: "Stage", lab: "Lab", push: str | None) -> None:
    """DFWE: experts, fine-tunings, search, evaluation."""
    from dfwe.execute import execute
    from dfwe.plan import Plan
    from dfwe.summary import present, publish
    from dfwe.weights.hub import check_login

    plan = Plan(study())
    if plan.study.checkpoints and "interpolate" not in stage.makes and stage.name != "evaluate":
        raise UserError(
            f"stage={stage.name} makes nothing of checkpoints=[...], which are mixed "
            "as they are; give stage=interpolate or stage=all."
        )
    plan.check(lab.store)
    if push:
        check_login()
        if "interpolate" not in stage.makes and plan.interpolation.recipe not in lab.store:
            raise UserError(
                "push= needs the final model, which is not made yet; give "
                "stage=interpolate or stage=all."
            )
    execute(plan.steps, stage, lab)
    present(plan, stage, lab)
    if push:
        publish(plan, lab.store, push)


def _study(cfg: DictConfig) -> "Study":
    """The part of the configuration that decides weights, as objects."""
    sources = tuple(build(source) for source in _sources(cfg))
    from dfwe.plan import Study

    return Study(
        corpus=_corpus(OmegaConf.to_yaml(cfg.corpus, resolve=True)),
        task=build(cfg.task),
        sources=sources,
        model=build(cfg.model),
        decoding=build(cfg.decoding),
        fit=build(cfg.fit),
        search=build(cfg.search),
        seed=cfg.seed,
        checkpoints=tuple(map(str, _listed(cfg.checkpoints))),
        controls=_built(cfg, "controls"),
        landscapes=_built(cfg, "landscapes"),
    )


def _built(cfg: DictConfig, key: str) -> dict[str, Any]:
    """Name -> what is configured under it."""
    if not isinstance(cfg[key], DictConfig):
        raise UserError(
            f"{key}={cfg[key]} is no set of named {key}; experiment=controls sets "
            f"them, '~{key}.NAME' drops one."
        )
    return {str(name): build(config) for name, config in cfg[key].items()}


@cache
def _corpus(config: str) -> Any:
    """Read once and kept in memory once, however many studies of a process are on it."""
    return build(OmegaConf.create(config))


def study_of(task: str, seed: int) -> "Study":
    """The study of another task and seed, all else as on this command line."""
    _check_option("task", task, "report.tasks")
    given = HydraConfig.get().overrides.task
    kept = [item for item in given if item.split("=")[0] not in ("task", "seed", "stage")]
    cfg = _composed(*kept, f"task={task}").copy()
    cfg.seed = seed
    return _study(cfg)


@cache
def _composed(*overrides: str) -> DictConfig:
    """The configuration of these overrides; composing takes Hydra a third of a second."""
    return hydra.compose(_config_name(), overrides=list(overrides))


def _config_name() -> str:
    """Of the primary configuration: `config`, or that of --config-name."""
    return str(HydraConfig.get().job.config_name)


def _sources(cfg: DictConfig) -> list[DictConfig]:
    """The sources' configurations: as listed, or as a survey of models recommends them."""
    for given in HydraConfig.get().overrides.task:
        if given.startswith("sources=") and "/" not in given:  # which Hydra takes as optional
            _check_option("sources", given.removeprefix("sources="), "sources=")
    if cfg.sources.survey is None:
        return [_task(name, "sources.list") for name in _listed(cfg.sources.list)]
    from dfwe.region.survey import recommended

    given = "sources.survey, whose checkpoints are to be named after their tasks,"
    return [_task(name, given) for name in recommended(cfg.sources.survey, cfg.task.name)]


def _listed(value: Any) -> Any:
    """What is given without brackets is a list of one, null an empty one."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


def _task(name: str, given: str) -> DictConfig:
    """A task's configuration by its name: sources come from the same group as targets."""
    _check_option("task", name, given)
    corpus = HydraConfig.get().runtime.choices["corpus"]
    return _composed(f"corpus={corpus}", f"task={name}").task


def _check_option(group: str, name: str, given: str) -> None:
    """Raises UserError unless `given` names an option of a group in conf/."""
    known = GlobalHydra.instance().config_loader().get_group_options(group)
    if name not in known:
        raise UserError(f"{given} has the unknown {group} '{name}'; known: {', '.join(known)}.")


def _lab(cfg: DictConfig) -> "Lab":
    """How and where the plan runs."""
    from dfwe.lab import Lab
    from dfwe.store import Store

    return Lab(
        store=Store(cfg.store),
        trainer=build(cfg.trainer),
        open_log=build(cfg.logger),
        output=Path(HydraConfig.get().runtime.output_dir),
        command=_command_for(given := list(HydraConfig.get().overrides.task)),
        study={
            **{key: cfg[key].get("name") for key in ("task", "corpus", "model")},
            "seed": cfg.seed,
            "overrides": given,
        },
        workers=cfg.workers,
    )


def _command_for(overrides: Any) -> Callable[[str], str]:
    """What a person can paste to make a stage, with the configurations of their own."""
    found = HydraConfig.get().runtime.config_sources
    places = [
        f"--config-dir {shlex.quote(source.path)}"
        for source in found
        if source.provider == "command-line"
    ]
    if (name := _config_name()) != "config":
        places.append(f"--config-name {shlex.quote(name)}")
    kept = [shlex.quote(item) for item in overrides if not item.startswith("stage=")]
    return lambda stage: " ".join(["python -m dfwe.run", *places, f"stage={stage}", *kept])


def _sentence(error: BaseException) -> str | None:
    """The user's sentence in an error; None for our own bugs, which keep their traceback."""
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        return _sentence(error.__cause__)
    if (number := _errno(error)) is not None:
        why = DISK.get(number)
        where = getattr(error, "filename", None) or "the output folder"
        return why and f"{where}: {why}; set store= or hydra.run.dir= to another place."
    if isinstance(error, UserError | OmegaConfBaseException | InstantiationException):
        return str(error).splitlines()[0]
    if machine_failed(error) and "device-side assert" not in str(error):  # which is a bug
        return (
            f"Memory or the device failed ({reason(error)}); free some, lower fit.tokens if "
            "this was training, or choose a smaller model or another trainer=, and give the "
            "command again: it goes on where it was."
        )
    return _unknown_setting(error)


def _errno(error: BaseException) -> int | None:
    """The system's error number; safetensors and torch.save have it in words alone."""
    if isinstance(error, OSError):
        return error.errno or 0
    if found := re.search(r"os error (\d+)", str(error)):
        return int(found[1])
    return errno.ENOSPC if "inline_container.cc" in str(error) else None


def _unknown_setting(error: BaseException) -> str | None:
    """The sentence about a key on the command line that what is built does not take."""
    found = re.search(r"(\w+)[.\w]*\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if found is None:
        return None
    given = [item.split("=")[0].lstrip("+") for item in HydraConfig.get().overrides.task]
    for key in given:
        if key.split(".")[-1] == found[2]:
            return f"{found[1]} takes no '{found[2]}' ({key}=); --cfg job shows what can be set."
    return None


def _quiet() -> None:
    """Say our own things; not the libraries' hints about accelerators and workers."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries; we say the end
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")


if __name__ == "__main__":  # the module's own: launchers of sweeps send it to other processes
    from dfwe.run import main as command

    command()
