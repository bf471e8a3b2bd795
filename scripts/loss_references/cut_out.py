"""A formula buried in a longer method is run by cutting its statements out of the source."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any


def cut_out(method: Callable[..., Any], first: str, last: str) -> Callable[..., SimpleNamespace]:
    """Statements from the middle of a method, as a function from the variables they use to the variables they leave:
    from the one that begins with `first` to the next that begins with `last`."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    for block in (block for node in ast.walk(tree) if isinstance(block := getattr(node, "body", None), list)):
        starts = [i for i, statement in enumerate(block) if ast.unparse(statement).startswith(first)]
        for start in starts:
            for end in range(start, len(block)):
                if ast.unparse(block[end]).startswith(last):
                    code = compile(ast.Module(block[start : end + 1], []), inspect.getfile(method), "exec")
                    return partial(_run, code, method.__globals__)
    raise LookupError(f"{method.__qualname__} has no statements from `{first}` to `{last}`")


def _run(code: Any, known: dict[str, Any], **variables: Any) -> SimpleNamespace:
    namespace = {**known, **variables}
    exec(code, namespace)
    return SimpleNamespace(**namespace)
