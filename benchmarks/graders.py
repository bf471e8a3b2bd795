"""How far the graders can be trusted, on graded outputs of others, hostile texts and noise; and how fast they are.

    python benchmarks/graders.py [--data ../shared/data] [--seed 0]

Writes benchmarks/results/graders.json. A section is a function of the data folder and a seed that returns its rows; add
one to SECTIONS and it is printed and saved. Timings are of whatever machine this is, warm processes, the best of three.
"""

import argparse
import json
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from mutations import mutated, rewritten

from gpo_lightning.problems import AIME, BBH, GSM8K, MATH, MATH500, MMLU, MMLUPro, Problem
from gpo_lightning.problems.problem_set import ProblemSet
from gpo_lightning.problems.question import written
from gpo_lightning.rewards import (
    BigBenchHard,
    Boxed,
    Case,
    Choice,
    Grade,
    Grader,
    LastExpression,
    Marked,
    Maths,
    Number,
    Phrase,
    Tagged,
    Text,
    Whole,
)

RESULTS = Path(__file__).parent / "results" / "graders.json"
SOLUTIONS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")

Row = dict[str, Any]


# ---- agreement with others' verdicts --------------------------------------------------------------------------------


def gsm8k_solutions(data: Path, seed: int) -> list[Row]:
    """The 5,276 graded solutions of OpenAI's GSM8K release, and every verdict of ours that is another."""
    cases, verdicts, names = gsm8k_cases(data)
    grades = Number((Marked("A:"),)).grade_all(cases)
    rows = [
        {
            "solution": name,
            "theirs": verdict,
            "ours": grade.reason,
            "gold": case.answer,
            "response ends": case.response[-60:].replace("\n", " "),
            "rule": explain(grade, case),
        }
        for name, case, verdict, grade in zip(names, cases, verdicts, grades, strict=True)
        if (grade.reward == 1.0) != verdict
    ]
    return [*rows, agreement(len(cases), len(rows))]


def gsm8k_cases(data: Path) -> tuple[list[Case], list[bool], list[str]]:
    cases: list[Case] = []
    verdicts: list[bool] = []
    names: list[str] = []
    for i, row in enumerate(read_lines(data / "graded_outputs" / "gsm8k_example_model_solutions.jsonl")):
        gold = row["ground_truth"].rpartition("A:")[2].strip()
        for name in SOLUTIONS:
            cases.append(Case(row[name]["solution"], gold))
            verdicts.append(row[name]["is_correct"])
            names.append(f"{i}/{name}")
    return cases, verdicts, names


def explain(grade: Grade, case: Case) -> str:
    if grade.reason == "unparsed":
        return "no finished answer line"
    if case.response.count("\nA:") > 1:
        return "several answer lines: the first one counts"
    return f"the answer line is read as {grade.answer!r}, and numbers compare exactly"


def equivalence(data: Path, seed: int) -> list[Row]:
    """math-verify's own test pairs, read by the usual formats, and by the last expression, which was fitted to them."""
    pairs = read_lines(data / "answer_equivalence" / "cases.jsonl")
    usual = [Case(pair["pred"], pair["gold"]) for pair in pairs]
    grades = Maths((Boxed(), Phrase(), Whole()), deadline=20.0).grade_all(usual)
    expected = [bool(pair.get("expected", pair.get("result"))) for pair in pairs]
    untuned = sum((grade.reward == 1.0) != right for grade, right in zip(grades, expected, strict=True))
    reading = LastExpression()
    cases = [Case(pair["pred"], reading.find(pair["gold"]) or "") for pair in pairs]
    rows = [
        {
            "pair": i,
            "test": pair["test"],
            "gold": pair["gold"][-50:],
            "answer": pair["pred"][-50:],
            "theirs": right,
            "ours": grade.reason,
        }
        for i, (pair, grade) in enumerate(zip(pairs, Maths((reading,), deadline=20.0).grade_all(cases), strict=True))
        if (grade.reward == 1.0) != (right := bool(pair.get("expected", pair.get("result"))))
    ]
    return [
        *rows,
        {"read by": "usual formats", **agreement(len(pairs), untuned)},
        {"read by": "last expression", **agreement(len(pairs), len(rows))},
    ]


def agreement(count: int, other: int) -> Row:
    return {"cases": count, "other verdicts": other, "agreement %": round(100 * (1 - other / count), 2)}


# ---- texts that mean harm -------------------------------------------------------------------------------------------


