"""The explorer page of a thousand and of five thousand trajectories: size, seconds to write, to paint, to filter.

    python benchmarks/explorer.py            prints a table, and writes benchmarks/results/explorer.json

It needs Chromium. Texts are made up, of about the entropy of English: 8 steps of some 85 characters a trajectory, 8
trajectories a problem, 4 continuations before each step.
"""

import json
import tempfile
from pathlib import Path
from time import perf_counter

from gpo_lightning.evaluation import explorer
from tests.evaluation.explorer.browser import Page, browser
from tests.evaluation.explorer.made import many

RESULTS = Path(__file__).parent / "results/explorer.json"
_FILTER = """(() => {
    const list = document.querySelector('gpo-list');
    return ['apples', 'distance 7', 'zzz', ''].map((words) => {
        const begin = performance.now();
        list.controls.q.value = words;
        list.filter();
        document.body.offsetHeight;
        return performance.now() - begin;
    });
})()"""
_OPEN = """(async () => {
    const explorer = document.querySelector('gpo-explorer');
    const begin = performance.now();
    explorer.open(explorer.list.rows[500]);
    while (!document.querySelector('gpo-trajectory h1')) await new Promise((resolve) => setTimeout(resolve, 1));
    document.body.offsetHeight;
    return performance.now() - begin;
})()"""


def measured(page: Page, path: Path, problems: int) -> dict[str, float]:
    """Figures of the page of so many problems."""
    trees = many(problems)
    begin = perf_counter()
    explorer.write_page(path, trees)
    written = perf_counter() - begin
    page.open(path)
    return {
        "trajectories": 8 * problems,
        "megabytes": path.stat().st_size / 1e6,
        "write_s": written,
        "first_paint_ms": page.evaluate("performance.getEntriesByType('paint').at(-1).startTime"),
        "ready_ms": page.evaluate("performance.getEntriesByName('ready')[0].startTime"),
        "slowest_filter_ms": max(page.evaluate(_FILTER)),
        "open_ms": page.evaluate(_OPEN),
    }


def main() -> None:
    """Measure, print and keep."""
    with tempfile.TemporaryDirectory() as folder, browser(Path(folder) / "profile") as page:
        page.size(1360, 900)
        rows = [measured(page, Path(folder) / "page.html", problems) for problems in (125, 625)]
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join(f"{value:,.1f}" if value % 1 else f"{value:,.0f}" for value in row.values()) + " |")
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
