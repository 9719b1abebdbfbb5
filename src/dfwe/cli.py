"""The command line: run the stage that was asked for; an error becomes one sentence."""

import inspect
import logging
import os
import re
import shlex
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, HydraException, InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dfwe.command_line import check_words, refused
from dfwe.config import (
    build,
    check_complete,
    check_keys,
    check_targets,
    config_folder,
    context_of,
    ensembling_study,
    run_settings,
    show_sweep,
)
from dfwe.errors import UserError, machine_failed, reason
from dfwe.help import explain, overview
from dfwe.markup import printable
from dfwe.pipeline.disk import refusal
from dfwe.signals import stopped_by
from dfwe.store_command import store_command

if TYPE_CHECKING:
    from dfwe.pipeline.executor import Stage

log = logging.getLogger(__name__)
CONSOLE = "hydra.job_logging.handlers.console.level"
OPTIONS = {  # options that Hydra does not know -> the overrides that they stand for
    "-v": f"{CONSOLE}=DEBUG",
    "--verbose": f"{CONSOLE}=DEBUG",
    "-q": f"{CONSOLE}=WARNING",
    "--quiet": f"{CONSOLE}=WARNING",
}
OPEN = (  # take any key: what is built of them says which are known
    "trainer.",
    "logger.",
    "callbacks.",
    "training.optimizer.",
    "training.schedule.",
    "training.callbacks.",
)


class JobFailed(CompactHydraException):
    """A job of a sweep failed.

    Args:
        sentence: why.
        folder: the sweep's.
    """

    def __init__(self, sentence: str, folder: str) -> None:
        super().__init__(sentence, folder)
        self.folder = folder

    def __str__(self) -> str:
        return str(self.args[0])


COMMANDS = {
    "plan": "what a command would compute, why, and how long it takes",
    "store": "list, show, prune, verify or repair stored results",
}