def hostile(data: Path, seed: int) -> list[Row]:
    """Pairs that run for more than 15 s in math-verify, and whether the pool still works after each."""
    maths = Maths((Whole(),), deadline=5.0)
    rows: list[Row] = []
    for pair in read_lines(data / "answer_equivalence" / "adversarial_hang.jsonl"):
        begin = time.perf_counter()
        grade = maths.grade(pair["pred"], pair["gold"], {})
        seconds = time.perf_counter() - begin
        healthy = maths.grade(r"$(x+1)^2$", "x^2+2x+1", {}).reward == 1.0
        row = {"gold": pair["gold"], "answer": pair["pred"], "reward": grade.reward, "reason": grade.reason}
        rows.append(row | {"seconds": round(seconds, 2), "pool works after": healthy})
    return [*rows, {"processes": vars(maths.pool.counts)}]


FRAGMENTS = [
    *(
        r"\boxed{",
        "}",
        "{",
        "$",
        r"\(",
        r"\)",
        r"\[",
        r"\frac",
        r"\sqrt",
        "^",
        "_",
        "9",
        "42",
        "9^9",
        "**",
        "!",
        "1e9",
        "x",
        "=",
        ",",
    ),
    *(
        "the answer is",
        "Answer: ",
        "#### ",
        "<answer>",
        "</answer>",
        "<think>",
        "</think>",
        "(A)",
        "B",
        " or ",
        "not ",
        "\n",
        ".",
        " ",
    ),
    *(
        "\x00",
        "٣",
        "½",
        "−",
        "\ud800",
        "\U0001f600",
        "\\",
        "\\\\",
        "&",
        "%",
        r"\int",
        r"\sum_{k=1}^{99}",
        r"\infty",
        r"\text{",
        "yes",
    ),
]


def fuzz(data: Path, seed: int, count: int = 10_000) -> list[Row]:
    """Noise made of what answers are made of, through every grader."""
    rows: list[Row] = []
    formats = (Boxed(), Phrase(), Marked("####"), Tagged())
    for grader, gold in zoo(formats):
        draw = Random(seed)
        cases = [Case("".join(draw.choices(FRAGMENTS, k=draw.randint(1, 30))), gold) for _ in range(count)]
        begin = time.perf_counter()
        grades = grader.grade_all(cases)
        reasons = [grade.reason for grade in grades]
        counted = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
        row = {"grader": type(grader).__name__, "gold": gold, "responses": len(grades)}
        rows.append(row | {"seconds": round(time.perf_counter() - begin, 1), "reasons": counted})
    return rows


def zoo(formats: Sequence[Any]) -> Iterator[tuple[Grader, str]]:
    yield Text(formats), "paris"
    yield Number(formats), "42"
    yield Choice(formats), "B"
    yield BigBenchHard(formats), "] ]"
    yield Maths(formats, deadline=2.0), r"\frac{x}{2}"


# ---- speed ----------------------------------------------------------------------------------------------------------


def speed(data: Path, seed: int) -> list[Row]:
    """10,000 GSM8K solutions, and MATH-500's gold answers against themselves."""
    cases = (gsm8k_cases(data)[0] * 2)[:10_000]
    golds = [row["answer"] for row in read_lines(data / "math500" / "test.jsonl")]
    maths = Maths()
    themselves = [Case(rf"\boxed{{{gold}}}", gold) for gold in golds]
    rewritten = [Case(rf"\boxed{{0 + {gold}}}", gold) for gold in golds]
    return [
        timed("GSM8K solutions, Number", Number((Marked("A:"),)), cases),
        timed("GSM8K solutions, Maths", Maths((Marked("A:"),)), cases),
        timed("MATH-500 golds against themselves", maths, themselves),
        timed("MATH-500 golds as 0 + gold, all through math-verify", maths, rewritten),
    ]


def timed(what: str, grader: Grader, cases: Sequence[Case]) -> Row:
    best, cpu, grades = float("inf"), float("inf"), list[Grade]()
    for _ in range(3):
        begin, used = time.perf_counter(), time.process_time()
        grades = grader.grade_all(cases)
        best, cpu = min(best, time.perf_counter() - begin), min(cpu, time.process_time() - used)
    return {
        "what": what,
        "responses": len(cases),
        "seconds": round(best, 2),
        "seconds of this process's CPU": round(cpu, 2),
        "right": sum(g.reward == 1.0 for g in grades),
    }


# ---- mutations ------------------------------------------------------------------------------------------------------

