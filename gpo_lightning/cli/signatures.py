"""The parameters of a class as its source has them."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from gpo_lightning.cli.kinds import Kind, kind
from gpo_lightning.cli.sources import Found, Missing, Module, find, look_up

_WITHOUT_PARAMETERS = {"object", "ABC", "Protocol", "Generic"}


@dataclass(frozen=True)
class Signature:
    """What a class or function is called with.

    Args:
        parameters: by name.
        more: whether it takes keywords that the source does not name.
    """

    parameters: Mapping[str, Kind]
    more: bool = False


NOTHING = Signature(MappingProxyType({}))


@cache
def signature(path: str) -> Signature | None:
    """The signature at a dotted path, of a class, function or ``Class.method``; ``None`` where source cannot tell."""
    found = find(path)
    if isinstance(found, Found):
        return _of(found)
    owner, _, method = path.rpartition(".")
    home = find(owner) if "." in owner else None
    return _method(home, method) if isinstance(home, Found) and isinstance(home.node, ast.ClassDef) else None


@cache
def is_a(path: str, base: str) -> bool | None:
    """Whether one class is another or derives from it; ``None`` where source cannot tell."""
    found = find(path)
    if not isinstance(found, Found) or not isinstance(found.node, ast.ClassDef):
        return None
    if found.path == base:
        return True
    answers: list[bool | None] = [
        is_a(each.path, base) if isinstance(each, Found) else (False if known else None)
        for each, known in _bases(found)
    ]
    return True if True in answers else None if None in answers else False


def bases(found: Found) -> list[Found]:
    """The classes that a class derives from, as far as source tells."""
    return [base for base, _ in _bases(found) if isinstance(base, Found) and isinstance(base.node, ast.ClassDef)]


def is_protocol(path: str) -> bool:
    """Whether a class asks for methods, not for descent."""
    found = find(path)
    node = found.node if isinstance(found, Found) else None
    return not isinstance(node, ast.ClassDef) or any("Protocol" in ast.unparse(base) for base in node.bases)


def _of(found: Found) -> Signature | None:
    node = found.node
    if isinstance(node, ast.FunctionDef):
        return _called(node, found.module, drop=0)
    if not isinstance(node, ast.ClassDef):
        return None
    made = _method(found, "__init__")
    if made is not None:
        return made
    if any("dataclass" in ast.unparse(each) for each in node.decorator_list):
        return _fields(found)
    if node.decorator_list:
        return None
    known = [_of(base) if isinstance(base, Found) else NOTHING if plain else None for base, plain in _bases(found)]
    with_parameters = [each for each in known if each != NOTHING]
    return with_parameters[0] if with_parameters else NOTHING


def _method(found: Found, name: str) -> Signature | None:
    """Of a method of the class's own, or, but for ``__init__``, of its first base that has it."""
    node = found.node
    body = node.body if isinstance(node, ast.ClassDef) else []
    for each in reversed(body):
        if isinstance(each, ast.FunctionDef) and each.name == name:
            return _called(each, found.module, drop=1)
    if name == "__init__":
        return None
    inherited = [_method(base, name) for base, _ in _bases(found) if isinstance(base, Found)]
    return next((each for each in inherited if each is not None), None)


def _called(node: ast.FunctionDef, module: Module, drop: int) -> Signature:
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args][drop:] + arguments.kwonlyargs
    return Signature(
        {each.arg: kind(each.annotation, module) for each in named},
        more=arguments.kwarg is not None or arguments.vararg is not None,
    )


def _fields(found: Found) -> Signature | None:
    """Of a dataclass: the fields of its bases, then its own."""
    parameters: dict[str, Kind] = {}
    for base, plain in _bases(found):
        above = _of(base) if isinstance(base, Found) else NOTHING if plain else None
        if above is None:
            return None
        parameters |= above.parameters
    body = found.node.body if isinstance(found.node, ast.ClassDef) else []
    for each in body:
        match each:
            case ast.AnnAssign(target=ast.Name(id=name)):
                if "ClassVar" in ast.unparse(each.annotation) or _is_no_argument(each.value):
                    parameters.pop(name, None)
                else:
                    parameters[name] = kind(each.annotation, found.module)
            case _:
                pass
    return Signature(parameters)


def _bases(found: Found) -> list[tuple[Found | Missing | None, bool]]:
    """Each base class, and whether it is one that adds no parameters."""
    node = found.node
    bases = node.bases if isinstance(node, ast.ClassDef) else []
    names = [ast.unparse(base.value if isinstance(base, ast.Subscript) else base) for base in bases]
    return [
        (None, True) if name.rpartition(".")[2] in _WITHOUT_PARAMETERS else (_base(name, found.module), False)
        for name in names
    ]


def _base(name: str, module: Module) -> Found | Missing | None:
    return look_up(name, module) if "." not in name else None


def _is_no_argument(value: ast.expr | None) -> bool:
    """``field(init=False)``."""
    return isinstance(value, ast.Call) and any(
        word.arg == "init" and isinstance(word.value, ast.Constant) and word.value.value is False
        for word in value.keywords
    )
