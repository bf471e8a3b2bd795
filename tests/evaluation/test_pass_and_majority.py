"""pass@k and maj@k against brute force: every subset of k responses is looked at."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from math import comb

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation import PassAtK, majority_at_k, pass_at_k
from gpo_lightning.evaluation.estimate import wilson_interval
from gpo_lightning.evaluation.majority_at_k import MajorityAtK

Vote = tuple[str | None, float | None]
REWARDS = {"7": 1.0, "8": 0.0, "9": 0.0, "half": 0.5, "broken": None}
VOTES = st.lists(st.sampled_from([*REWARDS.items(), (None, 0.0)]), min_size=1, max_size=8)


def share_of_subsets_with_a_right_one(right: int, drawn: int, k: int) -> float:
    subsets = list(combinations([1] * right + [0] * (drawn - right), k))
    return sum(any(subset) for subset in subsets) / len(subsets)


def vote_won(votes: Sequence[Vote]) -> float:
    """One vote, by the rules as they are written down."""
    counts = Counter(answer for answer, _ in votes if answer is not None)
    winners = [answer for answer in counts if counts[answer] == max(counts.values())]
    return sum(REWARDS[winner] or 0.0 for winner in winners) / len(winners) if winners else 0.0


class TestPassAtK:
    @given(st.data())
    def test_it_is_the_share_of_subsets_that_hold_a_right_response(self, data: st.DataObject) -> None:
        drawn = data.draw(st.integers(1, 9))
        right, k = data.draw(st.integers(0, drawn)), data.draw(st.integers(1, drawn))
        found = pass_at_k(torch.tensor([right]), torch.tensor([drawn]), k)
        assert found.item() == pytest.approx(share_of_subsets_with_a_right_one(right, drawn, k), abs=1e-12)

    def test_it_stays_exact_where_binomials_overflow(self) -> None:
        found = pass_at_k(torch.tensor([1, 3]), torch.tensor([10_000, 10_000]), 5_000).tolist()
        exact = [1 - comb(10_000 - c, 5_000) / comb(10_000, 5_000) for c in (1, 3)]
        assert found == pytest.approx(exact, rel=1e-9)

    def test_pass_at_1_is_the_mean_reward(self) -> None:
        assert pass_at_k(torch.tensor([3, 0]), torch.tensor([4, 4]), 1).tolist() == pytest.approx([0.75, 0.0])

    def test_missing_responses_are_wrong_ones(self) -> None:
        """No response could be graded, or fewer than k."""
        assert pass_at_k(torch.tensor([0, 1]), torch.tensor([0, 2]), 4).tolist() == [0.0, 1.0]

    def test_no_problems_have_no_values(self) -> None:
        assert pass_at_k(torch.tensor([]), torch.tensor([]), 2).shape == (0,)

    def test_the_interval_is_no_narrower_than_that_of_disjoint_groups(self) -> None:
        metric = PassAtK(k=4)
        metric.update(torch.tensor([2, 2, 2]), torch.tensor([8, 8, 8]))
        found = {name: float(value) for name, value in metric.compute().items()}
        assert (found["low"], found["high"]) == pytest.approx(wilson_interval(found["pass@4"], 3))
        metric.update(torch.tensor([2, 3, 2]), torch.tensor([8, 8, 8]))
        found = {name: float(value) for name, value in metric.compute().items()}
        assert (found["low"], found["high"]) == pytest.approx(wilson_interval(found["pass@4"], 12))


class TestMajorityAtK:
    @given(VOTES, st.data())
    def test_it_is_the_mean_over_all_subsets(self, votes: list[Vote], data: st.DataObject) -> None:
        k = data.draw(st.integers(1, len(votes)))
        subsets = list(combinations(votes, k))
        expected = sum(vote_won(subset) for subset in subsets) / len(subsets)
        assert majority_at_k(votes, k) == pytest.approx(expected, abs=1e-12)

    @given(VOTES, st.randoms())
    def test_the_order_of_responses_does_not_matter(self, votes: list[Vote], random: "object") -> None:
        shuffled = list(votes)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        assert majority_at_k(shuffled, len(votes)) == majority_at_k(votes, len(votes))

    @pytest.mark.parametrize(
        ("votes", "expected"),
        [
            ([("7", 1.0), ("8", 0.0)], 0.5),
            ([(None, 0.0)] * 3, 0.0),
            ([("7", 1.0), (None, 0.0), (None, 0.0)], 1.0),
            ([("broken", None), ("broken", None), ("7", 1.0)], 0.0),
            ([], 0.0),
        ],
        ids=["a tie is shared", "nobody votes", "the silent have no say", "a winner without verdict", "no responses"],
    )
    def test_edges(self, votes: list[Vote], expected: float) -> None:
        assert majority_at_k(votes, 3) == expected

    def test_many_responses_take_no_time(self) -> None:
        """All different answers but a few: the worst case of naive counting."""
        votes: list[Vote] = [("right", 1.0)] * 8 + [(str(i), 0.0) for i in range(120)]
        assert 0.3 < majority_at_k(votes, 64) < 1

    def test_the_metric_is_the_mean_over_problems(self) -> None:
        metric = MajorityAtK(k=1)
        metric.update([[("7", 1.0)], [("8", 0.0)]])
        metric.update([[("7", 1.0), ("8", 0.0)]])
        assert float(metric.compute()["maj@1"]) == pytest.approx(0.5)


def test_a_k_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"pass@k"):
        pass_at_k(torch.tensor([1]), torch.tensor([1]), 0)
    with pytest.raises(ConfigError, match=r"maj@k"):
        majority_at_k([("7", 1.0)], 0)
