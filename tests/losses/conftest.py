"""Prints how far our losses are from the reference libraries, where a run asks for it (`make test-reference`)."""

import os
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("GPO_REFERENCES", Path(__file__).parent / "reference"))
"""Where the references' numbers lie: those kept in the repository, or just made anew."""

compared: dict[str, tuple[str, int, float]] = {}
"""Case name -> source, cases, and the largest relative gap of a value or gradient."""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if "GPO_REFERENCES" not in os.environ or not compared:
        return
    write = terminalreporter.write_line
    write(f"\n{'case':36} {'cases':>5} {'largest gap':>12}  reference")
    for name, (source, cases, gap) in sorted(compared.items(), key=lambda item: item[1][0]):
        write(f"{name:36} {cases:5} {gap:12.1e}  {source.split('; ')[0].split(', ')[0]}")
