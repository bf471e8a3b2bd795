"""No problem is learnt from that a benchmark asks."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.problems import GSM8K, MATH, MATH500, ChainSum, Decontaminated, Mixture, ReasoningGym, Table
from gpo_lightning.problems.decontaminated import normalised


def table(file: Path, questions: list[str]) -> str:
    file.write_text("".join(json.dumps({"question": question, "answer": "1"}) + "\n" for question in questions))
    return str(file)


def test_copies_are_dropped_whatever_their_case_blanks_and_punctuation(tmp_path: Path) -> None:
    train = table(tmp_path / "train.jsonl", ["Find $x^2$,  now!", "Find x+3", "Find x-3", "Other"])
    test = table(tmp_path / "test.jsonl", ["find $x^{2}$\\, now", "Find $x + 3$."])
    source = Decontaminated(Table(train, test, kind="number"), [Table(heldout=test, kind="number")])
    assert [problem.metadata["question"] for problem in source.train()] == ["Find x-3", "Other"]
    assert source.counts["in_a_benchmark"] == len(source.dropped) == 2
    assert len(source.heldout()) == 2
    assert source.grade(source.train()[0], "\\boxed{1}").reward == 1.0


@given(st.text(max_size=60), st.sampled_from([" ", "\n", "$", ",", "\\,", "\\!", "?"]), st.integers(0, 60))
def test_spacing_and_case_never_hide_a_copy(text: str, noise: str, place: int) -> None:
    words = text.replace("\\", "").split()
    spaced = [*words[:place], noise, *words[place:]]
    assert normalised(" ".join(spaced).swapcase()) == normalised(" ".join(words).swapcase())


@pytest.mark.parametrize(("one", "other"), [("2 + 3", "2 - 3"), ("3.5", "35"), ("x^2", "x_2"), ("a < b", "a > b")])
def test_what_differs_in_sense_differs(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


def test_of_math_only_the_known_copies_are_in_the_test_split_and_none_in_math_500(benchmark_data: Path) -> None:
    math = MATH(str(benchmark_data / "math"))
    clean = Decontaminated(math, [MATH500(str(benchmark_data / "math500"))])
    assert (len(clean.train()), clean.counts["in_a_benchmark"]) == (7500, 0)
    assert 1 <= clean.counts["in_train"] == 5000 - len(clean.heldout()) <= 10, "what is learnt is not measured by"
    copies = Decontaminated(math, [math])
    assert len(copies.heldout()) == 5000
    exact = {problem.metadata["question"] for problem in math.heldout()}
    assert [problem.id for problem in copies.dropped if problem.metadata["question"] in exact]
    assert len(copies.train()) + len(copies.dropped) == 7500
    assert 1 <= len(copies.dropped) <= 10


def test_gsm8k_is_clean(benchmark_data: Path) -> None:
    source = GSM8K(str(benchmark_data / "gsm8k"))
    assert Decontaminated(source, [source]).counts["in_a_benchmark"] == 0


def test_a_mixture_asks_all_and_judges_each_by_its_own_grader() -> None:
    sums = ChainSum(3, train_size=3, heldout_size=2)
    source = Mixture({"sums": sums, "letters": ReasoningGym("letter_counting", train_size=2, heldout_size=2, level=0)})
    problems = source.train()
    assert [problem.metadata["source"] for problem in problems] == ["sums"] * 3 + ["letters"] * 2
    assert len({problem.id for problem in problems}) == 5
    right = source.grade_all([(problem, f"Answer: {problem.answer}") for problem in reversed(problems)])
    assert [grade.reward for grade in right] == [1.0] * 5
    assert {problem.metadata["category"] for problem in source.heldout()} == {"basic_arithmetic", "letter_counting"}
