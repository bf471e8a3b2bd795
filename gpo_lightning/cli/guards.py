"""What a class refuses to be made with, told from its source: the seconds that its imports take are not spent.

A class says which values it takes in its own ``__init__`` or ``__post_init__``, and only there. Those lines are gone
through here: what they need is looked up in source as well, and what source cannot tell is passed over. So nothing is
refused here that the class would take.
"""

import ast
import builtins
import math
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from gpo_lightning.cli.signatures import bases
from gpo_lightning.cli.sources import Found, Module, find, look_up, qualified

_READ = ("gpo_lightning.", "torch.optim.", "peft.")
_PLAIN = (
    "abs all any bool dict enumerate float getattr int isinstance len list max min repr round set sorted str sum tuple "
    "type zip True False None"
)
_BUILTINS = {name: getattr(builtins, name) for name in _PLAIN.split() if hasattr(builtins, name)}
_LIBRARY: dict[str, Any] = {
    f"{module.__name__}.{name}": value for module in (math, string) for name, value in vars(module).items()
} | {
    "typing.Any": object,
    "typing.cast": lambda _, value: value,
}
_REFUSALS = ("ConfigError", "ValueError")
_DEEPEST = 12


UNKNOWN: Any = object()
"""In the place of a value that source does not tell."""


class UnknownError(Exception):
    """Source does not tell."""


class RefusedError(Exception):
    """The class would raise an error with this text."""

    def __init__(self, said: str, by: str) -> None:
        super().__init__(said)
        self.by = by


class Instance:
    """An object as far as source tells: attributes that were set, properties and methods that can be gone through."""

    def __init__(self, found: Found, depth: int) -> None:
        self._found, self._depth = found, depth
        self.source_values: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name in self.source_values:
            return _known(self.source_values[name])
        for owner in _line(self._found):
            for node in _body(owner):
                match node:
                    case ast.FunctionDef(name=found) if found == name:
                        bound = _Function(node, owner, self._depth + 1, self)
                        return bound() if any(ast.unparse(d) == "property" for d in node.decorator_list) else bound
                    case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                        return _Scope(owner, {}, self._depth).value(value)
                    case ast.AnnAssign(target=ast.Name(id=found), value=ast.expr() as value) if found == name:
                        return _Scope(owner, {}, self._depth).value(value)
                    case _:
                        pass
        raise UnknownError(name)


def make(path: str, given: Mapping[str, Any], depth: int = 0) -> Instance:
    """The object that a class makes of arguments.

    Raises:
        RefusedError: it makes none.
        UnknownError: source does not tell.
    """
    found = find(path)
    if not isinstance(found, Found) or not isinstance(found.node, ast.ClassDef):
        raise UnknownError(path)
    return _made(found, given, depth)


def default_class(path: str, name: str) -> str:
    """Class of the object that a parameter has where nothing was said; empty where source does not tell."""
    found = find(path)
    for owner in _line(found) if isinstance(found, Found) else ():
        default = _default(owner, name)
        if isinstance(default, ast.Call) and ast.unparse(default.func) == "field":
            default = next((word.value for word in default.keywords if word.arg == "default_factory"), None)
        what = default.func if isinstance(default, ast.Call) else default
        made = look_up(what.id, owner.module) if isinstance(what, ast.Name) else None
        if isinstance(made, Found) and isinstance(made.node, ast.ClassDef):
            return made.path
    return ""


def _default(owner: Found, name: str) -> ast.expr | None:
    """What stands behind a parameter or field of a class."""
    for node in _body(owner):
        match node:
            case ast.AnnAssign(target=ast.Name(id=found), value=ast.expr() as value) if found == name:
                return value
            case ast.FunctionDef(name="__init__", args=arguments):
                names = [each.arg for each in arguments.args]
                pairs = dict(zip(reversed(names), reversed(arguments.defaults), strict=False))
                if name in pairs:
                    return pairs[name]
            case _:
                pass
    return None


def _made(found: Found, given: Mapping[str, Any], depth: int) -> Instance:
    if not found.path.startswith(_READ) or depth > _DEEPEST:
        raise UnknownError(found.path)
    name = cast(ast.ClassDef, found.node).name
    made = type(name, (Instance,), {})(found, depth)
    if (init := _method(found, "__init__")) is not None:
        _Function(*init, depth, made)(**given)
    elif any("dataclass" in ast.unparse(each) for owner in _line(found) for each in _decorators(owner)):
        _set_fields(made, found, given, depth)
        if (after := _method(found, "__post_init__")) is not None:
            _Function(*after, depth, made)()
    return made


