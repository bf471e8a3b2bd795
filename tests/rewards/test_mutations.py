"""No wrong answer made from a right one is accepted, and right answers are right however they are written."""

import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from mutations import mutated, rewritten  # noqa: E402  # pyright: ignore[reportMissingImports]

from gpo_lightning.problems import AIME, BBH, GSM8K, MATH, MATH500, MMLU, MMLUPro  # noqa: E402
from gpo_lightning.problems.problem_set import ProblemSet  # noqa: E402
from gpo_lightning.problems.question import written  # noqa: E402
from gpo_lightning.rewards import Case, Maths, Number, Whole  # noqa: E402

WHOLE = (Whole(),)

naturals = st.integers(2, 2000).map(str)
decimals = st.decimals(0, 1000, places=2).filter(bool).map(str)
fractions = st.tuples(st.integers(1, 99), st.integers(2, 99)).map(lambda pair: rf"\frac{{{pair[0]}}}{{{pair[1]}}}")
roots = st.tuples(st.integers(2, 99), st.sampled_from((2, 3, 5, 7))).map(lambda pair: rf"{pair[0]}\sqrt{{{pair[1]}}}")
linear = st.tuples(st.integers(2, 99), st.sampled_from("xyn"), st.integers(1, 99)).map(lambda t: f"{t[0]}{t[1]}+{t[2]}")
pairs = st.tuples(st.integers(-99, 99), st.integers(-99, 99)).filter(lambda p: p[0] != p[1])
tuples, lists = pairs.map(lambda p: f"({p[0]},{p[1]})"), pairs.map(lambda p: f"{p[0]}, {p[1]}")
golds = st.one_of(naturals, naturals.map(lambda n: f"-{n}"), decimals, fractions, roots, linear, tuples, lists)


@settings(max_examples=20)
@example("0.99")
@example("2.00")
@given(golds)
def test_no_mutation_of_a_gold_answer_is_accepted(gold: str) -> None:
    cases = [Case(text, gold) for _, text in mutated(gold)]
    grades = Maths(WHOLE, deadline=20.0).grade_all(cases)
    assert not [case.response for case, grade in zip(cases, grades, strict=True) if grade.reward != 0.0]


@settings(max_examples=20)
@given(golds)
def test_every_rewriting_of_a_gold_answer_is_accepted(gold: str) -> None:
    cases = [Case(text, gold) for _, text in rewritten(gold)]
    grades = Maths(WHOLE, deadline=20.0).grade_all(cases)
    assert not [case.response for case, grade in zip(cases, grades, strict=True) if grade.reward != 1.0]


@given(naturals)
def test_numbers_alone_are_as_strict(gold: str) -> None:
    wrong = [text for kind, text in mutated(gold) if kind in ("sign", "relation", "two answers", "negation", "digit")]
    assert not [text for text in wrong if Number(WHOLE).grade(text, gold, {}).reward != 0.0]


@pytest.mark.parametrize("name", ["gsm8k", "math", "math500", "aime2024", "bbh", "mmlu", "mmlu_pro"])
def test_mutations_of_every_problem_set_are_told(name: str, benchmark_data: Path) -> None:
    kinds = {"gsm8k": GSM8K, "math": MATH, "math500": MATH500, "bbh": BBH, "mmlu": MMLU, "mmlu_pro": MMLUPro}
    path = str(benchmark_data / name)
    source: ProblemSet = AIME(2024, path) if name == "aime2024" else kinds[name](path)
    problems = [problem for problem in source.heldout() if problem.answer]
    drawn = Random(5).sample(problems, min(12, len(problems)))
    for made, right, most in ((mutated, False, 0.002), (rewritten, True, 0.02)):
        answers = [(problem, text) for problem in drawn for _, text in made(problem.answer)]
        form = source.form.answer
        answers = [(p, text) for p, text in answers if right or form.find(written(form, text)) != p.answer]  # "42. 43"
        grades = source.grade_all([(problem, written(form, text)) for problem, text in answers])
        missed = [
            f"{problem.answer} <- {text}"
            for (problem, text), grade in zip(answers, grades, strict=True)
            if (grade.reward == 1.0) is not right
        ]
        assert len(missed) <= most * len(answers), missed
