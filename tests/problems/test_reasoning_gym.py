"""reasoning-gym's tasks: split by text, solved where the steps are known, and graded without partial credit."""

import json
import signal
from contextlib import chdir
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reasoning_gym.factory import DATASETS

from gpo_lightning.errors import ConfigError
from gpo_lightning.problems import ChainSum, ReasoningGym
from gpo_lightning.problems.answer_languages import LANGUAGES
from gpo_lightning.problems.chain_sum import worked_sum
from gpo_lightning.problems.gym_scorer import make_dataset, score
from gpo_lightning.problems.reasoning_gym import StrictScore
from gpo_lightning.rewards import Case, Grade
from gpo_lightning.rewards.marked_answer import marked_answer

seeds = st.integers(0, 10**6)


@settings(max_examples=8)
@given(seeds, seeds, st.integers(1, 20), st.integers(1, 6))
def test_training_and_heldout_sums_are_disjoint_whatever_their_seeds_and_sizes(
    seed: int, heldout_seed: int, train_size: int, heldout_size: int
) -> None:
    one = ChainSum(3, train_size=train_size, heldout_size=heldout_size, seed=seed, heldout_seed=heldout_seed)
    other = ChainSum(3, train_size=3 * train_size, heldout_size=heldout_size, seed=heldout_seed, heldout_seed=seed)
    train = [problem.messages for problem in one.train()]
    heldout = [problem.messages for problem in one.heldout()]
    assert len(set(train)) == train_size
    assert len(set(heldout)) == heldout_size
    assert {*train, *(p.messages for p in other.train())}.isdisjoint({*heldout, *(p.messages for p in other.heldout())})


def test_sums_are_asked_bare_solved_rightly_and_graded_so() -> None:
    source = ChainSum(terms=5, digits=2, train_size=30)
    for problem in source.train():
        (turn,) = problem.messages
        assert str(eval(turn.content, {"__builtins__": {}})) == problem.answer
        assert str(problem.solution).endswith(f"\nAnswer: {problem.answer}")
        assert len(str(problem.solution).split("\n")) == 5
        assert source.grade(problem, str(problem.solution)).reward == 1.0
        assert source.grade(problem, f"Answer: {int(problem.answer) + 1}").reward == 0.0


def test_every_line_of_a_worked_sum_is_true() -> None:
    *lines, answer = worked_sum("4 + 7 - 13 + 2").split("\n")
    assert lines == ["4 + 7 = 11", "11 - 13 = -2", "-2 + 2 = 0"]
    assert answer == "Answer: 0"


@pytest.mark.parametrize("form", ["{}0", "1{}", "{} ", "the sum is {}", "{} or 5", "{0} {0}"])
@pytest.mark.parametrize("task", ["basic_arithmetic", "chain_sum", "letter_counting"])
def test_partial_credit_is_refused(task: str, form: str) -> None:
    """The library's scorers give 0.75 to 2920 where 292 is right."""
    source = ReasoningGym(task, train_size=3)
    for problem in source.train():
        given_answer = form.format(problem.answer)
        exact = given_answer.strip() == problem.answer
        assert source.grade(problem, f"Answer: {given_answer}").reward == float(exact)
        assert source.grade(problem, given_answer).reason == "unparsed"


def test_the_librarys_own_scorer_would_have_given_partial_credit() -> None:
    """Else the test above could not fail."""
    source = ReasoningGym("chain_sum", train_size=1)
    (problem,) = source.train()
    job = ["chain_sum", {}, None, f"{problem.answer}0", problem.answer, problem.metadata["entry"]]
    assert 0 < score(job, lambda stage: None) < 1


def test_a_scorer_that_fails_grades_nothing() -> None:
    grader = StrictScore("jugs", {}, None, "Answer:")
    assert grader.grade("Answer: []", "x", {"entry": {"puzzle": 3}}).reward == 0.0, "the scorer catches what it can"
    grader = StrictScore("rubiks_cube", {}, None, "Answer:")
    assert grader.grade("Answer: U R", "None", {"entry": {}}) == Grade(None, "scorer_failed", "U R")
    assert grader.grade("Answer: U R", "None", {}).reason == "scorer_failed"


@pytest.mark.parametrize("task", ["chain_sum", "word_sorting", "letter_counting"])
def test_ids_are_unique_and_what_is_stored_is_json(task: str) -> None:
    """Many tasks begin every question with the same long sentence."""
    problems = ReasoningGym(task, train_size=10).train()
    assert len({problem.id for problem in problems}) == 10
    assert all(problem.id.startswith(f"{task}/") and len(problem.id) < 120 for problem in problems)
    assert all(json.loads(json.dumps(problem.metadata)) for problem in problems)


