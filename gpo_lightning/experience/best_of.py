"""Best-of-N replacement, as the authors' earlier code did it: for faithful comparison, not for use."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gpo_lightning.experience.groups import Group
from gpo_lightning.experience.policy_gradient import PolicyGradient
from gpo_lightning.rollouts import RolloutTree, Sample
from gpo_lightning.rollouts.tree import ValueCurve


@dataclass(frozen=True)
class BestOf(PolicyGradient):
    """The explored trajectory gives way to the best response from its critical prefix, as if drawn from the prompt.

    It is biased, and that is what it is here to show: the maximum of N rewards is no draw of the policy, so the group's
    mean and with it every advantage is off (``starts`` is not read). ``PolicyGradient`` learns from the same
    rollouts without that: all of them, each compared with others from its own start state.
    """

    def groups(self, trees: Sequence[RolloutTree]) -> Iterator[Group]:
        for tree in trees:
            best = {curve.tokens: _best(tree, curve) for curve in tree.curves}
            samples = (tree.samples[i] for i in tree.group(()))
            yield Group(tree, (), tuple(best.get(sample.tokens, sample) for sample in samples))


def _best(tree: RolloutTree, curve: ValueCurve) -> Sample:
    """Of the trajectory and the responses from its critical prefix the one of highest reward; of equals, the first."""
    prefix = curve.critical_prefix
    drawn = [tree.samples[i] for i in (*tree.group(()), *tree.group(prefix))]
    candidates = [s for s in drawn if s.reward is not None and (s.tokens == curve.tokens or s.prefix == prefix != ())]
    best = max(candidates, key=lambda sample: sample.reward or 0.0)
    return replace(best, start=0, logprobs=tree.rollout_logprobs(best.prefix) + best.logprobs)
