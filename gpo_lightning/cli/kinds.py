"""What a key of the configuration takes, from the annotation of the parameter it belongs to.

What cannot be told from source is :class:`Anything`, so that nothing is refused that the parser would take.
"""

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from gpo_lightning.cli.sources import Found, Module, look_up, qualified

_SCALARS = {"int": "int", "float": "float", "bool": "bool", "str": "str", "Path": "path"}
_LISTS = {"list", "List", "Sequence", "tuple", "Tuple", "set", "frozenset", "Iterable"}
_MAPPINGS = {"dict", "Dict", "Mapping"}
_READ = ("gpo_lightning", "lightning", "peft", "transformers")
"""Packages whose annotations are followed; others are large, and their classes are named by the user anyway."""


@dataclass(frozen=True)
class Anything:
    """Unknown, or not worth telling apart."""


@dataclass(frozen=True)
class Scalar:
    """``int``, ``float``, ``bool``, ``str`` or ``path``."""

    name: str


@dataclass(frozen=True)
class OneOf:
    """A literal value."""

    values: tuple[object, ...]


@dataclass(frozen=True)
class ListOf:
    """A list."""

    item: "Kind"


@dataclass(frozen=True)
class MappingOf:
    """A mapping with keys of the user's own."""

    value: "Kind"


@dataclass(frozen=True)
class Object:
    """An object of a class or of one of its subclasses; or, where ``path`` is empty, of a class called later on."""

    path: str


@dataclass(frozen=True)
class Union:
    """One of several."""

    kinds: tuple["Kind", ...]


Kind = Anything | Scalar | OneOf | ListOf | MappingOf | Object | Union

ANYTHING = Anything()
NULL = OneOf((None,))


def kind(annotation: ast.expr | None, module: Module) -> Kind:
    """What an annotation of a module lets through."""
    match annotation:
        case ast.Constant(value=None):
            return NULL
        case ast.Constant(value=str(text)):
            try:
                return kind(ast.parse(text, mode="eval").body, module)
            except SyntaxError:
                return ANYTHING
        case ast.BinOp(op=ast.BitOr()):
            return union([kind(annotation.left, module), kind(annotation.right, module)])
        case ast.Name() | ast.Attribute():
            return _named(ast.unparse(annotation), module)
        case ast.Subscript():
            return _subscript(annotation, module)
        case _:
            return ANYTHING


def union(kinds: Iterable[Kind]) -> Kind:
    """One of several kinds; those that are unions themselves are taken apart."""
    flat = [each for one in kinds for each in (one.kinds if isinstance(one, Union) else (one,))]
    if any(isinstance(each, Anything) for each in flat):
        return ANYTHING
    return flat[0] if len(flat) == 1 else Union(tuple(dict.fromkeys(flat)))


def said(of: Kind) -> str:
    """A kind in words, for a message."""
    match of:
        case Scalar("path"):
            return "a path"
        case Scalar():
            return of.name
        case OneOf():
            return " or ".join("null" if value is None else repr(value) for value in of.values)
        case ListOf():
            return f"a list of {said(of.item)}" if not isinstance(of.item, Anything) else "a list"
        case MappingOf():
            return "a mapping"
        case Object(path):
            return path.rpartition(".")[2] or "a class path"
        case Union():
            return " or ".join(map(said, of.kinds))
        case Anything():
            return "anything"


def _named(name: str, module: Module) -> Kind:
    last = name.rpartition(".")[2]
    if last in _SCALARS:
        return Scalar(_SCALARS[last])
    if last in _LISTS:
        return ListOf(ANYTHING)
    if last in _MAPPINGS:
        return MappingOf(ANYTHING)
    if last in ("Any", "object"):
        return ANYTHING
    if not qualified(name, module).startswith(tuple(f"{package}." for package in _READ)):
        return ANYTHING
    found = look_up(name, module) if "." not in name else None
    if not isinstance(found, Found):
        return ANYTHING
    node = found.node
    if isinstance(node, ast.ClassDef):
        return ANYTHING if _is_enum(node) else Object(found.path)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return kind(node.value, found.module)
    return ANYTHING


def _subscript(node: ast.Subscript, module: Module) -> Kind:
    name = ast.unparse(node.value).rpartition(".")[2]
    inside = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Optional":
        return union([kind(inside[0], module), NULL])
    if name == "Union":
        return union([kind(each, module) for each in inside])
    if name == "Literal":
        return OneOf(tuple(each.value for each in inside if isinstance(each, ast.Constant)))
    if name in _LISTS:
        return ListOf(union([kind(each, module) for each in inside if not _is_ellipsis(each)]))
    if name in _MAPPINGS:
        return MappingOf(kind(inside[-1], module))
    return Object("") if name == "Callable" else ANYTHING


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _is_enum(node: ast.ClassDef) -> bool:
    return any("Enum" in ast.unparse(base) for base in node.bases)