def _set_fields(made: Instance, found: Found, given: Mapping[str, Any], depth: int) -> None:
    for owner in reversed(list(_line(found))):
        for node in _body(owner):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                made.source_values.pop(node.target.id, None)
                if node.value is not None:
                    _Scope(owner, made.source_values, depth).bind(node.target, node.value)
    made.source_values.update(given)


@dataclass
class _Return:
    value: Any


class _Function:
    """A function as its source has it; called, it is gone through."""

    def __init__(self, node: ast.FunctionDef, owner: Found, depth: int, bound: Instance | None = None) -> None:
        self._node, self._owner, self._depth, self._bound = node, owner, depth, bound

    def __call__(self, *positional: Any, **named: Any) -> Any:
        if self._depth > _DEEPEST:
            raise UnknownError(self._node.name)
        arguments = self._node.args
        names = [each.arg for each in [*arguments.posonlyargs, *arguments.args]]
        values = [] if self._bound is None else [self._bound]
        scope = _Scope(self._owner, dict.fromkeys(names, UNKNOWN), self._depth)
        defaults = [*zip(reversed(names), reversed(arguments.defaults), strict=False)]
        defaults += [
            (arg.arg, each) for arg, each in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if each
        ]
        for name, default in defaults:
            scope.bind(ast.Name(name), default)
        scope.names.update(zip(names, [*values, *positional], strict=False))
        scope.names.update(named)
        done = scope.run(self._node.body)
        return done and _known(done.value)


class _Scope:
    """Names with their values, in a function of a module or on top of it."""

    def __init__(self, owner: Found, names: dict[str, Any], depth: int) -> None:
        self._owner, self.names, self._depth = owner, names, depth

    @property
    def _module(self) -> Module:
        return self._owner.module

    def run(self, body: Sequence[ast.stmt]) -> _Return | None:
        for statement in body:
            if (done := self._do(statement)) is not None:
                return done
        return None

    def _do(self, statement: ast.stmt) -> _Return | None:
        match statement:
            case ast.Raise(exc=ast.Call(func=ast.Name(id=name), args=[message, *_])) if name in _REFUSALS:
                raise RefusedError(str(self.value(message)), name)
            case ast.Raise() | ast.With() | ast.Try() | ast.While() | ast.Match() | ast.Break() | ast.Continue():
                raise UnknownError(ast.unparse(statement))
            case ast.Return(value=value):
                return _Return(None if value is None else self._or_unknown(value))
            case ast.If():
                return self._branch(statement)
            case ast.For():
                return self._loop(statement)
            case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=ast.expr() as value):
                self.bind(target, value)
            case ast.Expr(value=value):
                self._call(value)
            case _:
                self._forget(statement)
        return None

    def _branch(self, statement: ast.If) -> _Return | None:
        try:
            taken = statement.body if self.value(statement.test) else statement.orelse
        except UnknownError:
            if any(isinstance(each, ast.Return) for each in ast.walk(statement)):
                raise
            self._forget(statement)
            return None
        return self.run(taken)

    def _loop(self, statement: ast.For) -> _Return | None:
        try:
            values = list(self.value(statement.iter))
        except UnknownError:
            if any(isinstance(each, ast.Return) for each in ast.walk(statement)):
                raise
            self._forget(statement)
            return None
        for value in values:
            self._put(statement.target, value)
            if (done := self.run(statement.body)) is not None:
                return done
        return None

    def _call(self, expression: ast.expr) -> None:
        match expression:
            case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr=name), args=args):
                self._call_above(name, args, expression.keywords)
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="object"), attr="__setattr__"),
                args=[target, ast.Constant(value=str(name)), value],
            ):
                self.bind(ast.Attribute(target, name), value)
            case _:
                try:
                    self.value(expression)
                except UnknownError:
                    self._forget(expression)

    def _call_above(self, name: str, args: list[ast.expr], keywords: list[ast.keyword]) -> None:
        bound = self.names["self"]
        above = list(_line(self._owner))[1:]
        for owner in above:
            if (method := _own(owner, name)) is not None:
                positional = [self._or_unknown(each) for each in args]
                named = {each.arg: self._or_unknown(each.value) for each in keywords if each.arg}
                _Function(method, owner, self._depth + 1, bound)(*positional, **named)
                return

    def bind(self, target: ast.expr, value: ast.expr) -> None:
        """Give a name, or an attribute, a value; one that source does not tell is marked so."""
        self._put(target, self._or_unknown(value))

    def _or_unknown(self, value: ast.expr) -> Any:
        try:
            return self.value(value)
        except UnknownError:
            return UNKNOWN

    def _put(self, target: ast.expr, value: Any) -> None:
        match target:
            case ast.Name(id=name):
                self.names[name] = value
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if isinstance(self.names.get(owner), Instance):
                self.names[owner].source_values[name] = value
            case ast.Tuple(elts=targets):
                known = isinstance(value, tuple | list) and len(cast(Sequence[Any], value)) == len(targets)
                for each, one in zip(targets, cast(Any, value) if known else [UNKNOWN] * len(targets), strict=True):
                    self._put(each, one)
            case _:
                pass

    def _forget(self, node: ast.AST) -> None:
        """What may have been set there is no longer known."""
        for each in ast.walk(node):
            if isinstance(each, ast.Name | ast.Attribute) and isinstance(each.ctx, ast.Store):
                self._put(each, UNKNOWN)

    def value(self, expression: ast.expr) -> Any:
        """Of an expression.

        Raises:
            UnknownError: source does not tell.
        """
        match expression:  # what follows need not be known
            case ast.BoolOp(op=ast.And(), values=[*parts]):
                return _first(parts, self.value, lambda value: not value)
            case ast.BoolOp(op=ast.Or(), values=[*parts]):
                return _first(parts, self.value, bool)
            case ast.IfExp():
                return self.value(expression.body if self.value(expression.test) else expression.orelse)
            case _:
                pass
        bound = {each.id for each in ast.walk(expression) if isinstance(each, ast.Name) and _stores(each)}
        used = {each.id for each in ast.walk(expression) if isinstance(each, ast.Name) and not _stores(each)}
        names = {name: self._named(name) for name in used - bound}
        code = compile(ast.Expression(expression), "", "eval")
        try:
            return eval(code, {"__builtins__": {}, **names})
        except (UnknownError, RefusedError):
            raise
        except Exception as error:  # a value of another type than the class takes, which others complain of
            raise UnknownError(ast.unparse(expression)) from error

    def _named(self, name: str) -> Any:
        if name in self.names:
            return _known(self.names[name])
        if name in _BUILTINS:
            return _BUILTINS[name]
        if (path := qualified(name, self._module)) in _LIBRARY:
            return _LIBRARY[path]
        if path == "math":
            return SimpleNamespace(**vars(math))
        found = look_up(name, self._module) if path.startswith(_READ) else None  # else a module is parsed for nothing
        if isinstance(found, Found) and found.path.startswith(_READ):
            match found.node:
                case ast.ClassDef():
                    return lambda *args, **named: _made(found, _by_name(found, args) | named, self._depth + 1)
                case ast.FunctionDef():
                    return _Function(found.node, found, self._depth + 1)
                case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
                    return _Scope(found, {}, self._depth + 1).value(value)
                case _:
                    pass
        raise UnknownError(name)


