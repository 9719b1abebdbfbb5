"""Mutants of a module: its functions, each with one change.

The changes are those of mutmut 3, but for statements of what always holds (`assert`, `strict=`)
and the text around the values of an f-string; and two more: a call whose value nobody takes is
left out, and a condition without an operator is negated.
"""

import ast
import copy
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

BOTH_WAYS = "Add Sub, Mult Div, BitAnd BitOr, Lt LtE, Gt GtE, Eq NotEq, And Or, Is IsNot, In NotIn"
ONE_WAY = "FloorDiv Div, Mod Div, Pow Mult"
METHODS = {"rfind": "find", "removeprefix": "removesuffix", "startswith": "endswith"}
SHOWN = 60  # characters of a change in a name
NOT_CODE = {"annotation", "returns", "decorator_list", "format_spec"}


def _operators() -> dict[type[ast.AST], type[ast.AST]]:
    """What stands for an operator in a mutant."""
    both = [pair.split() for pair in BOTH_WAYS.split(", ")]
    pairs = [*both, *(pair[::-1] for pair in both), *map(str.split, ONE_WAY.split(", "))]
    return {getattr(ast, one): getattr(ast, other) for one, other in pairs}


OPERATORS = _operators()


@dataclass(frozen=True)
class Mutant:
    """A function with one change.

    Args:
        name: "module:function#number before -> after", the change's number in the function.
        lines: of the file; whoever executes the change executes one of them.
        code: of the changed function.
        defaults: of its arguments, by position and by keyword.
    """

    name: str
    lines: range
    code: CodeType
    defaults: tuple[Any, Any]

    def apply(self) -> None:
        """Change the function in this process."""
        module, _, path = self.name.partition("#")[0].partition(":")
        part: object = importlib.import_module(module)
        for name in path.split("."):
            part = vars(part)[name]
        getattr(part, "cache_clear", bool)()
        for inner in ("fget", "func", "__func__", "__wrapped__"):  # of a property, a method, ...
            part = getattr(part, inner, part)
        assert isinstance(part, FunctionType)
        part.__code__ = self.code
        part.__defaults__, part.__kwdefaults__ = self.defaults


def mutants(path: Path, module: str) -> Iterator[Mutant]:
    """The mutants of all functions and methods of a module in a file, in the file's order."""
    tree, namespace = ast.parse(path.read_text()), vars(importlib.import_module(module))
    for name, function in _functions(tree, ""):
        whole = range(function.lineno, (function.end_lineno or 0) + 1)
        number = 0
        for parent, key, place, lines in _places(function, whole):
            node = _get(parent, key, place)
            for new in changes(node):
                number += 1
                _set(parent, key, place, ast.copy_location(new, node))
                code = _code(compile(ast.fix_missing_locations(tree), path, "exec"), name)
                defaults = _defaults(function.args, namespace)
                change = f"{module}:{name}#{number} {_shown(node, new)}"
                yield Mutant(change, lines, code, defaults)
                _set(parent, key, place, node)


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in a node's place."""

    def like(**fields: Any) -> ast.AST:
        other = copy.copy(node)
        vars(other).update(fields)
        return other

    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=str(value)):
            yield ast.Constant(f"XX{value}XX")
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op) if type(op) in OPERATORS:
            yield like(op=OPERATORS[type(op)]())
            if isinstance(node, ast.AugAssign):
                yield ast.Assign([node.target], node.value)
        case ast.Compare(ops=ops):
            for i, op in enumerate(ops):
                yield like(ops=[*ops[:i], OPERATORS[type(op)](), *ops[i + 1 :]])
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert(), operand=operand):
            yield operand
        case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
            yield like(value=ast.Constant("" if _is_none(value) else None))
        case ast.Lambda():
            yield like(body=ast.Constant(None))
        case ast.Break():
            yield ast.Return(None)
        case ast.Continue():
            yield ast.Break()
        case ast.Expr(value=ast.Call() | ast.YieldFrom()):
            yield ast.Pass()
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp):
                yield like(test=ast.UnaryOp(ast.Not(), test))
        case ast.Attribute(attr=attr) if attr in METHODS:
            yield like(attr=METHODS[attr])
        case ast.Call():
            yield from _calls(node)
        case _:
            pass


