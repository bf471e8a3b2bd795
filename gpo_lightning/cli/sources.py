"""Where names are defined, read from source files: nothing is imported, so it takes no seconds.

``find("gpo_lightning.losses.DPO")`` gives the class as it is written, wherever its package takes it from. What source
cannot tell (compiled modules, names made at run time) is ``None``: unknown, which is not the same as missing.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

Definition = ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign

_DEEPEST = 20
"""Imports followed from one module to the next for one name."""


@dataclass(frozen=True, eq=False)
class Module:
    """A module's source.

    Args:
        name: as it is imported.
        package: what its relative imports start from.
        text: its source.
    """

    name: str
    package: str
    text: str
    tree: ast.Module = field(repr=False)

    def names(self) -> set[str]:
        """Public names defined in it or imported into it."""
        found: set[str] = set()
        for node in _statements(self.tree.body):
            match node:
                case ast.ClassDef() | ast.FunctionDef():
                    found.add(node.name)
                case ast.ImportFrom() | ast.Import():
                    found |= {alias.asname or alias.name for alias in node.names}
                case _:
                    pass
        return {name for name in found if not name.startswith("_") and "." not in name}


@dataclass(frozen=True, eq=False)
class Found:
    """A definition and the module it stands in."""

    node: Definition
    module: Module

    @property
    def path(self) -> str:
        """Dotted path of the definition itself, which other modules may import it from."""
        node = self.node
        name = node.name if isinstance(node, ast.ClassDef | ast.FunctionDef) else ""
        return f"{self.module.name}.{name}"


@dataclass(frozen=True)
class Missing:
    """What is certainly not there.

    Args:
        what: the name or module that is missing.
        where: the module that does not have it; empty for a top-level module.
        there: what the module has instead.
    """

    what: str
    where: str
    there: tuple[str, ...] = ()


@cache
def source(name: str) -> Module | None:
    """The source of a module; ``None`` where there is none that can be read."""
    top, *rest = name.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    roots = [Path(root) for root in spec.submodule_search_locations or ()]
    if rest:
        files = [Path(root, *rest, "__init__.py") for root in roots]
        files += [Path(root, *rest).with_suffix(".py") for root in roots]
    else:
        files = [Path(spec.origin)] if spec.origin else []
    for file in files:
        if file.suffix == ".py" and file.is_file():
            try:
                text = file.read_text(encoding="utf-8")
                tree = ast.parse(text)
            except (OSError, ValueError, SyntaxError, RecursionError):
                return None
            package = name if file.name == "__init__.py" else name.rpartition(".")[0]
            return Module(name, package, text, tree)
    return None


def exists(name: str) -> bool | None:
    """Whether there is such a module; ``None`` where only importing would tell."""
    top, *rest = name.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return False
    roots = [Path(root) for root in spec.submodule_search_locations or ()]
    if not rest:
        return True
    if not roots:
        return False
    return True if any(Path(root, *rest).is_dir() or any(root.glob(f"{'/'.join(rest)}.*")) for root in roots) else None


def find(path: str) -> Found | Missing | None:
    """A class, function or alias by its dotted path; ``None`` where its source cannot be read."""
    where, _, name = path.rpartition(".")
    module = source(where)
    if module is not None:
        return look_up(name, module)
    parts = where.split(".")
    if exists(parts[0]) is False:
        return Missing(parts[0], "")
    for length in range(len(parts) - 1, 0, -1):
        package = source(".".join(parts[:length]))
        if package is not None:
            known = look_up(parts[length], package)
            # What `gpo_lightning` makes when it is asked for it are classes, never modules.
            missing = isinstance(known, Missing) or (known is None and parts[0] == "gpo_lightning")
            return Missing(parts[length], package.name, _modules(package.name)) if missing else None
    return None


@cache
def look_up(name: str, module: Module, depth: int = 0) -> Found | Missing | None:
    """What a name means in a module."""
    if depth > _DEEPEST:
        return None
    stars: list[str] = []
    # Of a name with two definitions, one for type checkers, the last is what runs.
    for node in reversed(list(_statements(module.tree.body))):
        match node:
            case ast.ClassDef(name=found) | ast.FunctionDef(name=found) if found == name:
                return Found(node, module)
            case ast.Assign(targets=[ast.Name(id=found)]) | ast.AnnAssign(target=ast.Name(id=found)) if found == name:
                return Found(node, module)
            case ast.ImportFrom():
                origin = _origin(node, module)
                if any(alias.name == "*" for alias in node.names):
                    stars.append(origin)
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        home = source(origin)
                        return None if home is None else look_up(alias.name, home, depth + 1)
            case _:
                pass
    for origin in stars:
        home = source(origin)
        found = None if home is None else look_up(name, home, depth + 1)
        if isinstance(found, Found):
            return found
    submodule = exists(f"{module.name}.{name}")
    certain = (
        not stars and submodule is not True and not re.search(rf"\b({re.escape(name)}|__getattr__)\b", module.text)
    )
    return Missing(name, module.name, _there(module)) if certain else None


def qualified(name: str, module: Module) -> str:
    """The dotted path that a name, possibly with dots, stands for in a module."""
    first, _, rest = name.partition(".")
    for node in _statements(module.tree.body):
        match node:
            case ast.ImportFrom():
                for alias in node.names:
                    if (alias.asname or alias.name) == first:
                        return ".".join(filter(None, (_origin(node, module), alias.name, rest)))
            case ast.Import():
                for alias in node.names:
                    if alias.asname == first:
                        return ".".join(filter(None, (alias.name, rest)))
                    if alias.asname is None and alias.name.split(".")[0] == first:
                        return name
            case _:
                pass
    return f"{module.name}.{name}" if not isinstance(look_up(first, module), Missing) else name


def _origin(node: ast.ImportFrom, module: Module) -> str:
    parts = module.package.split(".")
    base = parts[: len(parts) - node.level + 1] if node.level else []
    return ".".join([*base, *filter(None, [node.module])])


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements at module level, those within ``if`` and ``try`` included."""
    for node in body:
        match node:
            case ast.If():
                yield from _statements([*node.body, *node.orelse])
            case ast.Try():
                yield from _statements([*node.body, *node.orelse, *node.finalbody])
                for handler in node.handlers:
                    yield from _statements(handler.body)
            case _:
                yield node


def _modules(package: str) -> tuple[str, ...]:
    """Public modules of a package."""
    spec = find_spec(package.partition(".")[0])
    roots = [Path(root, *package.split(".")[1:]) for root in (spec and spec.submodule_search_locations) or ()]
    found = {path.stem for root in roots for path in root.glob("*") if path.suffix == ".py" or path.is_dir()}
    return tuple(sorted(name for name in found if not name.startswith(("_", "."))))


def _there(module: Module) -> tuple[str, ...]:
    return tuple(sorted(name for name in module.names() if name[0].isupper()))
