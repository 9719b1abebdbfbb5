"""The command line: run the stage that was asked for; an error becomes one sentence."""

import logging
import os
import re
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dfwe.config import (
    build,
    check_complete,
    check_targets,
    config_folder,
    context_of,
    ensembling_study,
)
from dfwe.errors import UserError, machine_failed, reason
from dfwe.pipeline.disk import refusal
from dfwe.signals import stopped_by
from dfwe.store_command import store_command

if TYPE_CHECKING:
    from dfwe.pipeline.context import Context
    from dfwe.pipeline.executor import Stage
    from dfwe.studies.ensembling.plan import EnsemblingStudy

log = logging.getLogger(__name__)
CONSOLE = "hydra.job_logging.handlers.console.level"
OPTIONS = {  # options that Hydra does not know -> the overrides that they stand for
    "-v": f"{CONSOLE}=DEBUG",
    "--verbose": f"{CONSOLE}=DEBUG",
    "-q": f"{CONSOLE}=WARNING",
    "--quiet": f"{CONSOLE}=WARNING",
}


def main() -> None:
    """The command: `-v` shows what the log of the run's folder has, `-q` warnings and results.

    `dfwe store ...` looks after a store (`dfwe.store_command`); all else is Hydra's.
    """
    if sys.argv[1:2] == ["store"]:
        sys.exit(store_command(sys.argv[2:]))
    sys.argv[1:] = [OPTIONS.get(word, word) for word in sys.argv[1:]]
    logging.raiseExceptions = False  # a full disk stops the log without a traceback per line
    job()


@hydra.main(version_base="1.3", config_path=config_folder(), config_name="config")
def job(cfg: DictConfig) -> None:
    """Run one job; a user's mistake ends in one sentence and exit code 1.

    The other jobs of a sweep continue; it ends with exit code 1 when one of them failed. The
    log in the run's folder has versions, configuration, timings and any error's traceback.
    """
    began = time.monotonic()
    _log_start(cfg)
    try:
        _run(cfg)
        log.debug("Finished after %.1f s.", time.monotonic() - began)
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
            raise CompactHydraException(f"Error: {sentence}") from None
        sys.exit(1)


def _log_start(cfg: DictConfig) -> None:
    """Versions, command and configuration, for whoever reads the log later."""
    from dfwe.pipeline.provenance import commit, versions

    log.debug("Versions: %s", " ".join(f"{name}={value}" for name, value in versions().items()))
    log.debug("Commit: %s", commit())
    log.debug("Command: %s", " ".join(map(shlex.quote, sys.argv)))
    log.debug("Configuration:\n%s", OmegaConf.to_yaml(cfg))


def _run(cfg: DictConfig) -> None:
    _quiet()
    os.chdir(hydra.utils.get_original_cwd())  # paths are those of the command, chdir or not
    check_complete(cfg)
    check_targets(cfg, HydraConfig.get().overrides.task)  # every reference leads somewhere
    from dfwe.pipeline.executor import Stage

    stage = build("stage", cfg.stage, Stage)
    if cfg.push and stage.work is not None:
        raise UserError(
            f"push= takes DFWE's final model to the Hub; stage={stage.name} makes none."
        )
    work = stage.work or partial(_ensemble, push=cfg.push)
    work(partial(ensembling_study, cfg), stage, context_of(cfg))


def _ensemble(
    study: "Callable[[], EnsemblingStudy]", stage: "Stage", context: "Context", push: str | None
) -> None:
    """DFWE: experts, fine-tunings, search, evaluation."""
    from dfwe.pipeline.executor import execute
    from dfwe.studies.ensembling.plan import Plan
    from dfwe.studies.ensembling.results import present, publish
    from dfwe.weights.hub import check_login

    plan = Plan(study())
    if plan.study.checkpoints and "interpolate" not in stage.computes and stage.name != "evaluate":
        raise UserError(
            f"stage={stage.name} computes nothing of checkpoints=[...], which are mixed "
            "as they are; give stage=interpolate or stage=all."
        )
    plan.check(context.store)
    if push:
        check_login()
        if "interpolate" not in stage.computes and plan.interpolation.recipe not in context.store:
            raise UserError(
                "push= needs the final model, which is not computed yet; give "
                "stage=interpolate or stage=all."
            )
    execute(plan.steps, stage, context)
    present(plan, stage, context)
    if push:
        publish(plan, stage, context, push)


def _sentence(error: BaseException, places: Sequence[Path] = ()) -> str | None:
    """The sentence for the user; None for a bug of ours, which keeps its traceback.

    Args:
        error: what ended the job.
        places: where the job writes.
    """
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        return _sentence(error.__cause__, places)
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
    return _unknown_setting(error)


def _unknown_setting(error: BaseException) -> str | None:
    """The sentence about a key on the command line that what is built does not take."""
    call = re.search(r"(\w+)[.\w]*\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if call is None:
        return None
    function, keyword = call.groups()
    given = [item.split("=")[0].lstrip("+") for item in HydraConfig.get().overrides.task]
    for key in given:
        if key.split(".")[-1] == keyword:
            return f"{function} takes no '{keyword}' ({key}=); --cfg job shows what can be set."
    return None


def _quiet() -> None:
    """Silence the libraries' hints about accelerators and workers."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # retries; we report the end
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
