"""Which continuations are learnt from together, and in what order."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from gpo_lightning.experience import Row
from gpo_lightning.experience.groups import groups
from gpo_lightning.rollouts import RolloutTree
from gpo_lightning.rollouts.tree import ValueCurve
from tests.conftest import tree_of


def explored() -> RolloutTree:
    """Two trajectories (4, 5, 6) and (4, 7); probes from (4,) and from (4, 5); the critical step begins after (4,)."""
    tree = tree_of(
        [
            ((4, 5, 6), 0, 1.0),
            ((4, 7), 0, 0.0),
            ((4, 8), 1, 1.0),
            ((4, 5, 9), 2, 0.0),
            ((4, 9), 1, 0.0),
        ]
    )
    tree.curves.append(ValueCurve((4, 5, 6), (0, 1, 2, 3), (0.5, 0.5, 1.0, 1.0), critical=1))
    return tree


def prefixes(trees: list[RolloutTree], *starts: str) -> list[tuple[int, ...]]:
    return [group.prefix for group in groups(trees, starts)]  # type: ignore[arg-type]


def test_what_stands_first_is_learnt_first() -> None:
    tree = explored()
    assert prefixes([tree], "critical", "prompt", "probe") == [(4,), (), (4, 5)]
    assert prefixes([tree], "prompt", "critical") == [(), (4,)]


def test_a_start_state_comes_for_all_trees_before_the_next() -> None:
    first, second = explored(), explored()
    found = [(id(group.tree), group.prefix) for group in groups([first, second], ("critical", "prompt"))]
    assert found == [(id(first), (4,)), (id(second), (4,)), (id(first), ()), (id(second), ())]


def test_only_the_wanted_starts_are_given() -> None:
    assert prefixes([explored()], "prompt") == [()]
    assert prefixes([explored()], "critical") == [(4,)]
    assert prefixes([explored()], "probe") == [(4, 5)], "a critical prefix is no longer a mere probe"
    assert prefixes([explored()]) == []


def test_a_group_holds_what_started_exactly_there_in_the_order_drawn() -> None:
    (group,) = groups([explored()], ("critical",))
    assert [sample.tokens for sample in group.samples] == [(4, 8), (4, 9)]


def test_a_prefix_critical_to_two_trajectories_is_given_once() -> None:
    tree = explored()
    tree.curves.append(ValueCurve((4, 7), (0, 1, 2), (0.5, 0.5, 0.0), critical=1))
    assert prefixes([tree], "critical") == [(4,)]


def test_a_critical_step_at_the_prompt_is_the_prompt_group_learnt_early() -> None:
    tree = explored()
    tree.curves = [ValueCurve((4, 7), (0, 1, 2), (0.5, 0.0, 0.0), critical=0)]
    assert prefixes([tree, explored()], "critical", "prompt") == [(), (4,), ()]


def test_a_critical_prefix_nobody_continued_has_no_group() -> None:
    tree = explored()
    tree.curves = [
        ValueCurve((4, 5, 6), (0, 1, 3), (0.5, 0.5, 1.0), critical=1),
        ValueCurve((4, 7), (0, 2), (0.5, 0.0), 0),
    ]
    tree.curves.append(ValueCurve((7, 7, 7), (0, 2, 3), (0.5, 0.5, 1.0), critical=1))
    assert prefixes([tree], "critical") == [(4,), ()]


def test_the_kept_prefix_is_state_and_where_asked_action() -> None:
    tree = explored()
    tree.add(replace(tree.samples[0], tokens=(4, 9), start=1, logprobs=(-0.7,)))
    (group,) = groups([tree], ("critical",))
    sample = group.samples[-1]
    assert group.row(sample) == Row((*tree.prompt, 4), (9,), (-0.7,))
    drawn = tree.samples[0].logprobs[:1]
    assert group.row(sample, prefix_loss=True) == Row(tree.prompt, (4, 9), (*drawn, -0.7))


LOSSES = sorted((Path(__file__).parents[2] / "configs" / "loss").glob("*.yaml"))


@pytest.mark.parametrize("path", LOSSES, ids=lambda path: path.stem)
def test_every_loss_configuration_learns_from_all_groups_that_start_states_make(path: Path) -> None:
    experience = yaml.safe_load(path.read_text()).get("data", {}).get("experience") or {}
    starts = experience.get("init_args", {}).get("starts") if isinstance(experience, dict) else None
    at_critical_steps_alone = path.stem == "step_dpo"  # its form
    assert starts in (None, ["critical"] if at_critical_steps_alone else ["critical", "frontier", "prompt"])
    assert len(LOSSES) > 20