def test_the_user_turn_follows_template_pattern_and_system() -> None:
    source = ReasoningGym(
        "chain_sum", train_size=1, template="Sum: {question}!", pattern=r": (.*) =", system="Be brief.", marker="So"
    )
    (problem,) = source.train()
    system, user = problem.messages
    assert (system.role, system.content) == ("system", "Be brief.")
    assert user.role == "user"
    assert eval(user.content.removeprefix("Sum: ").removesuffix("!"), {"__builtins__": {}}) == int(problem.answer)
    assert source.grade(problem, f"So {problem.answer}").reward == 1.0


def test_problems_without_known_steps_have_no_solution() -> None:
    assert ReasoningGym("letter_counting", train_size=1).train()[0].solution is None


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(ConfigError, match=r"data\.problems.*no_such_task"):
        ReasoningGym("no_such_task").train()


def test_options_the_task_does_not_know_or_allow_are_named() -> None:
    with pytest.raises(ConfigError, match=r"data\.problems.*no_such_option"):
        ReasoningGym("chain_sum", {"no_such_option": 1}).train()
    with pytest.raises(ConfigError, match=r"data\.problems.*min_terms"):
        ReasoningGym("chain_sum", {"min_terms": 5, "max_terms": 2}).train()


def test_a_pattern_that_does_not_match_is_named_with_the_question() -> None:
    with pytest.raises(ConfigError, match=r"data\.problems\.pattern 'x\{9\}' does not match the question"):
        ReasoningGym("chain_sum", train_size=1, pattern="x{9}").train()


def test_a_template_without_the_question_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.problems\.template"):
        ReasoningGym("chain_sum", template="Think.")


def test_more_problems_than_there_are_is_an_error_not_a_hang() -> None:
    with pytest.raises(ConfigError, match=r"data\.problems.*only \d+ different"):
        ChainSum(terms=2, digits=1, heldout_size=60).heldout()


SIDE_EFFECTS = (
    "__import__('os').system('touch was_here')",
    "__import__('pathlib').Path('was_here').touch()",
    'eval(\'__import__("os").system("touch was_here")\')',
    "[open('was_here', 'w')]",
    "x.__class__.__base__.__subclasses__()",
    "(lambda: 1)()",
    "{0: exit()}",
)
FORGED = (
    'eval(\'type("E", (), {"__eq__": lambda *a: True})()\')',
    "type('E',(int,),{'__eq__':lambda s,o:True})()",
    "nan + nan*I",
    "[NaN, NaN, NaN]",
    "Integral(x**2, x)",
)
BOMBS = (
    "9**9**9**9",
    "9* *9* *9",
    "[9**9**9]",
    "factorial(99999999)",
    "'a'*9**9",
    "[" * 50_000,
    "1e9**9e9",
)


def test_no_scorer_of_the_library_is_shown_what_is_no_answer(tmp_path: Path) -> None:
    """All tasks the library has, be they known here or not."""
    with chdir(tmp_path):
        for task in sorted(DATASETS):
            grader = StrictScore("composite", {}, None, "Answer:")
            cases = [
                Case(f"Answer: {text}", "7", {"entry": {"source_dataset": task}})
                for text in (*SIDE_EFFECTS, *FORGED, *BOMBS)
            ]
            asked: list[str] = [f"{task}: {case.response[:60]}" for case in cases if not _at_sight(grader, case)]
            assert asked == []
            assert {grade.reward for grade in grader.grade_all(cases)} == {0.0}
    assert not list(tmp_path.iterdir())


def _at_sight(grader: StrictScore, case: Case) -> bool:
    return grader._at_sight(marked_answer(case.response, grader.marker), case) is not None


def test_even_a_scorer_that_runs_an_answer_can_do_nothing_with_it(tmp_path: Path) -> None:
    """Past the languages, straight at the worker: what holds should a language let something through."""
    pool = StrictScore("x", {}, None, "Answer:").pool
    traces = [tmp_path / f"trace {i}" for i in range(2)]
    attacks = [f"__import__('os').system('touch {traces[0]}')", f"open('{traces[1]}', 'w')"]
    tasks = ("polynomial_multiplication", "binary_matrix", "countdown", "simple_integration")
    pool.run(
        [[task, {}, None, attack, "7", {"variable": "x", "integrand": "x"}] for task in tasks for attack in attacks]
    )
    assert not list(tmp_path.iterdir())
    score(["polynomial_multiplication", {}, None, attacks[1], "7", {}], lambda stage: None)
    assert traces[1].exists(), "without a worker the scorer does run it, else this test could not fail"