def _calls(call: ast.Call) -> Iterator[ast.Call]:
    """The call with each of its arguments None, or left out if it has another."""
    if isinstance(call.func, ast.Name) and call.func.id in ("len", "isinstance"):
        return
    several = len(call.args) + len(call.keywords) > 1
    for i, argument in enumerate(call.args):
        before, after = call.args[:i], call.args[i + 1 :]
        if not isinstance(argument, ast.Starred) and not _is_none(argument):
            yield ast.Call(call.func, [*before, ast.Constant(None), *after], call.keywords)
        if several:
            yield ast.Call(call.func, [*before, *after], call.keywords)
    for i, word in enumerate(call.keywords):
        before, after = call.keywords[:i], call.keywords[i + 1 :]
        if word.arg not in (None, "strict") and not _is_none(word.value):
            none = ast.keyword(word.arg, ast.Constant(None))
            yield ast.Call(call.func, call.args, [*before, none, *after])
        if several and word.arg != "strict":
            yield ast.Call(call.func, call.args, [*before, *after])


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _functions(part: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions of a module and the methods of its classes, by dotted path."""
    for child in ast.iter_child_nodes(part):
        if isinstance(child, ast.FunctionDef):
            yield prefix + child.name, child
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")


def _places(parent: ast.AST, lines: range) -> Iterator[tuple[ast.AST, str, int | None, range]]:
    """Where the nodes inside one stand, with the lines of their statements."""
    for key, value in ast.iter_fields(parent):
        several = value.__class__ is list
        nodes: list[Any] = value if several else [value]
        for i, node in enumerate(nodes):
            if key in NOT_CODE or not isinstance(node, ast.AST) or _says_what_holds(parent, node):
                continue
            inner = _header(node) if isinstance(node, ast.stmt) else lines
            yield parent, key, i if several else None, inner
            yield from _places(node, inner)


def _says_what_holds(parent: ast.AST, node: ast.AST) -> bool:
    """Whether a node is text for people, or what always holds."""
    text = isinstance(node, ast.Constant) and isinstance(parent, ast.Expr | ast.JoinedStr)
    return text or isinstance(node, ast.Assert) or getattr(node, "arg", "") == "strict"


def _header(statement: ast.stmt) -> range:
    """The lines of a statement without those of the statements in it."""
    body: list[ast.stmt] = getattr(statement, "body", [])
    end = body[0].lineno if body else (statement.end_lineno or statement.lineno) + 1
    return range(statement.lineno, end)


def _get(parent: ast.AST, key: str, place: int | None) -> ast.AST:
    value = getattr(parent, key)
    return value if place is None else value[place]


def _set(parent: ast.AST, key: str, place: int | None, node: ast.AST) -> None:
    if place is None:
        setattr(parent, key, node)
    else:
        getattr(parent, key)[place] = node


def _code(code: CodeType, name: str) -> CodeType:
    """A function's code in that of its module."""
    for part in name.split("."):
        inner = [value for value in code.co_consts if isinstance(value, CodeType)]
        code = next(value for value in inner if value.co_name == part)
    return code


def _defaults(arguments: ast.arguments, namespace: dict[str, Any]) -> tuple[Any, Any]:
    """The values of a function's defaults, by position and by keyword."""

    def value(node: ast.expr) -> Any:
        expression = ast.fix_missing_locations(ast.Expression(node))
        return eval(compile(expression, "default", "eval"), namespace)

    words = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    by_keyword = {word.arg: value(node) for word, node in words if node is not None}
    return tuple(map(value, arguments.defaults)), by_keyword


def _shown(node: ast.AST, new: ast.AST) -> str:
    """Both, around where they begin to differ."""
    one, other = ast.unparse(node), ast.unparse(new)
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    start = max(0, len(list(same)) - SHOWN // 2)
    return " -> ".join(text[start : start + SHOWN].partition("\n")[0] for text in (one, other))
