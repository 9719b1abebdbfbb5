"""What a configuration names by dotted path: called later, described for recipes, picklable.

`describe` says what decides a result in a part that somebody chose (a metric, a strategy, a
merge): dfwe's parts by public name and version, an installed library's by its distribution's
version, a person's by the syntax trees of its module and of what that imports from the same
folder, so that an edited line is a new part and an edited comment is not.
"""

import ast
import functools
import hashlib
import importlib
import inspect
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import TypeGuard

from dfwe.errors import UserError
from dfwe.pipeline.recipe import canonical
from dfwe.plain import Plain, is_list, is_mapping
from dfwe.settings import check_arguments


@dataclass(frozen=True)
class Deferred:
    """A callable by its dotted path and the keywords that a configuration gives it.

    Args:
        target: `package.module.name`.
        arguments: keywords; those of the call come on top.
    """

    target: str
    arguments: Mapping[str, object] = field(default_factory=dict[str, object])

    def __call__(self, *positional: object, **keywords: object) -> object:
        """What the function returns.

        Raises:
            UserError: it takes other arguments.
        """
        function, arguments = self.resolve(), {**self.arguments, **keywords}
        try:
            inspect.signature(function).bind(*positional, **arguments)
        except TypeError as error:
            raise UserError(
                f"{self.target} cannot be called as it is configured: {error}; correct its keys."
            ) from None
        except ValueError:  # a builtin without a signature
            pass
        return function(*positional, **arguments)

    def resolve(self) -> Callable[..., object]:
        """What the path names, imported.

        Raises:
            UserError: there is no such module or name in it.
        """
        return _resolved(self.target)


@functools.cache
def _resolved(target: str) -> Callable[..., object]:
    module, _, name = target.rpartition(".")
    try:
        value = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"'{target}' cannot be imported ({error}); check the path.") from None
    if not callable(value):
        raise UserError(f"'{target}' cannot be called; name a function or a class.")
    return value


def parts(part: Callable[..., object]) -> tuple[Callable[..., object], dict[str, object]]:
    """A function or class, and the keywords that are bound to it."""
    if isinstance(part, Deferred):
        return part.resolve(), dict(part.arguments)
    if isinstance(part, functools.partial):
        return part.func, dict(part.keywords)
    return part, {}


def _is_part(value: object) -> TypeGuard[Callable[..., object]]:
    return isinstance(value, Deferred | functools.partial)


def check_part(key: str, part: Callable[..., object]) -> None:
    """Check the keywords of a part, and of the parts among them, by the functions' signatures.

    Args:
        key: what the configuration calls it, for messages.
        part: as in `describe`.

    Raises:
        UserError: a path cannot be imported; a keyword is unknown, of another type or out of its
            range.
    """
    function, keywords = parts(part)
    check_arguments(key, function, keywords)
    for name, value in keywords.items():
        if _is_part(value):
            check_part(f"{key}.{name}", value)


def describe(part: object) -> dict[str, Plain]:
    """A chosen part as plain data for a recipe: name, version or source, arguments.

    Args:
        part: a function, a class, `Deferred`, `functools.partial`, or a dataclass instance.

    Raises:
        UserError: it is a person's and has no source file, or an object of a class that is no
            dataclass.
    """
    if is_dataclass(part) and not isinstance(part, type | Deferred):
        values = {item.name: getattr(part, item.name) for item in fields(part)}
        return {**_identity(type(part)), "arguments": _plain(values)}
    if not callable(part):
        raise _undescribed(part)
    function, keywords = parts(part)
    return {**_identity(function), "arguments": _plain(_bound(function, keywords))}


def _bound(function: Callable[..., object], keywords: Mapping[str, object]) -> dict[str, object]:
    """The keywords with the signature's defaults: a default that is spelled out is the same."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin
        return dict(keywords)
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return {**defaults, **keywords}


def _plain(values: Mapping[str, object]) -> dict[str, Plain]:
    """Arguments as recipes hold them."""
    return {name: _ordered(value) for name, value in values.items()}


def _ordered(value: object) -> Plain:
    """Mappings as pairs: the order of their keys counts, and that of a recipe's does not."""
    if is_mapping(value):
        return [[str(key), _ordered(item)] for key, item in value.items()]
    if is_list(value):
        return [_ordered(item) for item in value]
    if callable(value) or is_dataclass(value):
        return describe(value)
    return canonical(value)


def _undescribed(part: object) -> UserError:
    return UserError(
        f"{type(part).__qualname__} is no dataclass, so nothing says what decides its "
        "result; write @dataclass(frozen=True) above the class and its settings as fields."
    )


def _identity(function: Callable[..., object]) -> dict[str, Plain]:
    if not hasattr(function, "__qualname__"):
        raise _undescribed(function)
    name, module = function.__qualname__, function.__module__
    root = module.partition(".")[0]
    if root == "dfwe":
        return {"name": name, "version": getattr(function, "version", 1)}
    place = _source_of(module)
    known = _version_of(root) if place is None or _installed(place) else None
    if known is not None:
        return {"name": f"{module}.{name}", "version": known}
    if place is None:
        raise UserError(
            f"{module}.{name} has no source file, so nothing says what decides its result; put "
            "it into a module."
        )
    return {"name": f"{module}.{name}", "source": source_digests(place)}


def _source_of(module: str) -> Path | None:
    loaded = importlib.import_module(module) if module != "__main__" else _main()
    file = getattr(loaded, "__file__", None)
    return Path(file) if file is not None and file.endswith(".py") else None


def _main() -> ModuleType:
    return importlib.import_module("__main__")


def _installed(place: Path) -> bool:
    """Whether a module lies where packages are installed, or belongs to Python."""
    roots = [*site.getsitepackages(), site.getusersitepackages(), sysconfig.get_path("stdlib")]
    return any(place.resolve().is_relative_to(Path(root).resolve()) for root in roots)


def _version_of(package: str) -> str | None:
    """The version of the distribution that installed a package; None where there is none."""
    if package in sys.stdlib_module_names:
        return "standard library"
    names = packages_distributions().get(package)
    return version(names[0]) if names else None


def source_digests(place: Path) -> dict[str, str]:
    """File -> sha256 of its syntax tree, for a module and those of its folder that it imports."""
    digests: dict[str, str] = {}
    pending = [place]
    while pending:
        file = pending.pop()
        name = file.relative_to(place.parent).as_posix()
        if name in digests:
            continue
        digests[name], imported = _read_source(file, file.stat().st_mtime_ns)
        pending += [
            neighbour
            for module in imported
            for neighbour in _files_of(place.parent, module)
            if neighbour.is_file()
        ]
    return dict(sorted(digests.items()))


@functools.lru_cache
def _read_source(file: Path, modified: int) -> tuple[str, tuple[str, ...]]:
    """A file's digest and the modules that it imports; `modified` renews the cache."""
    tree = ast.parse(file.read_text())
    imported = tuple(_imports(tree))
    text = ast.dump(_without_docstrings(tree))
    return hashlib.sha256(text.encode()).hexdigest(), imported


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            yield base
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)


def _files_of(folder: Path, module: str) -> Iterator[Path]:
    """Where a module of that name would lie in the folder, which may be its package."""
    parts = module.split(".")
    for inner in (parts, parts[1:] if parts[0] == folder.name else []):
        if inner and inner[0]:
            yield folder.joinpath(*inner).with_suffix(".py")
            yield folder.joinpath(*inner, "__init__.py")


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if not isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree
