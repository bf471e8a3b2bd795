"""From trees to examples to tensors, for each kind of experience."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpo_lightning.engines import Purpose
from gpo_lightning.experience import (
    Batch,
    Demonstrations,
    ExperienceBuilder,
    LabelledResponses,
    MaskTruncated,
    MismatchedResponses,
    PolicyGradient,
    PreferencePairs,
    RightResponses,
    Row,
    SoftPunishment,
    ValuedSteps,
)
from gpo_lightning.experience.advantages import LeaveOneOut, NoBaseline
from gpo_lightning.experience.demonstration import solution_trees
from gpo_lightning.experience.example import collate_rows
from gpo_lightning.experience.preference import PairExample
from gpo_lightning.problems import Problem
from gpo_lightning.rollouts import RolloutTree
from gpo_lightning.rollouts.tree import ValueCurve
from tests.conftest import tree_of

PAD = 77
CONTEXT = (1, 2)
"""Prompt of every tree of :func:`tree_of`."""

BUILDERS = [
    PolicyGradient(),
    ValuedSteps(),
    PreferencePairs(),
    LabelledResponses(),
    MismatchedResponses(),
    Demonstrations(),
    RightResponses(),
]


def mixed() -> RolloutTree:
    """A group at the prompt and one behind the critical prefix (4,), each with right and wrong responses."""
    tree = tree_of(
        [
            ((4, 5, 6), 0, 1.0),
            ((9,), 0, 0.0),
            ((4, 7), 0, 0.0),
            ((4, 8, 8), 1, 1.0),
            ((4, 9), 1, 0.0),
        ]
    )
    tree.curves.append(ValueCurve((4, 5, 6), (0, 1, 3), (0.5, 0.5, 1.0), critical=1))
    return tree


class TestPolicyGradient:
    def test_the_kept_prefix_is_state_and_only_new_tokens_are_actions(self) -> None:
        examples: list[Any] = PolicyGradient().build([mixed()], Counter())
        rows = [example.row for example in examples]
        assert rows[:2] == [Row((1, 2, 4), (8, 8), (-0.1, -0.2)), Row((1, 2, 4), (9,), (-0.1,))]
        assert rows[2:] == [
            Row((1, 2), (4, 5, 6), (-0.1, -0.2, -0.1 * 3)),
            Row((1, 2), (9,), (-0.1,)),
            Row((1, 2), (4, 7), (-0.1, -0.2)),
        ]

    def test_every_token_of_a_response_has_its_responses_advantage_within_the_group(self) -> None:
        examples: list[Any] = PolicyGradient(estimator=LeaveOneOut()).build([mixed()], Counter())
        assert [example.advantages for example in examples] == [(1.0, 1.0), (-1.0,), (1.0,) * 3, (-0.5,), (-0.5, -0.5)]

    def test_groups_without_contrast_are_dropped_and_counted(self) -> None:
        counts: Counter[str] = Counter()
        equal = tree_of([((3,), 0, 0.1), ((4,), 0, 0.1), ((5,), 0, 0.1)])
        ungraded = tree_of([((3,), 0, None), ((4,), 0, None)])
        assert PolicyGradient().build([equal, ungraded, tree_of([((3,), 0, 1.0)])], counts) == []
        assert counts["uniform_group"] == 3

    def test_groups_without_contrast_are_kept_where_asked_with_exactly_no_advantage(self) -> None:
        counts: Counter[str] = Counter()
        equal = tree_of([((3,), 0, 0.1), ((4, 4), 0, 0.1), ((5,), 0, 0.1)])
        examples: list[Any] = PolicyGradient(keep_uniform=True).build([equal], counts)
        assert [example.advantages for example in examples] == [(0.0,), (0.0, 0.0), (0.0,)]
        assert counts["uniform_group"] == 0

    def test_an_ungraded_response_is_left_out_of_baseline_and_experience_and_counted(self) -> None:
        counts: Counter[str] = Counter()
        tree = tree_of([((3,), 0, 1.0), ((4,), 0, None), ((5,), 0, 0.0)])
        examples: list[Any] = PolicyGradient().build([tree], counts)
        assert [example.row.actions for example in examples] == [(3,), (5,)]
        assert examples[0].advantages[0] == -examples[1].advantages[0] > 0
        assert counts["ungraded_left_out"] == 1

    def test_a_response_whose_engine_logprobs_are_not_finite_is_left_out_and_counted(self) -> None:
        counts: Counter[str] = Counter()
        tree = mixed()
        tree.add(replace(tree.samples[1], tokens=(9, 9), logprobs=(-0.1, float("nan"))))
        examples = PolicyGradient(starts=("prompt",)).build([tree], counts)
        assert len(examples) == 3
        assert counts["rollout_logprobs_not_finite"] == 1

    def test_without_a_baseline_equal_rewards_are_learnt_from_too(self) -> None:
        tree = tree_of([((3,), 0, 0.0), ((4,), 0, 0.0)])
        examples: list[Any] = PolicyGradient(estimator=NoBaseline()).build([tree], Counter())
        assert [example.reward for example in examples] == [0.0, 0.0]

    def test_the_kept_prefix_is_learnt_where_asked(self) -> None:
        examples: list[Any] = PolicyGradient(prefix_loss=True).build([mixed()], Counter())
        assert examples[0].row == Row(CONTEXT, (4, 8, 8), (-0.1, -0.1, -0.2))
        assert len(examples[0].advantages) == 3

    def test_responses_near_the_limit_lose_reward(self) -> None:
        tree = tree_of([((3,) * 10, 0, 1.0), ((4,) * 6, 0, 1.0), ((5,), 0, 0.0)])
        builder = PolicyGradient(estimator=NoBaseline(), overlong=SoftPunishment(limit=10, cache=8))
        examples: list[Any] = builder.build([tree], Counter())
        assert [example.reward for example in examples] == [0.0, 0.5, 0.0]

    def test_truncated_responses_can_count_without_being_learnt_from(self) -> None:
        counts: Counter[str] = Counter()
        tree = tree_of([((3,), 0, 1.0), ((4,), 0, 1.0), ((5,), 0, 0.0)])
        tree.samples[2] = replace(tree.samples[2], truncated=True)
        examples: list[Any] = PolicyGradient(overlong=MaskTruncated()).build([tree], counts)
        assert [example.row.actions for example in examples] == [(3,), (4,)]
        assert counts["truncated_left_out"] == 1

    def test_batch_has_advantages_and_behaviour_on_the_actions_and_nowhere_else(self) -> None:
        builder = PolicyGradient(estimator=LeaveOneOut())
        batch = builder.collate(builder.build([mixed()], Counter())[:2], PAD, normalisers=(3.0,))
        assert batch.rows.input_ids.tolist() == [[1, 2, 4, 8, 8], [1, 2, 4, 9, PAD]]
        assert batch.rows.loss_mask.tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 1, 0]]
        assert batch.rows.rollout_logprobs.tolist() == [[0, 0, 0, -0.1, -0.2], [0, 0, 0, -0.1, 0]]
        assert batch.advantages.tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, -1, 0]]
        assert batch.normalisers == (3.0,)


class TestValuedSteps:
    def test_a_token_has_the_advantage_of_its_step(self) -> None:
        tree = mixed()
        tree.curves = [ValueCurve((4, 5, 6), (0, 1, 3), (0.5, 0.25, 1.0), critical=1)]
        (example,) = ValuedSteps().build([tree], Counter())
        assert example.row == Row(CONTEXT, (4, 5, 6), tree.samples[0].logprobs)  # type: ignore[attr-defined]
        assert example.advantages == (-0.25, 0.75, 0.75)  # type: ignore[attr-defined]

    def test_a_trajectory_without_any_turn_teaches_nothing_and_is_counted(self) -> None:
        counts: Counter[str] = Counter()
        tree = mixed()
        tree.curves = [ValueCurve((4, 5, 6), (0, 1, 3), (1.0, 1.0, 1.0), critical=0)]
        assert ValuedSteps().build([tree], counts) == []
        assert counts["flat_trajectory"] == 1


class TestLabelled:
    def test_each_distinct_graded_response_has_its_label(self) -> None:
        counts: Counter[str] = Counter()
        tree = tree_of([((3,), 0, 1.0), ((3,), 0, 1.0), ((4,), 0, 0.4), ((5,), 0, None)])
        examples: list[Any] = LabelledResponses().build([tree], counts)
        assert [(example.row.actions, example.right) for example in examples] == [((3,), True), ((4,), False)]
        assert counts["ungraded_left_out"] == 1

    def test_labels_reach_the_batch(self) -> None:
        builder = LabelledResponses(starts=("prompt",))
        batch = builder.collate(builder.build([mixed()], Counter()), PAD, (1.0,))
        assert batch.right.tolist() == [True, False, False]


class TestRightResponses:
    def test_right_ones_are_kept_once_each(self) -> None:
        tree = tree_of([((3,), 0, 1.0), ((3,), 0, 1.0), ((4,), 0, 0.0), ((5,), 0, 0.6), ((6,), 0, None)])
        kept: list[Any] = RightResponses().build([tree], Counter())
        assert [example.row.actions for example in kept] == [(3,), (5,)]

    def test_the_best_is_kept_alone_where_asked(self) -> None:
        tree = tree_of([((5,), 0, 0.6), ((3,), 0, 1.0), ((4,), 0, 1.0)])
        kept: list[Any] = RightResponses(keep="best").build([tree], Counter())
        assert [example.row.actions for example in kept] == [(3,)]

    def test_a_group_without_a_right_one_is_counted(self) -> None:
        counts: Counter[str] = Counter()
        assert RightResponses().build([tree_of([((3,), 0, 0.0)])], counts) == []
        assert counts["group_without_right"] == 1


outcomes = st.lists(st.tuples(st.integers(0, 6), st.sampled_from([None, 0.0, 0.5, 1.0])), max_size=10)


class TestPreferencePairs:
    @given(outcomes, st.integers(1, 12))
    def test_pairs_share_their_context_and_the_chosen_was_rewarded_more(self, drawn: Any, most: int) -> None:
        tree = tree_of([((token, 2), 0, reward) for token, reward in drawn])
        reward_of = {sample.tokens: sample.reward for sample in tree.samples if sample.reward is not None}
        pairs = pairs_of([tree], most)
        for pair in pairs:
            assert pair.chosen.context == pair.rejected.context == CONTEXT
            assert reward_of[pair.chosen.actions] > reward_of[pair.rejected.actions]
        assert len(pairs) <= most

    @given(st.integers(0, 6), st.integers(0, 6), st.integers(1, 40))
    def test_each_response_is_used_once_before_any_of_its_side_twice(self, right: int, wrong: int, most: int) -> None:
        tree = tree_of([((i,), 0, 1.0) for i in range(right)] + [((100 + i,), 0, 0.0) for i in range(wrong)])
        pairs = pairs_of([tree], most)
        assert len(pairs) == min(most, right * wrong)
        assert len(set(pairs)) == len(pairs), "no pair twice"
        for side, size in (("chosen", right), ("rejected", wrong)):
            used = Counter(getattr(pair, side) for pair in pairs)
            uses = [*used.values()] + [0] * (size - len(used))
            assert max(uses, default=0) - min(uses, default=0) <= 1

    def test_the_same_response_drawn_twice_is_one_response(self) -> None:
        tree = tree_of([((3,), 0, 1.0), ((3,), 0, 1.0), ((4,), 0, 0.0), ((4,), 0, 0.0)])
        assert len(pairs_of([tree], 4)) == 1

    def test_the_best_are_chosen_where_rewards_have_grades(self) -> None:
        tree = tree_of([((3,), 0, 0.5), ((4,), 0, 1.0), ((5,), 0, 0.0)])
        assert {pair.chosen.actions for pair in pairs_of([tree], 4)} == {(4,)}
        assert {pair.rejected.actions for pair in pairs_of([tree], 4)} == {(3,), (5,)}

    def test_pairs_behind_the_critical_prefix_come_first_and_leave_it_out_of_the_loss(self) -> None:
        first, *others = pairs_of([mixed()], 4)
        assert first == PairExample(Row((1, 2, 4), (8, 8), (-0.1, -0.2)), Row((1, 2, 4), (9,), (-0.1,)))
        assert [pair.rejected.actions for pair in others] == [(9,), (4, 7)]

    def test_a_group_without_a_pair_is_counted(self) -> None:
        counts: Counter[str] = Counter()
        right, ungraded = tree_of([((3,), 0, 1.0), ((4,), 0, 1.0)]), tree_of([((3,), 0, None), ((4,), 0, 1.0)])
        assert PreferencePairs().build([right, ungraded, mixed()], counts) != []
        assert counts["group_without_pair"] == 2

    def test_batch_has_the_chosen_rows_first_and_the_rejected_in_the_same_order(self) -> None:
        pairs = pairs_of([mixed()], 4)
        batch = PreferencePairs().collate(pairs, PAD, (1.0,))
        chosen, rejected = batch.rows.input_ids.chunk(2)
        for half, side in ((chosen, "chosen"), (rejected, "rejected")):
            rows: list[Row] = [getattr(pair, side) for pair in pairs]
            assert [ids[: len(row)] for ids, row in zip(half.tolist(), rows, strict=True)] == [
                [*row.context, *row.actions] for row in rows
            ]


class TestDemonstrations:
    def test_solutions_are_imitated_and_problems_without_one_counted(self, tokenizer: Any) -> None:
        problems = [
            Problem("a", "t", "42", prompt="37a+5?\n", solution="a37+5=42\n#42"),
            Problem("b", "t", "0", prompt="1a-1?\n"),
        ]
        counts: Counter[str] = Counter()
        trees = solution_trees(problems, tokenizer, (tokenizer.eos_token_id,), counts)
        assert counts["no_solution"] == 1
        (example,) = Demonstrations().build(trees, Counter())
        (row,) = example.rows
        assert tokenizer.decode(row.context) == "37a+5?\n"
        assert tokenizer.decode(row.actions) == "a37+5=42\n#42<eos>"
        assert row.rollout_logprobs == ()
        assert trees[0].samples[0].purpose is Purpose.SOLUTION

    def test_what_the_policy_drew_itself_is_not_imitated(self) -> None:
        assert Demonstrations().build([mixed()], Counter()) == []

    def test_solutions_need_no_rollouts(self) -> None:
        assert Demonstrations().least_group == 0
        assert PolicyGradient().least_group == PreferencePairs().least_group == 2


tokens = st.lists(st.integers(1, 50), max_size=5).map(tuple)
rows = st.builds(lambda context, actions: Row((7, *context), actions, tuple(-0.5 * a for a in actions)), tokens, tokens)


@given(st.lists(rows, min_size=1, max_size=5))
def test_collation_pads_on_the_right_and_loses_no_token(drawn: list[Row]) -> None:
    laid = collate_rows(drawn, PAD)
    assert laid.input_ids.shape == (len(drawn), max(map(len, drawn)))
    for i, row in enumerate(drawn):
        padding = laid.input_ids.shape[1] - len(row)
        assert laid.input_ids[i].tolist() == [*row.context, *row.actions] + [PAD] * padding
        assert laid.attention_mask[i].tolist() == [1] * len(row) + [0] * padding
        assert laid.loss_mask[i].tolist() == [0] * len(row.context) + [1] * len(row.actions) + [0] * padding
        assert laid.rollout_logprobs[i].tolist() == [0] * len(row.context) + [*row.rollout_logprobs] + [0] * padding


def test_behaviour_keeps_double_precision() -> None:
    assert collate_rows([Row((1,), (2,), (-0.1,))], PAD).rollout_logprobs[0, 1].item() == -0.1


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: type(builder).__name__)
def test_a_blank_example_carries_no_loss_but_can_run_through_the_policy(builder: ExperienceBuilder) -> None:
    blank = builder.blank()
    assert blank.tokens == 0
    batch = builder.collate([blank], PAD, (1.0,))
    assert not batch.rows.loss_mask.any()
    assert batch.rows.attention_mask.sum(-1).min() >= 2, "one token is predicted at least"


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: type(builder).__name__)
def test_moving_a_batch_moves_every_tensor_and_keeps_its_kind(builder: ExperienceBuilder) -> None:
    batch = builder.collate([builder.blank()], PAD, (5.0, 2.0))
    moved = batch.to(torch.device("meta"))
    assert type(moved) is type(batch)
    assert moved.normalisers == (5.0, 2.0)
    assert all(value.device.type == "meta" for value in tensors(moved))


def test_an_example_knows_its_loss_tokens_and_its_longest_row() -> None:
    pair = PairExample(Row((1, 2, 3), (4, 5)), Row((1, 2, 3), (6, 7, 8, 9)))
    assert (pair.tokens, pair.length) == (6, 7)


def test_the_same_trees_give_the_same_examples() -> None:
    for builder in BUILDERS:
        runs = [builder.build([mixed(), mixed()], Counter()) for _ in range(2)]
        assert all(one == other for one, other in pairwise(runs))


def pairs_of(trees: list[RolloutTree], most: int) -> list[PairExample]:
    return PreferencePairs(pairs=most).build(trees, Counter())  # type: ignore[return-value]


def tensors(batch: Batch) -> list[torch.Tensor]:
    own = [value for value in vars(batch).values() if isinstance(value, torch.Tensor)]
    return own + list(vars(batch.rows).values())
