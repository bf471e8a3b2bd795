"""Writes docs/study.md from the studies that have been run: tables, curves, and what follows, sure or not.

python benchmarks/study/report.py
"""

import json
import shutil
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
STUDIES = {
    "rare": "Rare success",
    "rare_again": "Rare success, again",
    "evening": "A few per cent",
    "controls": "Controls",
    "losses": "Other losses",
    "sums": "A language model",
    "sums_dpo": "A language model, offline",
}
"""Studies in the order of the page, and their headings."""
OPENING = """# The study

Methods at equal generated tokens. Success is calculated, not sampled; runs are paired by seed: the same warm start,
problems and adapter. Made by `python benchmarks/study benchmarks/study/NAME.yaml` on 2 shared CPU cores, and written
by `python benchmarks/study/report.py`; every run's curve is in `benchmarks/results/study-NAME.json`.

How to read it: success in per cent, mean over seeds, at the start and after a quarter, a half and all of the tokens of
the column `tokens`; `base` is the base method there. `base / arm` says how many times fewer tokens an arm needs to the
threshold (geometric mean and 95 % bootstrap interval; a run that does not reach it counts with all its tokens, and
where that is the arm's, the base's with no more than those). p is
that of the areas under the curves over log tokens, by sign flips of the paired differences, after Holm's correction
for the arms of a study that claim something; those that explain (other bases, oracle, the paper's procedure) have
intervals alone.
What it means is said in [When do critical steps help?](when-critical-steps-help.md).
"""

OWN = "ours, own successes"
Row = dict[str, Any]


def page(studies: dict[str, dict[str, Any]]) -> str:
    """The page, of the results of studies by name."""
    parts = [OPENING]
    for name, heading in STUDIES.items():
        if name in studies:
            parts.append(section(heading, studies[name]))
    if not studies:
        parts.append("No study has been run in this tree.\n")
    return "\n".join([*parts, goals(studies)]).rstrip() + "\n"


def section(heading: str, found: dict[str, Any]) -> str:
    """One study: what it is, its table, what follows, and its curves."""
    study, rows = found["study"], found["rows"]
    name, threshold = study["name"], study["threshold"]
    seeds = max((len(row["to_threshold"]) for row in rows), default=0)
    planned = len(study["seeds"])
    stopped = "" if seeds == planned else f" **The study was stopped: {seeds} of {planned} seeds are whole.**"
    lines = [
        f"## {heading}\n",
        f"{study['about']}{stopped}\n",
        f"| task | arm | tokens | start | 1/4 | 1/2 | all | base | area | tokens to {threshold:.0%}, median "
        "| base / arm | p | steps |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(line(row) for row in rows),
        "",
        *(f"* {verdict(row)}" for row in rows if "ratio" in row),
        "",
        f"![Success against generated tokens, study {name}](images/study-{name}.png)\n",
    ]
    return "\n".join(lines)


