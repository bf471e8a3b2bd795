"""KTO's divergence comes from truly mismatched pairs, and unpaired losses push each response its own way."""

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import MismatchedResponses, Rows, Scores
from gpo_lightning.experience.labelled import LabelledBatch
from gpo_lightning.experience.schedule import schedule
from gpo_lightning.losses import KTO, APOZeroUnpaired
from gpo_lightning.problems import Problem
from gpo_lightning.rollouts import RolloutTree
from tests.conftest import tree_of


def trees(sizes: list[int]) -> list[RolloutTree]:
    """Problem p has the prompt (p,) and responses whose every token is p, so that a stranger is seen at once."""
    made: list[RolloutTree] = []
    for number, size in enumerate(sizes, start=10):
        grown = tree_of([((number,) * (i + 1), 0, float(i % 2)) for i in range(size)], prompt=(number, number))
        tree = RolloutTree(Problem(f"p{number}", "t", "0", prompt="?"), grown.prompt)
        for sample in grown.samples:
            tree.add(sample)
        made.append(tree)
    return made


@given(st.lists(st.integers(1, 5), min_size=2, max_size=5), st.integers(1, 4), st.integers(1, 3))
def test_the_other_response_is_always_to_another_problem(sizes: list[int], micro_batch: int, accumulate: int) -> None:
    """With groups, odd batches and batches of one."""
    builder = MismatchedResponses(starts=("prompt",))
    examples = builder.build(trees(sizes), Counter())
    batches = schedule(examples, KTO().weights, micro_batch, accumulate)
    seen = 0
    for micro in batches:
        for rows in micro.collate(builder, 0).kl_rows:
            for ids, mask in zip(rows.input_ids, rows.loss_mask, strict=True):
                actions = ids[mask > 0].tolist()
                if actions:
                    seen += 1
                    assert ids[0].item() not in actions
    assert seen == len(examples), "every response has its counterpart, in the step that learns from it"


def test_a_single_problem_has_no_other_and_that_is_counted() -> None:
    counts: Counter[str] = Counter()
    builder = MismatchedResponses()
    (example, *_) = builder.build(trees([3]), counts)
    assert counts["no_other_problem"] == 3
    rows = builder.kl_rows([example], 0)
    assert not rows.loss_mask.any()


def test_the_kl_rows_are_on_the_first_micro_batch_of_a_step_alone_and_covers_the_step() -> None:
    builder = MismatchedResponses(starts=("prompt",))
    examples = builder.build(trees([2, 2, 2]), Counter())
    first, second = (batch.collate(builder, 0) for batch in schedule(examples, KTO().weights, 3, 2))
    assert [len(rows.loss_mask) for rows in first.kl_rows] == [3, 3]
    assert second.kl_rows == ()


def learn(loss: Any, drift: float, right: bool, divergence: float | None) -> tuple[float, float]:
    mask = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    ids = mask.long()
    logprobs = torch.tensor([[0.0, drift - 1.0]], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([[0.0, -1.0]], dtype=torch.float64)
    z = None if divergence is None else torch.tensor(divergence)
    batch = LabelledBatch(Rows(ids, ids, mask, mask), (1.0,), torch.tensor([right]))
    (value,) = loss(Scores(logprobs, reference, divergence=z), batch).sums
    (slope,) = torch.autograd.grad(value, logprobs)
    return float(value.detach()), float(slope[0, 1])


@pytest.mark.parametrize("loss", [KTO(), APOZeroUnpaired()], ids=lambda x: type(x).__name__)
def test_right_responses_grow_likelier_and_wrong_ones_rarer(loss: Any) -> None:
    assert learn(loss, 0.3, True, 0.1)[1] < 0 < learn(loss, 0.3, False, 0.1)[1]


def test_a_negative_divergence_counts_as_none() -> None:
    assert learn(KTO(), 0.3, True, -2.0) == learn(KTO(), 0.3, True, 0.0) == learn(KTO(), 0.3, True, None)


def test_the_more_the_policy_has_drifted_the_less_a_gain_counts() -> None:
    values = [learn(KTO(), 1.0, True, z)[0] for z in (0.0, 1.0, 2.0)]
    assert all(one < other for one, other in pairwise(values))


def test_each_class_has_its_weight() -> None:
    loss = KTO(desirable_weight=2.0, undesirable_weight=0.5)
    assert learn(loss, 0.3, True, 0.0)[0] == pytest.approx(2 * learn(KTO(), 0.3, True, 0.0)[0])
    assert learn(loss, 0.3, False, 0.0)[0] == pytest.approx(0.5 * learn(KTO(), 0.3, False, 0.0)[0])


@pytest.mark.parametrize(("field", "value"), [("beta", 0.0), ("desirable_weight", -1.0), ("undesirable_weight", -1.0)])
def test_bad_settings_name_the_field(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"model\.loss \(KTO\).*{field}"):
        KTO(**{field: value})