def _first(parts: Sequence[ast.expr], value: Callable[[ast.expr], Any], ends: Callable[[Any], bool]) -> Any:
    """``and`` and ``or``: the first that decides; where one before it is unknown, so is the whole."""
    found: Any = None
    for part in parts:
        found = value(part)
        if ends(found):
            break
    return found


def _known(value: Any) -> Any:
    if value is UNKNOWN:
        raise UnknownError
    return value


def _stores(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def _by_name(found: Found, positional: Sequence[Any]) -> dict[str, Any]:
    from gpo_lightning.cli.signatures import signature

    known = signature(found.path)
    if known is None:
        raise UnknownError(found.path)
    return dict(zip(known.parameters, positional, strict=False))


def _line(found: Found) -> Iterator[Found]:
    """A class and those it derives from, the nearest first."""
    yield found
    for base in bases(found):
        yield from _line(base)


def _body(found: Found) -> Sequence[ast.stmt]:
    return found.node.body if isinstance(found.node, ast.ClassDef) else []


def _decorators(found: Found) -> Sequence[ast.expr]:
    return found.node.decorator_list if isinstance(found.node, ast.ClassDef) else []


def _own(found: Found, name: str) -> ast.FunctionDef | None:
    return next(
        (each for each in reversed(_body(found)) if isinstance(each, ast.FunctionDef) and each.name == name), None
    )


def _method(found: Found, name: str) -> tuple[ast.FunctionDef, Found] | None:
    for owner in _line(found):
        if (method := _own(owner, name)) is not None:
            return method, owner
    return None
