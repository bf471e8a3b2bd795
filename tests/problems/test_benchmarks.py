"""Real benchmark data: official counts, gold answers right, benchmarks refused for training."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from gpo_lightning.errors import ConfigError, DataError
from gpo_lightning.problems import AIME, BBH, GSM8K, MATH, MATH500, MMLU, Chat, MMLUPro, Plain
from gpo_lightning.problems.bbh import TASKS
from gpo_lightning.problems.problem_set import ProblemSet
from gpo_lightning.problems.prompt_styles import Prompting
from gpo_lightning.problems.question import written
from gpo_lightning.rewards import Boxed, Phrase
from gpo_lightning.rewards.formats import AnswerFormat

Make = Callable[[Path, Prompting], ProblemSet]

SETS: dict[str, tuple[Make, int, int]] = {
    "gsm8k": (lambda data, style: GSM8K(str(data / "gsm8k"), style), 7473, 1319),
    "math": (lambda data, style: MATH(str(data / "math"), style), 7500, 5000),
    "math500": (lambda data, style: MATH500(str(data / "math500"), style, str(data / "math")), 0, 500),
    "aime2024": (lambda data, style: AIME(2024, str(data / "aime2024"), style, str(data / "math")), 0, 30),
    "aime2025": (lambda data, style: AIME(2025, str(data / "aime2025"), style, str(data / "math")), 0, 30),
    "another aime2025": (
        lambda data, style: AIME(2025, str(data / "aime2025" / "aime_2025.jsonl"), style, str(data / "math")),
        0,
        30,
    ),
    "bbh": (lambda data, style: BBH(str(data / "bbh"), style), 0, 6511),
    "mmlu": (lambda data, style: MMLU(str(data / "mmlu"), style), 0, 14042),
    "mmlu_pro": (lambda data, style: MMLUPro(str(data / "mmlu_pro"), style), 0, 12032),
}
WITHOUT_ANSWER = {"math/train/number_theory/7115.json", "math/train/number_theory/7117.json"}
"""Their box is empty upstream: the answer was the letter of an option that was taken out."""


@pytest.mark.parametrize("name", SETS)
def test_every_set_has_its_official_count_and_its_gold_answers_are_right(benchmark_data: Path, name: str) -> None:
    make, train_size, heldout_size = SETS[name]
    source = make(benchmark_data, Chat())
    sides = [source.heldout(), *([source.train()] if train_size else [])]
    assert [len(side) for side in sides] == [heldout_size, *([train_size] if train_size else [])]
    for problems in sides:
        responses = [(problem, written(source.form.answer, problem.answer)) for problem in problems]
        responses += [(problem, problem.solution) for problem in problems if problem.solution]
        grades = source.grade_all(responses)
        wrong = {problem.id for (problem, _), grade in zip(responses, grades, strict=True) if grade.reward != 1.0}
        assert wrong <= WITHOUT_ANSWER
        assert all(problem.metadata["category"] for problem in problems)


@pytest.mark.parametrize("name", [name for name in SETS if name not in ("gsm8k", "math")])
def test_benchmarks_refuse_to_be_trained_on(name: str) -> None:
    source = SETS[name][0](Path("/nowhere"), Chat())
    with pytest.raises(ConfigError, match=r"data\.problems: \w+ is a benchmark.*force_training: true"):
        source.train()


def test_a_benchmark_can_be_forced(benchmark_data: Path) -> None:
    assert len(AIME(2025, str(benchmark_data / "aime2025"), force_training=True).train()) == 30


@pytest.mark.parametrize("answer", [Boxed(), Phrase()], ids=repr)
@pytest.mark.parametrize("name", SETS)
def test_examples_are_shown_in_every_style(benchmark_data: Path, name: str, answer: AnswerFormat) -> None:
    make = SETS[name][0]
    chat = make(benchmark_data, Chat(shots=2, answer=answer)).heldout()[0]
    assert len(chat.messages) == 5
    assert all(answer.find(turn.content) for turn in chat.messages if turn.role == "assistant")
    plain = make(benchmark_data, Plain(shots=2, answer=answer)).heldout()[0]
    assert str(plain.prompt).count("Question: ") >= 3
    assert str(plain.prompt).endswith("\nAnswer:")


def test_bbh_asks_as_its_authors_did(benchmark_data: Path) -> None:
    style = Plain(preface="{description}", template="Q: {question}\nA: Let's think step by step.\n")
    source = BBH(str(benchmark_data / "bbh"), style)
    first = {problem.metadata["category"]: problem for problem in reversed(source.heldout())}
    for task in TASKS:
        text = (benchmark_data / "bbh" / "cot-prompts" / f"{task}.txt").read_text()
        published = text.split("-----\n", 1)[1].strip()
        problem = first[task]
        question = problem.metadata["question"]
        expected = f"{published}\n\nQ: {question}\nA: Let's think step by step.\n"
        squeezed = [" ".join(part.split()) for part in (str(problem.prompt), expected)]
        assert squeezed[0] == squeezed[1], task
        assert "canary" not in str(problem.prompt)


def test_categories_are_tasks_and_subjects(benchmark_data: Path) -> None:
    def categories(source: ProblemSet) -> Counter[str]:
        return Counter(problem.metadata["category"] for problem in source.heldout())

    assert set(categories(BBH(str(benchmark_data / "bbh")))) == set(TASKS)
    assert len(categories(MMLU(str(benchmark_data / "mmlu")))) == 57
    assert len(categories(MMLUPro(str(benchmark_data / "mmlu_pro"), Chat(shots=0)))) == 14
    assert categories(BBH(str(benchmark_data / "bbh"), tasks=["snarks"])) == {"snarks": 178}


def test_levels_and_subjects_choose_problems(benchmark_data: Path) -> None:
    source = MATH(str(benchmark_data / "math"), levels=[1, 2], subjects=["Number Theory"])
    problems = source.train()
    assert {problem.metadata["level"] for problem in problems} == {1, 2}
    assert {problem.metadata["category"] for problem in problems} == {"Number Theory"}


def test_aime_answers_are_whole_numbers_without_leading_zeros(benchmark_data: Path) -> None:
    answers = [problem.answer for problem in SETS["aime2024"][0](benchmark_data, Chat()).heldout()]
    assert "25" in answers
    assert all(str(int(answer)) == answer for answer in answers)


def test_gsm8k_solutions_have_no_calculator_marks(benchmark_data: Path) -> None:
    for problem in GSM8K(str(benchmark_data / "gsm8k")).train():
        assert "<<" not in str(problem.solution)
        assert "####" not in str(problem.solution)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BBH("/tmp", tasks=["snark"]), "unknown snark; there are: boolean_expressions"),
        (lambda: MATH("/tmp", levels=[6]), "levels of MATH are 1 to 5"),
        (lambda: MATH("/tmp", subjects=["Logic"]), "unknown Logic"),
    ],
)
def test_unknown_parts_are_named(make: Callable[[], ProblemSet], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_bbh_from_the_hub_needs_its_prompts_or_no_examples() -> None:
    with pytest.raises(ConfigError, match=r"prompts: BBH's worked examples are not on the hub.*shots to 0"):
        BBH().examples("snarks")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('{"question": "1", "answer": "one"}', r"test\.jsonl:1: the answer has no line `#### N`"),
        ('{"question": "1"}', r"test\.jsonl:1: no column 'answer'"),
    ],
)
def test_malformed_rows_are_named(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "test.jsonl").write_text(rows)
    with pytest.raises(DataError, match=message):
        GSM8K(str(tmp_path)).heldout()
