"""Experience of policy-gradient losses from whole responses: each compared with others from the same start state."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience.actions import ActionBatch, ActionExample, ActionExperience, finite, spread_over_rows
from gpo_lightning.experience.advantages import AdvantageEstimator, GroupMean
from gpo_lightning.experience.credit import Credit, Outcome
from gpo_lightning.experience.example import Example
from gpo_lightning.experience.groups import Group, Start, groups
from gpo_lightning.experience.overlong import Overlong
from gpo_lightning.rollouts import RolloutTree


@dataclass(frozen=True)
class PolicyGradient(ActionExperience):
    """Every response of a group, its advantage measured against the others from the same start state.

    The kept prefix is state, only new tokens are actions. The group that a critical prefix was chosen by (its
    probes) is biased upwards in its mean; the group's own baseline takes that out, since every response is compared
    with responses from the same prefix. Responses that could not be graded are left out (counted), of the baseline too.

    Args:
        starts: start states to learn from, in that order.
        estimator: how advantages are made.
        keep_uniform: keep groups whose rewards are all equal. Their policy gradient is exactly zero; only a KL term,
            or whitening over the whole iteration, learns from them.
        overlong: what becomes of responses near or at the token limit; ``null`` leaves them as they are graded.
        prefix_loss: whether the kept prefix is learnt too.
        credit: which tokens of a response answer for its advantage.
    """

    starts: Sequence[Start] = ("critical", "frontier", "prompt")
    estimator: AdvantageEstimator = GroupMean()
    keep_uniform: bool = False
    overlong: Overlong | None = None
    prefix_loss: bool = False
    credit: Credit = Outcome()

    @property
    def least_group(self) -> int:
        return self.estimator.least_group

    def build(self, trees: Sequence[RolloutTree], counts: Counter[str]) -> list[Example]:
        examples: list[Example] = []
        for number, group in enumerate(self.groups(trees)):
            examples.extend(self._examples(group, number, counts))
        return examples

    def groups(self, trees: Sequence[RolloutTree]) -> Iterator[Group]:
        """Responses that are compared with each other, in the order in which they are learnt."""
        return groups(trees, self.starts)

    def _examples(self, group: Group, number: int, counts: Counter[str]) -> list[ActionExample]:
        shaping = self.overlong
        rewards = [sample.reward if shaping is None else shaping.reward(sample) for sample in group.samples]
        advantages = self.estimator.advantages(rewards)
        compares = self.estimator.least_group > 1
        if compares and not self.keep_uniform and not any(advantages) and not self.credit.teaches(group):
            counts["uniform_group"] += 1
            return []
        examples: list[ActionExample] = []
        for sample, reward, advantage in zip(group.samples, rewards, advantages, strict=True):
            row = group.row(sample, self.prefix_loss)
            if reward is None:
                counts["ungraded_left_out"] += 1
            elif not finite(row):
                counts["rollout_logprobs_not_finite"] += 1
            elif shaping is not None and not shaping.learns(sample):
                counts["truncated_left_out"] += 1
            else:
                drawn = self.credit.by_token(group, sample, advantage)
                kept = (advantage,) * (len(row.actions) - len(drawn))
                examples.append(ActionExample(row, kept + drawn, reward, number))
        return examples

    def reestimate(self, batches: Sequence[ActionBatch], rewards: Sequence[Tensor]) -> list[ActionBatch]:
        """Advantages anew, from other rewards than the examples were built with (a KL taken from them, say).

        Args:
            batches: all of this rank's, so that every group is whole.
            rewards: ``[R]`` of each batch.

        Raises:
            ConfigError: credit is spread unevenly over a response, by rewards that these are not.
        """
        if not isinstance(self.credit, Outcome):
            raise ConfigError(
                f"data.experience.credit is {type(self.credit).__name__}, but the loss takes a penalty from rewards "
                "and estimates advantages anew. Take the penalty out of the reward, or leave credit at Outcome."
            )
        flat = torch.cat([row_rewards.double() for row_rewards in rewards]).tolist()
        numbers = torch.cat([batch.groups for batch in batches]).tolist()
        places: dict[int, list[int]] = {}
        for place, number in enumerate(numbers):
            places.setdefault(number, []).append(place)
        advantages = [0.0] * len(flat)
        for number, members in places.items():
            if number < 0:
                continue
            made = self.estimator.advantages([flat[i] for i in members])
            for i, advantage in zip(members, made, strict=True):
                advantages[i] = advantage
        made_by_batch = torch.tensor(advantages, dtype=torch.float64).split([len(batch.groups) for batch in batches])
        return [spread_over_rows(batch, made) for batch, made in zip(batches, made_by_batch, strict=True)]
