"""One HTML file that needs nothing but itself: the page's sources, and the rollouts compressed beside them."""

import gzip
import json
import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.critical import TurnReader
from gpo_lightning.evaluation.explorer.records import ProblemRecord, Record, Valued, read_turns, rewards
from gpo_lightning.rollouts import RolloutTree
from gpo_lightning.whole_file import write_whole

SURE = 0.8
"""Least probability at which a step is called the turn."""

_SCRIPTS = (
    "dom",
    "words",
    "data",
    "prose",
    "charts",
    "filters",
    "overview",
    "list",
    "steps",
    "otherwise",
    "trajectory",
    "main",
)
_BLOCK = 400_000
"""Characters of problems that are compressed, and unpacked by the page, together."""
_MATHS = re.compile(r"\$|\\\(|\\\[|\\frac|\\boxed")


def page(
    trees: Sequence[RolloutTree],
    title: str = "Where reasoning turns",
    tokenizer: Tokenizer | None = None,
    reader: TurnReader = TurnReader(),
) -> str:
    """The explorer of some rollouts.

    Args:
        trees: rollout trees, of one iteration or of several.
        title: of the page.
        tokenizer: decodes rollouts that hold no texts.
        reader: finds the turns.

    Raises:
        DataError: the rollouts hold no texts and there is no tokenizer.
    """
    valued = read_turns(trees, reader)
    records = [ProblemRecord(tree, its, tokenizer) for tree, its in zip(trees, valued, strict=True)]
    blocks, places = _blocks(records)
    index = {
        "title": title,
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "sure": SURE,
        "least": reader.least,
        "mass": reader.mass,
        "problems": [_listed(record, place) for record, place in zip(records, places, strict=True)],
        "rows": [_row(number, record, i) for number, record in enumerate(records) for i in record.shown],
    }
    searched = [record.response(i) for record in records for i in record.shown]
    maths = any(map(_MATHS.search, (*searched, *(record.question() for record in records))))
    data = {"index": index, "searched": searched, **{f"block-{number}": block for number, block in enumerate(blocks)}}
    return _html(title, data, maths)


def write_page(
    path: Path,
    trees: Sequence[RolloutTree],
    title: str = "Where reasoning turns",
    tokenizer: Tokenizer | None = None,
) -> None:
    """Write the explorer of some rollouts to a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page(trees, title, tokenizer))


def _blocks(records: Sequence[ProblemRecord]) -> tuple[list[list[Record]], list[tuple[int, int]]]:
    """Problems in blocks of about equal size, and for each problem its block and place there."""
    blocks: list[list[Record]] = []
    places: list[tuple[int, int]] = []
    room = 0
    for record in map(ProblemRecord.record, records):
        if room <= 0:
            blocks.append([])
            room = _BLOCK
        room -= len(json.dumps(record))
        places.append((len(blocks) - 1, len(blocks[-1])))
        blocks[-1].append(record)
    return blocks, places


def _listed(record: ProblemRecord, place: tuple[int, int]) -> Record:
    """What the list knows of a problem."""
    tree = record.tree
    successes = [success for i in tree.trajectories if (success := tree.samples[i].success) is not None]
    return {
        "id": tree.problem.id,
        "task": tree.problem.task,
        "answer": tree.problem.answer,
        "question": record.question()[:400],
        "iteration": record.iteration,
        "place": place,
        "tries": len(successes),
        "right": sum(success > 0.5 for success in successes),
    }


def _row(problem: int, record: ProblemRecord, index: int) -> Record:
    """What the list knows of a trajectory."""
    sample = record.tree.samples[index]
    row: Record = {"p": problem, "i": index, "r": sample.success, "w": sample.reason}
    if sample.truncated:
        row["x"] = 1
    if paid := rewards(sample):
        row["g"] = paid
    for its in record.valued:
        if its.index == index:
            row |= _turning(its)
    return row


def _turning(its: Valued) -> Record:
    turn = its.reading.turn
    return {
        "v": [round(100 * value) for value in its.reading.values],
        "t": turn.step,
        "d": round(turn.size, 3),
        "q": round(turn.probability, 3),
    }


def _html(title: str, data: dict[str, Any], maths: bool) -> str:
    script = _script(maths)
    style = _source("explorer.css")
    # Nothing but this very script and style may act on the page, whatever a model wrote into the data.
    sources = {"default-src": "'none'", "script-src": f"'{_hash(script)}'", "style-src": f"'{_hash(style)}'"}
    policy = "; ".join(f"{kind} {source}" for kind, source in sources.items())
    # The list is there before the texts are parsed.
    first, *rest = _packed(data)
    filled = {
        "TITLE": escape(title),
        "POLICY": policy,
        "STYLE": style,
        "SCRIPT": script,
        "INDEX": first,
        "REST": "\n".join(rest),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: filled[match[1]], _source("page.html"))


def _packed(data: dict[str, Any]) -> Iterator[str]:
    for name, value in data.items():
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        packed = b64encode(gzip.compress(text.encode("utf-8", "replace"), 9, mtime=0)).decode()
        yield f'<script type="text/plain" id="data-{name}">{packed}</script>'


@cache
def _source(name: str) -> str:
    return files("gpo_lightning.evaluation.explorer").joinpath("web", name).read_text(encoding="utf-8")


@cache
def _script(maths: bool) -> str:
    """The modules as one script: in order, without the lines by which they name each other."""
    modules = (re.sub(r"^import .*$|^export ", "", _source(f"{name}.js"), flags=re.MULTILINE) for name in _SCRIPTS)
    library = _source("temml.min.js") if maths else ""
    return "\n".join((library, '(() => {\n"use strict";', *modules, "})();"))


def _hash(source: str) -> str:
    return f"sha256-{b64encode(sha256(source.encode()).digest()).decode()}"
