"""Writes the reference pages of the documentation from the code: configuration keys, logged scalars, the tutorial.

`make docs` runs it before it builds the site, so that the pages are never older than the code.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpo_lightning import GPOCLI, GPOModule, GPOTrainer, RolloutDataModule
from gpo_lightning.callbacks.scalars import RECORDS, SCALARS

PAGES = Path(__file__).parents[1] / "docs/reference"
_INTRODUCTION = """# Configuration

Every key of a configuration file, with the type it takes and what it is if it is not given. Made from the code by
`make docs`. A class in `class_path` takes its own settings under `init_args`; [API](../api.md) lists them, and

```bash
gpo fit --config configs/quickstart.yaml --print_config
```

prints all of a run. Keys of `trainer` not named here are
[Lightning's](https://lightning.ai/docs/pytorch/stable/common/trainer.html#trainer-class-api).
"""
_METRICS = """# Metrics

Every scalar, histogram and table that a run logs, to TensorBoard, W&B, MLflow, CSV or any other logger of Lightning's;
scalars, but what a clock tells, also to `metrics/iteration-0000.json` of the run. Made by `make docs`; a test compares
the names with what every loss logs.
"""


def configuration() -> str:
    """The page of configuration keys."""
    cli = GPOCLI(
        GPOModule, RolloutDataModule, trainer_class=GPOTrainer, auto_configure_optimizers=False, run=False,
        args=["--data.problems=gpo_lightning.problems.ModularChains", "--model.loss=gpo_lightning.losses.GRPO"],
    )  # fmt: skip
    sections: dict[str, list[str]] = {"data": [], "model": [], "run": []}
    for action in cli.parser._actions:
        root = action.dest.split(".")[0]
        if action.dest.endswith(".help") or action.help == "Path to a configuration file.":
            continue
        if "." in action.dest and root in ("data", "model"):
            sections[root].append(_row(action))
        elif root in ("seed_everything", "warm_start"):
            sections["run"].append(_row(action))
    head = "| key | takes | default | |\n|---|---|---|---|\n"
    parts = [f"## {name}\n\n{head}" + "\n".join(rows) for name, rows in sections.items()]
    return "\n\n".join([_INTRODUCTION.strip(), *parts]) + "\n"


def _row(action: Any) -> str:
    kind = _type(str(getattr(action, "_typehint", None) or getattr(action, "type", "") or ""))
    default = "" if action.default in (None, "==SUPPRESS==") else _default(action.default)
    said = re.sub(r"\s+", " ", re.sub(r"\(required.*|\(type:.*", "", str(action.help or ""))).replace("%(default)s", "")
    cells = (f"`{action.dest}`", kind and f"`{kind}`", default and f"`{default}`", said.replace("``", "`").strip())
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(text: str) -> str:
    text = re.sub(r"<class '([^']*)'>", r"\1", text)
    text = re.sub(r"[A-Za-z_][\w]*\.(?=[A-Za-z_])", "", text)
    return "" if text.startswith(("<", "Action")) else text.replace("Optional", "null or ")


def _default(value: Any) -> str:
    if hasattr(value, "class_path"):
        return str(value.class_path).rpartition(".")[2]
    if isinstance(value, dict) and "class_path" in value:
        return str(value["class_path"]).rpartition(".")[2]
    return str(value) if isinstance(value, str | int | float | bool) else type(value).__name__


def metrics() -> str:
    """The page of logged scalars."""

    def tables() -> Iterator[str]:
        for group, entries in {**SCALARS, "Histograms and tables": RECORDS}.items():
            rows = (f"| `{name}` | {said} |" for name, said in entries.items())
            yield f"## {group}\n\n| name | |\n|---|---|\n" + "\n".join(rows)

    return "\n\n".join([_METRICS.strip(), *tables()]) + "\n"


def tutorial() -> str:
    """The notebook as a page."""
    notebook = json.loads((PAGES.parent / "tutorial.ipynb").read_text())
    texts = [("".join(cell["source"]), cell["cell_type"]) for cell in notebook["cells"]]
    cells = [text if kind == "markdown" else f"```python\n{text}\n```" for text, kind in texts]
    page = re.sub(r"\]\((?=[\w-]+(?:/[\w-]+)*\.md)", "](../", "\n\n".join(cells))
    return f"{page}\n\nThe notebook itself is `docs/tutorial.ipynb`.\n"


def main() -> None:
    """Write the pages."""
    PAGES.mkdir(parents=True, exist_ok=True)
    for name, page in (("configuration", configuration()), ("metrics", metrics()), ("tutorial", tutorial())):
        (PAGES / f"{name}.md").write_text(page)


if __name__ == "__main__":
    main()
