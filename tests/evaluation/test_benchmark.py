"""Evaluation on a scripted policy that answers rightly three times in four."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from gpo_lightning.engines import Purpose, Sampling, Scripted
from gpo_lightning.evaluation.benchmark import respond
from gpo_lightning.evaluation.success import problem_rewards
from gpo_lightning.problems import Problem, ProblemSource
from gpo_lightning.rewards import Grade, Grader, MarkedAnswer
from gpo_lightning.rollouts import Progress, RolloutTree
from tests.conftest import tree_of

EOS, RIGHT, WRONG = 2, 6, 7
CONTEXT = 12


class Words:
    """A prompt of n characters is n tokens; 6 is the right answer and 7 a wrong one."""

    texts: Mapping[int, str] = {EOS: "", 3: "?", RIGHT: "#1", WRONG: "#0"}
    chat_template = None
    name_or_path = "words"

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [3] * len(text)

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return "".join(self.texts[i] for i in ids)


class Questions(ProblemSource):
    def __init__(self, grader: Grader | None = None) -> None:
        self._grader = grader or MarkedAnswer("#")

    def train(self) -> list[Problem]:
        return []

    def heldout(self) -> list[Problem]:
        return [Problem(f"p{i}", "t", "1", prompt="?") for i in range(50)]

    @property
    def grader(self) -> Grader:
        return self._grader


def answer(tokens: tuple[int, ...]) -> Mapping[int, float]:
    return {EOS: 1.0} if tokens[-1] in (RIGHT, WRONG) else {RIGHT: 0.75, WRONG: 0.25}


def evaluate(problems: list[Problem], seed: int = 0, samples: int = 2, **kwargs: Any) -> Any:
    engine = Scripted(answer, EOS, context=CONTEXT)
    source = kwargs.pop("source", Questions())
    trees, counts = respond(engine, Words(), source, problems, Sampling(8), samples, seed, **kwargs)  # type: ignore[arg-type]
    return trees, counts, engine


def test_every_problem_has_its_responses_in_the_order_asked() -> None:
    problems = Questions().heldout()
    trees, counts, engine = evaluate(problems, samples=3)
    assert [tree.problem.id for tree in trees] == [problem.id for problem in problems]
    assert all(len(tree.trajectories) == 3 for tree in trees)
    assert all(sample.purpose is Purpose.EVALUATION for tree in trees for sample in tree.samples)
    assert counts["graded_right"] + counts["graded_wrong"] == 150
    assert engine.ledger.accounts[Purpose.EVALUATION].generated == 300


def test_the_success_rate_is_that_of_the_policy() -> None:
    trees, _, _ = evaluate(Questions().heldout(), samples=8)
    assert float(problem_rewards(trees).mean()) == pytest.approx(0.75, abs=0.08)


def test_the_same_seed_gives_the_same_responses_and_another_seed_others() -> None:
    def responses(seed: int) -> list[Any]:
        return [tree.samples for tree in evaluate(Questions().heldout(), seed)[0]]

    assert responses(1) == responses(1)
    assert responses(1) != responses(2)


def test_a_problems_responses_do_not_depend_on_what_else_is_asked() -> None:
    """So ranks that share the problems otherwise measure the same."""
    problems = Questions().heldout()
    alone = evaluate(problems[7:9])[0]
    together = evaluate(problems)[0]
    assert [tree.samples for tree in alone] == [tree.samples for tree in together[7:9]]


def test_a_prompt_that_does_not_fit_is_counted_and_fails() -> None:
    problems = [Problem("long", "t", "1", prompt="?" * CONTEXT), Questions().heldout()[0]]
    trees, counts, _ = evaluate(problems)
    assert counts["prompt_too_long"] == 1
    assert [len(tree.samples) for tree in trees] == [0, 2]
    assert problem_rewards(trees)[0] == 0.0


def test_a_response_that_cannot_be_graded_is_counted_and_fails() -> None:
    class Silent(Grader):
        def grade(self, response: str, answer: str, metadata: Mapping[str, Any]) -> Grade:
            return Grade(None, "broken")

    trees, counts, _ = evaluate(Questions().heldout()[:4], source=Questions(Silent()))
    assert counts["ungraded"] == 8
    assert problem_rewards(trees).tolist() == [0.0] * 4


def test_the_listener_hears_of_every_problem() -> None:
    heard: list[Progress] = []
    evaluate(Questions().heldout()[:5], listener=heard.append)
    assert sorted({progress.done for progress in heard}) == list(range(6))
    assert heard[0] == Progress("evaluation", 0, 5, 0, {"evaluation": 10}), "before anything has finished"
    assert heard[-1] == Progress("evaluation", 5, 5, tokens=20)


def test_a_problems_reward_is_the_mean_over_its_graded_responses() -> None:
    trees: list[RolloutTree] = [
        tree_of([((3,), 0, 1.0), ((4,), 0, 0.0), ((5,), 0, None)]),
        tree_of([((3,), 0, 1.0)]),
        tree_of([]),
    ]
    found = problem_rewards(trees)
    assert found.tolist() == [0.5, 1.0, 0.0]
    assert found.dtype == torch.float64
    assert problem_rewards([]).shape == (0,)