def test_a_bomb_within_the_language_ends_at_the_deadline() -> None:
    grader = StrictScore("polynomial_multiplication", {}, None, "Answer:", deadline=1.5, workers=1)
    bomb, entry = "((((9**99)**99)**99)**99)**99", {"entry": {}}
    grader.grade("Answer: 2*x + 1", "1 + x", entry)  # so that the data set is there
    grades = grader.grade_all([Case(f"Answer: {text}", "x + 2", entry) for text in (bomb, "2 + x")])
    assert [(grade.reward, grade.reason) for grade in grades] == [(0.0, "timeout"), (1.0, "right")]
    grader.pool.close()


@pytest.mark.parametrize(
    ("task", "given_answer", "gold", "entry", "right"),
    [
        ("complex_arithmetic", "nan", "1.0 + 2.0i", {"result": [1.0, 2.0]}, False),
        ("complex_arithmetic", "1 + 2i", "1.0 + 2.0i", {"result": [1.0, 2.0]}, True),
        ("game_of_life_halting", "True", "False", {}, False),
        ("number_sorting", "[NaN, NaN]", "['1.0', '3.0']", {"direction": "ascending"}, False),
        ("number_sorting", "[1, 3]", "['1.0', '3.0']", {"direction": "ascending"}, True),
        ("puzzle24", "6*4*1*1", "4*8 - 6 - 2", {}, False),
        ("puzzle24", "8*4 - 6 - 2", "4*8 - 6 - 2", {}, True),
        ("graph_color", "None", "None", {}, False),
        ("polynomial_multiplication", "3*x**2 + 6*x", "6*x + 3*x**2", {}, True),
        ("simple_integration", "x**2 + C", "x**2 + C", {"variable": "x", "integrand": "2*x"}, True),
        ("simple_integration", "7 + x**2", "x**2 + C", {"variable": "x", "integrand": "2*x"}, True),
        ("simple_integration", "Integral(2*x, x)", "x**2 + C", {"variable": "x", "integrand": "2*x"}, False),
        ("zebra_puzzles", "Arnold", "arnold", {}, True),
        ("decimal_chain_sum", "+12.50", "12.5", {}, True),
    ],
)
def test_what_is_right_is_right_and_what_only_looks_so_is_not(
    task: str, given_answer: str, gold: str, entry: dict[str, object], right: bool
) -> None:
    grade = StrictScore(task, {}, None, "Answer:").grade(f"Answer: {given_answer}", gold, {"entry": entry})
    assert grade.reward == float(right)


QUICK = sorted(set(LANGUAGES) - {"knight_swap", "sokoban", "intermediate_integration", "puzzle24", "zebra_puzzles"})


PIECES = ["a", "1", "1,", "1, ", "A ", "9*", "x**2+", "(", "1:", "A=1,", "A→", "U", "R2 ", "1.", "ab'", "1/", "é", " "]


@pytest.mark.parametrize("task", sorted(LANGUAGES))
def test_a_near_miss_takes_no_longer_than_a_match(task: str) -> None:
    """Patterns that can read a text in two ways a piece need 2^n steps, in a process that nothing can kill."""

    def ring(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, 3)  # of the processor, which others use too
    try:
        for piece, end in product(PIECES, "!\n€"):
            LANGUAGES[task]((piece * 990)[:990] + end)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@pytest.mark.parametrize("answer", ["1, 2", "-1.5,2", "1,234.5, 6", "3", "1e-3,4"])
def test_several_numbers_are_an_answer_to_equations(answer: str) -> None:
    assert LANGUAGES["polynomial_equations"](answer)


def test_gold_answers_are_in_their_tasks_languages() -> None:
    """Those that are one line; where a task has several right answers the gold one is taken literally in any case."""
    outside: dict[str, list[str]] = {}
    for task in QUICK:
        golds = [str(make_dataset(task, {}, None, 6, 3)[i]["answer"]) for i in range(3)]
        outside[task] = [gold for gold in golds if gold != "None" and len(gold) < 200 and not LANGUAGES[task](gold)]
    none = {task for task, golds in outside.items() if len(golds) == 3}
    assert none == set()
