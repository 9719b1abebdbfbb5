"""What a person reads of an error: one sentence, or for our own bugs the traceback."""

import errno
import os
import pickle
import re
import runpy
import sys
import warnings

import pytest
import torch
from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from safetensors import SafetensorError

from dfwe.cli import JobFailed, _sentence, check_optimized, job
from dfwe.config import build
from dfwe.errors import UserError
from dfwe.pipeline.executor import Stage
from dfwe.signals import Stopped

FULL = [
    OSError(errno.ENOSPC, "No space left on device", "store/x"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
]


@pytest.mark.parametrize("error", FULL, ids=["system", "safetensors", "torch.save"])
def test_a_full_disk_is_named_whoever_writes(error, tmp_path):
    sentence = _sentence(error, [tmp_path])
    assert re.search(r"the disk is full: the file system of /\S* has \d+ MB left; set", sentence)
    assert ("store/x" if isinstance(error, OSError) else str(tmp_path)) in sentence


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES])
def test_what_a_disk_refuses_is_a_sentence(number):
    sentence = _sentence(OSError(number, os.strerror(number), "store/x"))
    assert sentence.startswith("store/x: ")
    assert "set store=" in sentence


MACHINE = [
    torch.OutOfMemoryError("CUDA out of memory."),
    torch.AcceleratorError("device lost"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    MemoryError(),
]


@pytest.mark.parametrize("error", MACHINE, ids=lambda error: type(error).__name__)
def test_a_machine_that_fails_is_no_bug(error):
    sentence = _sentence(error)
    assert "lower training.tokens" in sentence
    assert "it resumes where it was" in sentence
    assert (str(error).rstrip(".") or "MemoryError") in sentence


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes do not fit"),
        OSError(errno.EIO, "?"),
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
    ],
)
def test_other_failures_keep_their_traceback(error):
    assert _sentence(error) is None


def test_the_command_is_the_modules_own_which_other_processes_can_import(monkeypatch):
    called = []
    monkeypatch.setattr("dfwe.cli.main", lambda: called.append("main"))
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # that it is imported already
        runpy.run_module("dfwe.run", run_name="__main__")
    assert called == ["main"]


STAGES = {"all": ("interpolate", "evaluate"), "interpolate": ("interpolate",), "experts": ()}


@pytest.mark.parametrize(
    ("stage", "optimized", "folds", "why"),
    [
        ("experts", "dev/score", None, "which stage=experts does not compute; give stage=valid"),
        ("all", "dev/cross_fitted", None, "needs folds; set search.folds=5"),
        ("all", "dev/cross_fitted", 5, None),
        ("interpolate", "dev/delta", None, None),
    ],
)
def test_a_sweeper_is_refused_before_any_work_that_ends_without_its_score(
    stage, optimized, folds, why
):
    if why is None:
        check_optimized(Stage(stage, STAGES[stage]), optimized, folds)
        return
    with pytest.raises(UserError, match=why):
        check_optimized(Stage(stage, STAGES[stage]), optimized, folds)


def test_a_failed_job_tells_another_process_why_and_of_which_sweep():
    failed = pickle.loads(pickle.dumps(JobFailed("The disk is full.", "multirun/now")))
    assert (str(failed), failed.folder) == ("The disk is full.", "multirun/now")


def test_a_sweeper_over_a_report_is_refused():
    with pytest.raises(UserError, match="stage=report does not compute"):
        check_optimized(Stage("report", ("evaluate",), lambda: None), "dev/score", None)


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, SystemExit(1)], ids=["us", "Lightning"])
def test_an_interruption_says_how_to_resume(stopped, monkeypatch):
    """In a process of a sweep's launcher, which has Python's handler."""

    def interrupted(cfg, *, planning):
        raise stopped

    monkeypatch.setattr("dfwe.cli._run", interrupted)
    with pytest.raises(Stopped, match="Stopped by SIGINT; the same command resumes") as ended:
        job.__wrapped__(OmegaConf.create())
    assert ended.value.code == 130
    assert str(pickle.loads(pickle.dumps(ended.value))) == str(ended.value)  # to the sweep's own


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("nowhere.f", "No module named 'nowhere'"),
        ("os.nothing", "No module named 'os.nothing'"),
        ("a..b", "invalid dotstring"),
        ("", "Empty path"),
    ],
)
def test_a_path_to_nothing_is_a_sentence(target, why):
    with pytest.raises(InstantiationException) as caught:
        build("model", {"_target_": target}, object)
    sentence = _sentence(caught.value)
    assert sentence.startswith(f"'{target}' cannot be imported (")
    assert why in sentence
    assert sentence.endswith("; correct its _target_.")


def test_what_lacks_arguments_is_a_sentence():
    target = {"_target_": "dfwe.data.table.classification", "prompt": "x"}
    with pytest.raises(InstantiationException) as caught:
        build("task.read", target, object)
    sentence = _sentence(caught.value)
    assert sentence.startswith("The configuration cannot be built: classification() missing 4")


def test_what_should_be_called_is_checked_before_any_work():
    with pytest.raises(UserError, match=r"stage\.work=x should be a function: stage\.work\._tar"):
        Stage("region", (), "x")
    with pytest.raises(UserError, match="_target_=-1 should be the dotted path of a function"):
        build("stage", {"_target_": -1, "_partial_": True}, object)