GOLDS = 150


def mutations(data: Path, seed: int) -> list[Row]:
    """Wrong answers made from gold answers, and right ones written otherwise (mutations.py): how many are misjudged."""
    rows: list[Row] = []
    for name, source in sets(data).items():
        problems = [problem for problem in source.heldout() if problem.answer]
        problems = Random(seed).sample(problems, min(GOLDS, len(problems)))
        for what, made, right in (("false accepts", mutated, False), ("false rejects", rewritten, True)):
            answers = [(kind, problem, text) for problem in problems for kind, text in made(problem.answer)]
            form = source.form.answer  # a phrase ends with its sentence: "42. 43" is 42 there
            answers = [each for each in answers if right or form.find(written(form, each[2])) != each[1].answer]
            grades = source.grade_all([(problem, written(form, text)) for _, problem, text in answers])
            misjudged = [
                answer for answer, grade in zip(answers, grades, strict=True) if (grade.reward == 1.0) is not right
            ]
            rows.append({"set": name, what: len(misjudged), "of": len(answers), **by_kind(answers, misjudged)})
            rows[-1] |= {"such as": [f"{problem.answer} <- {text}" for _, problem, text in misjudged[:12]]}
    return rows


def by_kind(answers: Sequence[tuple[str, Problem, str]], misjudged: Sequence[tuple[str, Problem, str]]) -> Row:
    """How many of each kind are misjudged, of how many."""
    made, missed = (Counter(kind for kind, _, _ in each) for each in (answers, misjudged))
    return {kind: f"{missed[kind]}/{count}" for kind, count in made.items()}


# ---- problem sets ---------------------------------------------------------------------------------------------------


def problem_sets(data: Path, seed: int) -> list[Row]:
    """Every set: rows, seconds to load, and its gold answers and reference solutions against themselves."""
    sources = sets(data)
    rows = [loaded(name, "held out", source, source.heldout) for name, source in sources.items()]
    return rows + [loaded(name, "train", sources[name], sources[name].train) for name in ("GSM8K", "MATH")]


def sets(data: Path) -> dict[str, ProblemSet]:
    return {
        "GSM8K": GSM8K(str(data / "gsm8k")),
        "MATH": MATH(str(data / "math")),
        "MATH-500": MATH500(str(data / "math500")),
        "AIME 2024": AIME(2024, str(data / "aime2024")),
        "AIME 2025": AIME(2025, str(data / "aime2025")),
        "BBH": BBH(str(data / "bbh")),
        "MMLU": MMLU(str(data / "mmlu")),
        "MMLU-Pro": MMLUPro(str(data / "mmlu_pro")),
    }


def loaded(name: str, side: str, source: ProblemSet, load: Callable[[], Sequence[Problem]]) -> Row:
    begin = time.perf_counter()
    problems = load()
    seconds = time.perf_counter() - begin
    responses = [(problem, written(source.form.answer, problem.answer)) for problem in problems]
    solved = [(problem, problem.solution) for problem in problems if problem.solution]
    grades = source.grade_all([*responses, *solved])
    wrong = {case[0].id for case, grade in zip([*responses, *solved], grades, strict=True) if grade.reward != 1.0}
    return {
        "set": name,
        "side": side,
        "rows": len(problems),
        "load_seconds": round(seconds, 2),
        "golds_right": sum(grade.reward == 1.0 for grade in grades[: len(problems)]),
        "solutions": len(solved),
        "solutions_right": sum(grade.reward == 1.0 for grade in grades[len(problems) :]),
        "not_right": sorted(wrong),
    }


# ---- all of it ------------------------------------------------------------------------------------------------------

SECTIONS: dict[str, Callable[[Path, int], list[Row]]] = {
    section.__name__: section
    for section in (gsm8k_solutions, equivalence, mutations, hostile, fuzz, speed, problem_sets)
}


def read_lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the benchmark data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    options = parser.parse_args()
    if not options.data.is_dir():
        parser.exit(message=f"{options.data} is not a folder; give the benchmark data with --data: nothing measured.\n")
    saved: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    saved["machine"] = f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    for name in options.sections:
        saved[name] = SECTIONS[name](options.data, options.seed)
        print(f"\n## {name}: {(SECTIONS[name].__doc__ or '').strip()}")
        for row in saved[name]:
            print("  " + " | ".join(f"{key}: {value!r}" for key, value in row.items()))
    RESULTS.write_text(json.dumps(saved, indent=1, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
