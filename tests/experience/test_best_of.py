"""Best-of-N replacement: what the authors' earlier code did, bias and all."""

from collections import Counter

import pytest

from gpo_lightning.experience import BestOf, PolicyGradient
from gpo_lightning.rollouts import RolloutTree
from gpo_lightning.rollouts.tree import ValueCurve
from tests.conftest import tree_of

EXPLORED = (5, 6, 7)


def tree(*continuations: tuple[tuple[int, ...], float | None]) -> RolloutTree:
    """Three responses, of which the first, a wrong one, was explored and reset to after its first token."""
    samples = [(EXPLORED, 0, 0.0), ((8, 9), 0, 1.0), ((8, 8), 0, 0.0)]
    made = tree_of([*samples, *((tokens, 1, reward) for tokens, reward in continuations)])
    made.curves.append(ValueCurve(EXPLORED, (0, 1, 3), (0.3, 0.2, 0.0), critical=1))
    return made


def rewards(made: RolloutTree) -> list[float]:
    return [example.reward for example in BestOf(keep_uniform=True).build([made], Counter())]  # type: ignore[attr-defined]


def test_the_best_continuation_takes_the_explored_one_s_place() -> None:
    examples = BestOf().build([tree(((5, 4, 4), 0.0), ((5, 3, 2), 1.0))], Counter())
    assert [example.reward for example in examples] == [1.0, 1.0, 0.0]  # type: ignore[attr-defined]
    row = examples[0].rows[0]
    assert (row.context, row.actions) == ((1, 2), (5, 3, 2)), "prefix and continuation are learnt as one draw"
    assert row.rollout_logprobs == pytest.approx((-0.1, -0.1, -0.2)), "each part by the draw it came from"


def test_nothing_better_leaves_it_as_it_was() -> None:
    assert rewards(tree(((5, 4, 4), 0.0))) == [0.0, 1.0, 0.0]
    assert rewards(tree()) == [0.0, 1.0, 0.0]
    assert rewards(tree(((5, 4, 4), None))) == [0.0, 1.0, 0.0]


def test_the_baseline_shows_the_bias() -> None:
    made = tree(((5, 4, 4), 0.0), ((5, 3, 2), 1.0))
    replaced = BestOf().build([made], Counter())
    fair = PolicyGradient(starts=("prompt",)).build([made], Counter())
    assert sum(e.reward for e in replaced) > sum(e.reward for e in fair)  # type: ignore[attr-defined]