def main() -> None:
    """The command: `-v` shows what the log of the run's folder has, `-q` warnings and results.

    A first word without `=` and `-` is a subcommand; all else is Hydra's.
    """
    try:
        code = _dispatch(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has what it wanted: dfwe --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except JobFailed as error:  # its sentence has been told
        show_sweep(error.folder)
        sys.exit(1)
    except (UserError, HydraException) as error:
        given = isinstance(error, UserError)
        sys.stderr.write(f"Error: {error if given else refused(error, sys.argv[1:])}\n")
        sys.exit(1)
    sys.exit(code)


def _dispatch(words: list[str]) -> int:
    """Runs the command; its exit code."""
    if words[:1] == ["store"]:
        return store_command(words[1:])
    if {"--help", "-h"} & {*words}:
        asked = [word for word in words if word not in ("--help", "-h", "plan")]
        sys.stdout.write(f"{explain(asked) if asked else overview(COMMANDS)}\n")
    elif "--version" in words:
        sys.stdout.write(f"dfwe {version('dfwe')}\n")
    else:
        planning = words[:1] == ["plan"]
        words = words[planning:]
        check_words(words, COMMANDS)
        os.environ["HYDRA_FULL_ERROR"] = "1"  # what Hydra finds is told here, in one sentence
        logging.raiseExceptions = False  # a full disk stops the log without a traceback per line
        sys.argv[1:] = [
            f"++{word}" if word.startswith(OPEN) else OPTIONS.get(word, word) for word in words
        ]
        if not planning:
            job()
            return 0
        with TemporaryDirectory() as folder:  # Hydra's own files
            sys.argv += [f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}"]
            plan()
    return 0


@hydra.main(version_base="1.3", config_path=config_folder(), config_name="config")
def plan(cfg: DictConfig) -> None:
    """Print what the same words without `plan` would compute, and compute nothing."""
    _job(cfg, planning=True)


@hydra.main(version_base="1.3", config_path=config_folder(), config_name="config")
def job(cfg: DictConfig) -> float | None:
    """Run one job; the score that `optimized=` names, if the stage ends with it.

    A user's mistake ends in one sentence and exit code 1. The other jobs of a sweep continue; it
    ends with exit code 1 when one of them failed. The log in the run's folder has versions,
    configuration, timings and any error's traceback.
    """
    return _job(cfg)


def _job(cfg: DictConfig, *, planning: bool = False) -> float | None:
    began = time.monotonic()
    _log_start(cfg)
    try:
        score = _run(cfg, planning=planning)
        log.debug("Finished after %.1f s.", time.monotonic() - began)
        return score
    except BaseException as error:
        if isinstance(error, SystemExit):  # what Lightning makes of it
            error = KeyboardInterrupt()
        if (stopped := stopped_by(error)) is not None:
            log.debug("Stopped after %.1f s.", time.monotonic() - began, exc_info=True)
            raise stopped from None
        log.debug("Failed after %.1f s.", time.monotonic() - began, exc_info=True)
        places = [Path(str(cfg.store)), Path(HydraConfig.get().runtime.output_dir)]
        sentence = _sentence(error, places)
        if sentence is None:
            raise
        sys.stdout.flush()
        sys.stderr.write(f"Error: {sentence}\n")
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise JobFailed(sentence, HydraConfig.get().sweep.dir) from None
        sys.exit(1)


def _log_start(cfg: DictConfig) -> None:
    """Versions, command and configuration, for whoever reads the log later."""
    from dfwe.pipeline.provenance import commit, versions

    log.debug("Versions: %s", " ".join(f"{name}={value}" for name, value in versions().items()))
    log.debug("Commit: %s", commit())
    log.debug("Command: %s", " ".join(map(shlex.quote, sys.argv)))
    log.debug("Configuration:\n%s", OmegaConf.to_yaml(cfg))


def _run(cfg: DictConfig, *, planning: bool) -> float | None:
    _quiet()
    os.chdir(hydra.utils.get_original_cwd())  # paths are those of the command, chdir or not
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a person's own modules; `python -m` looks here anyway
    check_complete(cfg)
    typed = HydraConfig.get().overrides.task
    check_targets(cfg, typed)  # every reference leads somewhere
    check_keys(cfg, typed)
    given = run_settings(cfg)
    from dfwe.pipeline.deferred import check_part
    from dfwe.pipeline.executor import Stage, Work, perform

    stage = build("stage", cfg.stage, Stage)
    for key, place in (("push", given.push), ("export", given.export)):
        if place and stage.work is not None:
            raise UserError(f"{key}= is of DFWE's final model; stage={stage.name} computes none.")
    if _is_optimized():
        check_optimized(stage, given.optimized, folds=cfg.search.folds)
    context = context_of(cfg)
    study = partial(ensembling_study, cfg)
    if stage.work is None:
        from dfwe.studies.ensembling.work import ensembling

        export = None if given.export is None else Path(given.export).expanduser()
        work = ensembling(
            study, stage, context, push=given.push, export=export, overwrite=given.overwrite
        )
    else:
        check_part("stage.work", stage.work)
        work = stage.work(study, stage, context)
    if not isinstance(work, Work):
        raise UserError(f"stage={stage.name} gives a {type(work).__name__}, not a Work.")

    def expected() -> str:
        from dfwe.pipeline.context import device_kind
        from dfwe.pipeline.forecast import forecast
        from dfwe.reporting.plan import planned

        if not work.steps:
            return f"stage={stage.name} computes nothing that is stored."
        device = device_kind(cfg.trainer.get("accelerator", "auto"))
        return planned(forecast(work.steps, stage, context, device))

    if planning:
        sys.stdout.write(f"{expected()}\n")
        return None
    scores = perform(work, stage, context, lambda: log.info("%s", expected()))
    return scores.get(given.optimized)


def _is_optimized() -> bool:
    """Whether a sweeper asks for each run's score, to choose the next by."""
    hydra_config = HydraConfig.get()
    target = str(hydra_config.sweeper.get("_target_"))
    return hydra_config.mode == RunMode.MULTIRUN and not target.endswith(".BasicSweeper")


def check_optimized(stage: "Stage", optimized: str, folds: int | None) -> None:
    """Refuse before any work a sweeper that would get no score after it.

    Args:
        stage: what each run computes.
        optimized: the score that the sweeper is to maximise.
        folds: those of the search.

    Raises:
        UserError: the stage ends without it.
    """
    if stage.work is not None or not {"interpolate", "evaluate"} & {*stage.computes}:
        raise UserError(
            f"A sweeper chooses by {optimized}, which stage={stage.name} does not compute; give "
            "stage=validate."
        )
    if optimized == "dev/cross_fitted" and folds is None:
        raise UserError("optimized=dev/cross_fitted needs folds; set search.folds=5.")


def _sentence(error: BaseException, places: Sequence[Path] = ()) -> str | None:
    """The sentence for the user; None for a bug of ours, which keeps its traceback.

    Args:
        error: what ended the job.
        places: where the job writes.
    """
    if isinstance(error, InstantiationException) and (cause := error.__cause__) is not None:
        if found := re.match("Error locating target ('.*?'), set env", str(error), re.S):
            why = reason(cause.__cause__ or cause)
            return printable(f"{found[1]} cannot be imported ({why}); correct its _target_.")
        return _sentence(cause, places)
    if (words := refusal(error, places)) is not None:
        return f"{words}; set store= or hydra.run.dir= to another place."
    if isinstance(error, OSError):
        return None
    if isinstance(error, UserError | OmegaConfBaseException | InstantiationException):
        return str(error).splitlines()[0]
    if machine_failed(error) and "device-side assert" not in str(error):  # which is a bug
        return (
            f"Memory or the device failed ({reason(error)}); free some, lower training.tokens if "
            "this was training, or choose a smaller model or another trainer=, and give the "
            "command again: it resumes where it was."
        )
    frames = traceback.extract_tb(error.__traceback__)
    in_hydra = bool(frames) and frames[-1].filename == inspect.getfile(instantiate)
    if isinstance(error, TypeError) and in_hydra:  # it calls with wrong or missing keys
        return f"The configuration cannot be built: {reason(error)}; --cfg job shows what is set."
    return None


def _quiet() -> None:
    """Silence the libraries' hints about accelerators and workers."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # retries; we report the end
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # that it looked for fonts
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
