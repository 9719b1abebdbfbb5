"""The Trainer's arguments and Lightning's callbacks: which pass, and which are set elsewhere.

No result may depend on what its recipe does not have. An argument that changes no result passes;
one that shortens a training passes too, but its results go to a store of their own
(`Context.store`); the others are refused with the key to use instead. So it is with callbacks:
those that only observe pass, the others belong to `training.callbacks`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from dfwe.errors import UserError, did_you_mean, reason
from dfwe.pipeline.deferred import Deferred
from dfwe.plain import is_list

if TYPE_CHECKING:
    import lightning as L

ONE_DEVICE = (
    "a model is trained on one device; start the same command once for each device "
    "(CUDA_VISIBLE_DEVICES=0, 1, ...), and they share the work through the store"
)

NEUTRAL = (  # change no weight and no score
    "accelerator",  # its kind of device is in the recipes of trainings
    "benchmark",
    "detect_anomaly",
    "deterministic",
    "devices",
    "enable_autolog_hparams",
    "enable_model_summary",
    "enable_progress_bar",
    "inference_mode",
    "log_every_n_steps",
    "num_sanity_val_steps",
    "profiler",
)

SHORTENING: dict[str, tuple[object, ...]] = {  # argument -> the values that shorten nothing
    "fast_dev_run": (False, 0),
    "limit_predict_batches": (None,),
    "limit_test_batches": (None,),
    "limit_train_batches": (None,),
    "limit_val_batches": (None,),
    "max_steps": (-1,),
    "max_time": (None,),
    "overfit_batches": (0,),
}

ELSEWHERE = {  # argument -> how to set what it sets
    "accumulate_grad_batches": "set training.effective_batch, the examples of an optimizer step",
    "barebones": "set logger=none trainer.enable_progress_bar=false",
    "callbacks": "set callbacks= for what observes, training.callbacks= for what changes weights",
    "check_val_every_n_epoch": "every epoch ends with a dev score; set training.epochs",
    "default_root_dir": "set store= for results, hydra.run.dir= for the run's folder",
    "enable_checkpointing": "the best epoch and the last are always kept, to resume from",
    "gradient_clip_algorithm": "set training.clip, the largest norm of a step's gradient",
    "gradient_clip_val": "set training.clip, the largest norm of a step's gradient",
    "logger": "set logger=, as in logger=csv",
    "max_epochs": "set training.epochs",
    "min_epochs": "set training.steps_at_least",
    "min_steps": "set training.steps_at_least",
    "model_registry": "set push=true, which takes the final model to the Hub",
    "num_nodes": ONE_DEVICE,
    "plugins": "set training.precision; for several devices, start the command once for each",
    "precision": "set training.precision",
    "reload_dataloaders_every_n_epochs": "every epoch's order is drawn anew; set seed=",
    "strategy": ONE_DEVICE,
    "sync_batchnorm": ONE_DEVICE,
    "use_distributed_sampler": ONE_DEVICE,
    "val_check_interval": "every epoch ends with a dev score; set training.epochs",
}

OBSERVERS = (  # Lightning's callbacks that change no weight and no score
    "DeviceStatsMonitor",
    "LearningRateMonitor",
    "ModelSummary",
    "RichModelSummary",
    "RichProgressBar",
    "ThroughputMonitor",
    "Timer",  # without a duration
    "TQDMProgressBar",
)

PROFILERS = {
    "simple": "SimpleProfiler",
    "advanced": "AdvancedProfiler",
    "pytorch": "PyTorchProfiler",
}


def check_trainer(arguments: Mapping[str, object]) -> None:
    """Check which of the Trainer's arguments are given.

    Raises:
        UserError: one is unknown, belongs elsewhere, or asks for several devices.
    """
    known = (*NEUTRAL, *SHORTENING, *ELSEWHERE)
    for key, value in arguments.items():
        if key not in known:
            near = did_you_mean(f"trainer.{key}", [f"trainer.{name}" for name in known])
            words = f"trainer.{key} is no argument of Lightning's Trainer"
            raise UserError(f"{words};{near}" if near else f"{words}.")
        if key in ELSEWHERE and value is not None:
            raise UserError(f"trainer.{key} is not set here: {ELSEWHERE[key]}.")
    devices = arguments.get("devices")
    if _number(devices) > 1:
        raise UserError(f"trainer.devices={devices}: {ONE_DEVICE}.")


def _number(devices: object) -> int:
    """How many devices are asked for; 1 where only the machine can tell."""
    if is_list(devices):
        return len(devices)
    return int(devices) if isinstance(devices, int | str) and str(devices).isdigit() else 1


def shortening(arguments: Mapping[object, object] | Mapping[str, object]) -> dict[str, object]:
    """Those of the Trainer's arguments that shorten trainings."""
    return {
        key: value
        for key, value in arguments.items()
        if isinstance(key, str)
        and key in SHORTENING
        and value not in SHORTENING[key]
        and not _whole(value)
    }


def _whole(limit: object) -> bool:
    """Whether it is all batches: 1.0, where 1 is one of them."""
    return isinstance(limit, float) and limit == 1.0


def check_observers(callbacks: Sequence[Deferred]) -> None:
    """Check that callbacks only observe.

    Raises:
        UserError: one may change what is trained, or when training ends.
    """
    for callback in callbacks:
        package, _, name = callback.target.rpartition(".")
        if name == "EarlyStopping":
            raise UserError("callbacks= takes no EarlyStopping: set training.patience.")
        if name == "ModelCheckpoint":
            raise UserError(
                "callbacks= takes no ModelCheckpoint: the best epoch and the last are always "
                "kept, and the store has each result's weights."
            )
        if not package.startswith("lightning.pytorch.callbacks") or name not in OBSERVERS:
            raise UserError(
                f"callbacks= takes what only observes ({', '.join(OBSERVERS)}), and not "
                f"{callback.target}; name it in training.callbacks=, which recipes have."
            )
        if name == "Timer" and callback.arguments.get("duration") is not None:
            raise UserError("A Timer with a duration ends trainings: set trainer.max_time.")


def build_callbacks(key: str, parts: Sequence[Callable[..., object]]) -> "list[L.Callback]":
    """Lightning's callbacks, each made anew.

    Args:
        key: what the configuration calls them, for messages.
        parts: what makes them.

    Raises:
        UserError: one cannot be made, or is none of Lightning's.
    """
    import lightning as L
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    callbacks: list[L.Callback] = []
    for part in parts:
        try:
            callback = part()
        except (ImportError, MisconfigurationException, TypeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{key}: {reason(error)}.") from None
        if not isinstance(callback, L.Callback):
            raise UserError(f"{key} makes a {type(callback).__name__}, no Callback of Lightning.")
        callbacks.append(callback)
    return callbacks
