"""Reports as Markdown, which reads well in a terminal too."""

from collections.abc import Mapping, Sequence

from gpo_lightning.errors import printable
from gpo_lightning.evaluation.estimate import Estimate
from gpo_lightning.evaluation.report import LENGTH, Figures, Report

Reports = Mapping[str, Mapping[str, Report]]
"""By benchmark, then by moment: the number of iterations before it, or the command that measured."""


def markdown(reports: Reports) -> str:
    """A table of all benchmarks at all moments, and one by category of each benchmark's last moment."""
    measured = [(name, moment, report) for name, moments in reports.items() for moment, report in moments.items()]
    rows = [((name, _when(moment)), report.overall, report.available) for name, moment, report in measured]
    tables = [_table(("benchmark", "when"), rows)]
    for name, moments in reports.items():
        moment, report = list(moments.items())[-1]
        if report.macro is not None:
            tables.append(f"`{name}`, {_when(moment)}, by category:\n\n{_by_category(report)}")
    return "\n\n".join(tables) + "\n"


def _when(moment: str) -> str:
    return f"after {moment} iterations" if moment.isdigit() else moment


def _by_category(report: Report) -> str:
    rows: list[tuple[tuple[str, ...], Figures, int]] = [
        ((name,), figures, 0) for name, figures in report.categories.items()
    ]
    rows.append((("**all problems**",), report.overall, 0))
    if report.macro is not None:
        rows.append((("**mean over categories**",), report.macro, 0))
    return _table(("category",), rows)


def _table(heads: Sequence[str], rows: Sequence[tuple[tuple[str, ...], Figures, int]]) -> str:
    names = list(dict.fromkeys(name for _, figures, _ in rows for name in figures.means))
    cells = [[*heads, "problems", *names, "ungraded"]]
    for labels, figures, available in rows:
        asked = figures.accuracy.n
        problems = f"{asked:,} of {available:,}" if available > asked else f"{asked:,}"
        means = [_mean(name, figures.means.get(name)) for name in names]
        cells.append([*map(_label, labels), problems, *means, f"{figures.ungraded:,}" if figures.ungraded else ""])
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    rule = [f"{'-' * (width - 1)}:" if i >= len(heads) else "-" * width for i, width in enumerate(widths)]
    return "\n".join(_line(row, widths, len(heads)) for row in (cells[0], rule, *cells[1:]))


def _label(name: str) -> str:
    """A name, which may come from a data file, as one cell."""
    return " ".join(printable(name).replace("|", "\\|").split())


def _line(row: Sequence[str], widths: Sequence[int], left: int) -> str:
    padded = (
        cell.ljust(width) if i < left else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return f"| {' | '.join(padded)} |"


def _mean(name: str, mean: Estimate | None) -> str:
    if mean is None or mean.n == 0:
        return ""
    if name == LENGTH:
        return f"{mean.mean:,.1f} ({mean.low:,.1f} to {mean.high:,.1f})"
    return f"{100 * mean.mean:.1f} % ({100 * mean.low:.1f} to {100 * mean.high:.1f})"
