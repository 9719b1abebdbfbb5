"""What each key of a configuration may be, from the class or function that takes it.

A key that nothing takes is refused, never ignored.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from pydantic import BeforeValidator

from dfwe.errors import UserError
from dfwe.pipeline.deferred import Deferred
from dfwe.plain import is_list, is_mapping
from dfwe.settings import Count, Names, Whole, listed, parameters, settings, unknown_setting

ENTRY = re.compile(r"^ {4}\*{0,2}(\w+): (.*(?:\n {8}.*|\n(?= *\n {8}))*)", re.MULTILINE)


def _listed_or_null(value: object) -> list[str] | None:
    return None if value is None else listed(value)


def _named(value: object, key: str) -> object:
    if not is_mapping(value):
        raise UserError(
            f"{key}={value} is not a mapping of named {key}; experiment=controls sets them, "
            f"'~{key}.NAME' drops one."
        )
    return value


def _of_dev(value: object) -> object:
    if str(value).startswith("test"):
        raise UserError(
            f"optimized={value} would choose settings by the test split, which then estimates "
            "nothing; choose dev/score, dev/delta or dev/cross_fitted."
        )
    return value


@settings("")
class RunSettings:
    """The keys that belong to no group.

    Args:
        seed: of everything that is drawn in training.
        workers: processes that share a search's dev split on a CPU. They have one thread each,
            so about one per core; they share the test split too.
        resume: what a search does that another machine began. If its best trial scores otherwise
            here, `check` stops, `anyway` continues and notes both scores.
        checkpoints: folders, Hub ids or LoRA adapters to mix. stage=interpolate mixes them
            instead of experts trained here, the first is the baseline; stage=region surveys them.
        base: what the checkpoints were fine-tuned from. A folder or Hub id; merges of task
            vectors (controls=[ties]) and stage=region start there.
        score: {_target_: my.function} in place of a task's score. A search over checkpoints
            takes it; it gets a model and its tokenizer and returns a number, higher is better, or
            a dict with "score"; to be tested it takes split=.
        landscapes: dev scores between three experts, for stage=report to draw.
        optimized: what a sweeper maximises (hydra/sweeper=optuna). The dev score of DFWE, its gain
            over fine-tuning, or the cross-fitted one; stage=validate computes them.
        store: the folder of all results, which runs share; or DFWE_STORE.
        allow: modules of yours that configuration files may name. A `_target_` outside dfwe,
            torch.optim, Lightning and transformers is run only if its module is named here, in
            DFWE_ALLOW=a,b, or was typed.
        push: true, or a repository's name: upload the result to the Hub. The repository is
            private and gets the model card.
        export: a folder that the result is written to, with its card.
        overwrite: whether a model that is in that folder is replaced.
    """

    seed: Whole
    workers: Count
    resume: Literal["check", "anyway"]
    checkpoints: Names
    base: str | None
    score: Mapping[str, object] | None
    landscapes: Annotated[Mapping[str, object], BeforeValidator(partial(_named, key="landscapes"))]
    optimized: Annotated[
        Literal["dev/score", "dev/delta", "dev/cross_fitted"], BeforeValidator(_of_dev)
    ]
    store: str
    allow: Names
    push: bool | str
    export: str | None
    overwrite: bool


@settings("sources")
class Sources:
    """Which source tasks a target has.

    Args:
        list: the source tasks; null looks the target up in `of`.
        survey: results.json of a stage=region over your own checkpoints, whose recommended
            sources are taken.
        of: target -> its source tasks.
    """

    list: Annotated[Sequence[str] | None, BeforeValidator(_listed_or_null)]
    survey: str | None
    of: Mapping[str, Sequence[str]]

    def named(self, target: str) -> Sequence[str]:
        """The source tasks as listed, or those of the target's name."""
        return self.of.get(target, ()) if self.list is None else self.list


@dataclass(frozen=True)
class Key:
    """What may stand at a key.

    Args:
        annotation: its type, with its range; `object` where that is not known.
        text: what it means; blank where that is not written.
    """

    annotation: object = object
    text: str = ""


def keys_of(function: Callable[..., object]) -> dict[str, Key]:
    """The keywords of a function or class, with what its docstring says of them."""
    owners = [function, *getattr(function, "__mro__", ())]
    texts: dict[str, str] = {}
    for owner in reversed(owners):
        texts |= dict(ENTRY.findall(inspect.getdoc(owner) or ""))
    return {
        name: Key(kind, " ".join(texts.get(name, "").split()))
        for name, kind in parameters(function).items()
    }


def find(config: Mapping[object, object], key: str, groups: Sequence[str]) -> Key:
    """What may stand at a dotted key of a configuration.

    Args:
        config: the whole, as plain data.
        key: the dotted key.
        groups: what may stand at the top beside the keys of `RunSettings`.

    Raises:
        UserError: what is configured there takes no such key.
    """
    top = {**dict.fromkeys(groups, Key()), **keys_of(RunSettings)}
    node: object = config
    found, place = Key(), ""
    for part in key.split("."):
        known = top if node is config else _keys_in(node)
        place = f"{place}.{part}".lstrip(".")
        if known is not None and part not in known:
            near = [place.removesuffix(part) + name for name in known]
            raise unknown_setting(place, [*near, *dotted(config)])
        found = Key() if known is None else known[part]
        node = node.get(part) if is_mapping(node) else None
    return found


def check_keywords(key: str, node: object) -> None:
    """Refuses keys that dfwe's own classes do not take; a `_partial_` node's caller checks them.

    Args:
        key: what the configuration calls the node.
        node: plain data.

    Raises:
        UserError: there is no such key.
    """
    if is_list(node):
        for item in node:
            check_keywords(key, item)
    if not is_mapping(node):
        return
    known = None if node.get("_partial_") else _keys_in(node)
    for name, value in node.items():
        place = f"{key}.{name}".lstrip(".")
        if known is not None and name not in known:
            raise unknown_setting(place, [place.removesuffix(str(name)) + near for near in known])
        check_keywords(place, value)


def _keys_in(node: object) -> dict[str, Key] | None:
    """The keys that a node may have; None where any may, or another library decides."""
    target = node.get("_target_") if is_mapping(node) else None
    if not isinstance(target, str) or not target.startswith("dfwe."):
        return None
    return {"_target_": Key(), "_partial_": Key(), **keys_of(Deferred(target).resolve())}


def dotted(node: object, place: str = "") -> Iterator[str]:
    """Every dotted key inside a node that a person might mean."""
    for key, value in node.items() if is_mapping(node) else ():
        if not str(key).startswith("_"):
            yield f"{place}{key}"
            yield from dotted(value, f"{place}{key}.")
