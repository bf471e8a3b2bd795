"""The tutorial notebook runs from top to bottom, in a short form: fewer problems, one iteration."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SHORTER = {"PROBLEMS = 16": "PROBLEMS = 4", "ITERATIONS = 4": "ITERATIONS = 1"}


def cells() -> list[str]:
    notebook = json.loads((ROOT / "docs/tutorial.ipynb").read_text())
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.slow
def test_the_notebook_runs_and_shows_its_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings, *rest = cells()
    for long, short in SHORTER.items():
        assert long in settings
        settings = settings.replace(long, short)
    namespace: dict[str, Any] = {"__name__": "__notebook__"}
    shown: list[str] = []
    for number, source in enumerate([settings, *rest]):
        *body, last = source.rstrip().split("\n")
        if last.startswith("explorer.show("):
            exec(compile("\n".join(body), f"cell {number}", "exec"), namespace)
            shown.append(eval(last, namespace)._repr_html_())
        else:
            exec(compile(source, f"cell {number}", "exec"), namespace)
    assert len(shown) == 2
    assert all("<iframe" in html for html in shown)
    assert (tmp_path / "runs/tutorial/report.html").exists()


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = json.loads((ROOT / "docs/tutorial.ipynb").read_text())
    assert not [cell for cell in notebook["cells"] if cell.get("outputs") or cell.get("execution_count")]
