"""Each argument of Lightning's Trainer is sorted: it passes, shortens, or is set elsewhere."""

import inspect

import lightning as L
import pytest

from dfwe.errors import UserError
from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.trainer import (
    ELSEWHERE,
    NEUTRAL,
    OBSERVERS,
    SHORTENING,
    check_observers,
    check_trainer,
    shortening,
)

PARAMETERS = inspect.signature(L.Trainer).parameters


def test_each_argument_of_lightnings_trainer_is_of_one_sort():
    """One that a later Lightning adds fails here until somebody has sorted it."""
    assert sorted([*NEUTRAL, *SHORTENING, *ELSEWHERE]) == sorted(PARAMETERS)


def test_what_shortens_nothing_is_lightnings_default():
    assert shortening({key: PARAMETERS[key].default for key in SHORTENING}) == {}


def test_one_batch_shortens_and_all_of_them_do_not():
    given = {"limit_train_batches": 1.0, "limit_val_batches": 1, "max_time": "00:01:00:00"}
    assert shortening({"accelerator": "cpu", **given}) == {
        "limit_val_batches": 1,
        "max_time": "00:01:00:00",
    }


@pytest.mark.parametrize("key", ELSEWHERE)
def test_an_argument_that_is_set_elsewhere_is_refused_with_the_key_to_use(key):
    with pytest.raises(UserError) as refused:
        check_trainer({"accelerator": "cpu", key: 2})
    assert str(refused.value) == f"trainer.{key} is not set here: {ELSEWHERE[key]}."
    check_trainer({key: None})


@pytest.mark.parametrize(
    ("key", "end"),
    [("fast_dev_runs", "; did you mean trainer.fast_dev_run?"), ("colour", "'s Trainer.")],
)
def test_an_unknown_argument_is_refused_with_the_nearest(key, end):
    with pytest.raises(UserError) as refused:
        check_trainer({key: 1})
    assert str(refused.value).startswith(f"trainer.{key} is no argument of Lightning's Trainer")
    assert str(refused.value).endswith(end)


@pytest.mark.parametrize("devices", [2, [0, 1], "2"])
def test_several_devices_are_refused_with_the_way_out(devices):
    with pytest.raises(UserError, match="start the same command once for each device"):
        check_trainer({"devices": devices})
    for one in (1, [3], "auto", "1", -1):
        check_trainer({"devices": one})


CALLBACKS = "lightning.pytorch.callbacks"


def test_callbacks_that_observe_are_lightnings_own():
    for name in OBSERVERS:
        callback = Deferred(f"{CALLBACKS}.{name}")
        assert issubclass(callback.resolve(), L.Callback)
        check_observers([callback])


@pytest.mark.parametrize(
    ("target", "way"),
    [
        (f"{CALLBACKS}.EarlyStopping", r"set training\.patience\.$"),
        (f"{CALLBACKS}.early_stopping.EarlyStopping", r"set training\.patience\.$"),
        (f"{CALLBACKS}.ModelCheckpoint", "the best epoch and the last are always kept"),
        (f"{CALLBACKS}.StochasticWeightAveraging", r"name it in training\.callbacks="),
        ("mine.Timer", r"name it in training\.callbacks="),
    ],
)
def test_a_callback_that_may_change_a_result_is_refused_with_the_way_out(target, way):
    with pytest.raises(UserError, match=way):
        check_observers([Deferred(target)])


def test_a_timer_that_ends_trainings_is_no_observer():
    with pytest.raises(UserError, match=r"set trainer\.max_time"):
        check_observers([Deferred(f"{CALLBACKS}.Timer", {"duration": "00:01:00:00"})])