def line(row: Row) -> str:
    """A row of the table."""
    values = (row["at_start"], *row["success"], row["base_success"], row["area"])
    reached = [its for its in row["to_threshold"] if its is not None]
    middle = median([its or inf for its in row["to_threshold"]])
    to = f"{middle:,.0f}" if middle < inf else "not reached"
    ratio = "{:.2f} ({:.2f} to {:.2f})".format(*row["ratio"]) if "ratio" in row else ""
    cells = [
        row["task"],
        row["arm"],
        f"{row['budget']:,}",
        *(f"{100 * value:.1f}" for value in values),
        f"{to} ({len(reached)} of {len(row['to_threshold'])} runs)",
        ratio,
        f"{row['p_corrected']:.3f}" if "p_corrected" in row else "",
        f"{row['steps']:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def verdict(row: Row) -> str:
    """What a row says, in a sentence."""
    mean, low, high = row["ratio"]
    what, p = f"{row['task']}, {row['arm']}", row.get("p_corrected")
    if p is None:
        side = "fewer tokens than" if low > 1 else "more tokens than" if high < 1 else "not told apart from"
        return f"{what}: {side} the base method, base / arm {mean:.2f} ({low:.2f} to {high:.2f}); not tested."
    figures = f"{mean:.2f} ({low:.2f} to {high:.2f}), p = {p:.3f}"
    if low > 1 and p < 0.05:
        return f"**{what}: better than the base method**, base / arm {figures}."
    if high < 1 and p < 0.05:
        return f"**{what}: worse than the base method**, base / arm {figures}."
    return f"{what}: not told apart from the base method by these seeds, base / arm {figures}."


def goals(studies: dict[str, dict[str, Any]]) -> str:
    """What was aimed at, and what was found."""
    rows = {(name, row["task"], row["arm"]): row for name, found in studies.items() for row in found["rows"]}
    aims = [
        ("1 % at the start, reference solutions", ("rare", "ledger-1", "ours, references"), 2.0),
        ("1 % at the start, own successes", ("rare", "ledger-1", "ours, own successes"), 1.5),
        ("1 % at the start, own successes kept", ("rare", "ledger-1", "ours, own successes kept"), 1.5),
        ("the same, on sixteen fresh seeds", ("rare_again", "ledger-1", "ours, own successes kept"), 1.5),
        ("6 % at the start, reference solutions", ("evening", "ledger-8", "ours, references"), 1.3),
        ("6 % at the start, own successes", ("evening", "ledger-8", "ours, own successes"), 1.3),
        ("6 % at the start, own successes kept", ("evening", "ledger-8", "ours, own successes kept"), 1.3),
        ("30 % at the start", ("controls", "ledger-30", "ours, references"), 0.95),
        ("control: every step decides", ("controls", "carry-8", "ours, references"), 0.95),
        ("DPO", ("losses", "DPO", "frontier, references"), 1.3),
        ("KTO", ("losses", "KTO", "frontier, references"), 1.3),
        ("PPO", ("losses", "PPO", "frontier, references"), 1.3),
        ("SmolLM2, 6 % at the start, every step decides", ("sums", "sums", "ours, references"), 0.95),
        ("the same with DPO", ("sums_dpo", "sums", "frontier, references"), 0.95),
    ]
    lines = [
        "## Against the goals\n",
        "Tokens to the threshold, base / arm. A goal is reached where the mean is at least the aim and, above 1, the "
        "interval lies above 1 and p is below .05.\n",
        "| what | aim | found | reached |",
        "|---|---|---|---|",
    ]
    for what, place, aim in aims:
        row = rows.get(place)
        found = ratio_of(row) if row else "not run"
        lines.append(f"| {what} | {aim} | {found} | {reached(row, aim) if row else ''} |")
    for name, level in (("rare", "1 %"), ("evening", "6 %")):
        by_arm = {arm: row for (study, _, arm), row in rows.items() if study == name}
        if "paper's procedure" in by_arm:
            lines.append(against_paper(level, by_arm["paper's procedure"], by_arm["ours, references"]))
    evening = {arm: row for (name, _, arm), row in rows.items() if name == "evening"}
    if "oracle, first mistake" in evening:
        base, ours, oracle = (evening[arm] for arm in ("base, groups of 8", OWN, "oracle, first mistake"))
        lines.append(share(base["area"], ours["area"], oracle["area"]))
    return "\n".join(lines)


def ratio_of(row: Row) -> str:
    return "{:.2f} ({:.2f} to {:.2f})".format(*row["ratio"])


def reached(row: Row, aim: float) -> str:
    mean, low, _ = row["ratio"]
    return "yes" if mean >= aim and (aim <= 1 or (low > 1 and row.get("p_corrected", 1.0) < 0.05)) else "no"


def against_paper(level: str, paper: Row, ours: Row) -> str:
    """Tokens to the threshold, the paper's procedure over ours."""
    found = ours["ratio"][0] / paper["ratio"][0]
    short = sum(its is None for its in paper["to_threshold"])
    least = f"at least {found:.2f}: {short} of {len(paper['to_threshold'])} of its runs end before the threshold"
    said = least if short else f"{found:.2f}"
    return (
        f"| {level}, ours (reference solutions) against the paper's procedure | 3.0 | {said} "
        f"| {'yes' if found >= 3 else 'no'} |"
    )


def share(base: float, ours: float, oracle: float) -> str:
    """Gain of area over the base method, with own successes, as a share of the gain of the oracle."""
    what = "share of the gain of resets to the exact first mistake | 0.5"
    if oracle <= base:
        return f"| {what} | they gain nothing: area {100 * oracle:.1f}, base {100 * base:.1f} | |"
    found = (ours - base) / (oracle - base)
    return f"| {what} | {found:.2f} | {'yes' if found >= 0.5 else 'no'} |"


def main() -> None:
    studies: dict[str, dict[str, Any]] = {}
    for name in STUDIES:
        kept = RESULTS / f"study-{name}.json"
        if kept.exists():
            studies[name] = json.loads(kept.read_text())
            shutil.copy(kept.with_suffix(".png"), ROOT / "docs" / "images" / f"study-{name}.png")
    (ROOT / "docs" / "study.md").write_text(page(studies))


if __name__ == "__main__":
    main()
