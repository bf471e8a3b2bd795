"""Would critical steps help this model on these problems? Measured before a run, at one set of weights.

One set of rollouts serves every method: groups at the prompt, and at the frontier where the prompt teaches nothing. The
gradient of success is estimated from the batches themselves, each method's batch against those of the other iterations.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import torch
from torch import Tensor

from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation.gradients import BatchGradient, Efficiency, batch_gradient, weigh
from gpo_lightning.experience import PolicyGradient, Siblings
from gpo_lightning.experience.advantages import LeaveOneOut
from gpo_lightning.losses import GRPO, DrGRPO
from gpo_lightning.policy import Policy
from gpo_lightning.rollouts import RolloutTree

BASE = "outcome rewards, prompts only"
_METHODS: Mapping[str, PolicyGradient] = {
    BASE: PolicyGradient(starts=("prompt",)),
    "values shared by siblings": PolicyGradient(starts=("prompt",), credit=Siblings()),
    "frontier starts": PolicyGradient(starts=("frontier", "prompt")),
    "frontier starts, shared values": PolicyGradient(starts=("frontier", "prompt"), credit=Siblings()),
}
_CONFIGURED = "as configured"


@dataclass(frozen=True)
class Shares:
    """What became of groups.

    Args:
        groups: graded ones.
        failed: share in which no response was right.
        passed: share in which all were.
    """

    groups: int
    failed: float
    passed: float

    @property
    def mixed(self) -> float:
        """Share that teaches something."""
        return 1 - self.failed - self.passed


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Args:
        success: mean reward of the responses from prompts.
        prompts: groups at prompts.
        frontier: groups at the frontier.
        methods: what a batch of each is worth.
    """

    success: float
    prompts: Shares
    frontier: Shares
    methods: Mapping[str, Efficiency]

    def relative(self, method: str) -> tuple[float, float]:
        """Worth of a token relative to the base method, and two standard errors of it."""
        base = max(self.methods[BASE].gain, 1e-300)
        return self.methods[method].gain / base, 2 * self.methods[method].error / base

    def table(self) -> str:
        """The methods, one a line."""
        lines = [f"{'method':32} {'cosine':>7} {'worth of a token':>22} {'tokens a batch':>15}"]
        for name, its in self.methods.items():
            worth, error = self.relative(name)
            lines.append(f"{name:32} {its.cosine:7.2f} {worth:14.2f} ± {error:5.2f} {its.tokens:15,.0f}")
        return "\n".join(lines)

    def advice(self) -> list[str]:
        """What follows, in sentences."""
        said = [
            f"A response is right in {self.success:.1%} of the cases. Of {self.prompts.groups} groups at prompts, "
            f"{self.prompts.failed:.0%} fail and {self.prompts.passed:.0%} pass as a whole, and teach nothing."
        ]
        if self.success == 0:
            return [*said, "Nothing ever succeeded: easier problems or demonstrations must come first."]
        if self.frontier.groups:
            said.append(
                f"Of {self.frontier.groups} groups at the frontier, {self.frontier.mixed:.0%} are mixed and teach."
            )
        else:
            said.append("No group could be moved: none rarely succeeds, or there are no solutions and no successes.")
        better = {name: self.relative(name) for name in self.methods if name != BASE}
        sure = {name: worth for name, (worth, error) in better.items() if worth - error > 1}
        if sure:
            best = max(sure, key=lambda name: sure[name])
            said.append(f"A token is worth {sure[best]:.1f} times as much with {best}: try that first.")
        elif self.methods[BASE].cosine > 0.8:
            said.append("A batch already points along the gradient: no start state or credit can add much here.")
        else:
            said.append("No method is surely better than the base method. More iterations tell finer differences.")
        return said


def diagnose(
    policy: Policy, batches: Sequence[Sequence[RolloutTree]], configured: Sequence[Sequence[RolloutTree]] = ()
) -> Diagnosis:
    """What batches of rollouts are worth, by method.

    All gradients are kept in memory: methods times batches times trainable weights.

    Args:
        policy: drew the rollouts.
        batches: of iterations whose groups start at prompts and at the frontier; at least two.
        configured: of iterations made as the configuration says, if that is something else.

    Raises:
        ConfigError: fewer than two batches.
    """
    if len(batches) < 2:
        raise ConfigError("--iterations must be at least 2: batches are held against each other.")
    unbiased = [_direction(policy, trees, _SUCCESS, DrGRPO()).direction for trees in batches]
    made = {name: (batches, builder) for name, builder in _METHODS.items()}
    if configured:
        made[_CONFIGURED] = (configured, PolicyGradient())
    methods = {
        name: weigh_against_others([_direction(policy, trees, builder) for trees in its], unbiased)
        for name, (its, builder) in made.items()
    }
    trees = [tree for its in batches for tree in its]
    rewards = [reward for tree in trees for i in tree.trajectories if (reward := tree.samples[i].reward) is not None]
    starts = {(id(tree), its.prefix): tree for tree in trees for its in tree.samples if its.start}
    prompts = shares([tree.group(()) for tree in trees], trees)
    frontier = shares([tree.group(prefix) for (_, prefix), tree in starts.items()], list(starts.values()))
    return Diagnosis(mean(rewards) if rewards else 0.0, prompts, frontier, methods)


_SUCCESS = PolicyGradient(starts=("prompt",), estimator=LeaveOneOut())


def _direction(
    policy: Policy, trees: Sequence[RolloutTree], builder: PolicyGradient, loss: GRPO | DrGRPO | None = None
) -> BatchGradient:
    examples = builder.build(trees, Counter())
    at_prompts = "frontier" not in builder.starts
    samples = (sample for tree in trees for sample in tree.samples if sample.start == 0 or not at_prompts)
    tokens = sum(len(sample.tokens) - sample.start for sample in samples)
    return batch_gradient(policy, loss or GRPO(), builder, examples, tokens)


def weigh_against_others(batches: Sequence[BatchGradient], unbiased: Sequence[Tensor]) -> Efficiency:
    """What a method's batches are worth, where the gradient of success is only known by samples of it.

    Args:
        batches: one an iteration.
        unbiased: an unbiased estimate of the gradient of success, up to scale, from the same iterations; that of a
            batch's own iteration is never held against it.
    """
    total, count = torch.stack(list(unbiased)).double().sum(0), len(unbiased)
    squares = sum(float(its.double().square().sum()) for its in unbiased)
    power = max((float(total.square().sum()) - squares) / (count * (count - 1)), 0.0)
    along = [
        float(batch.direction.double() @ (total - own.double())) / (count - 1)
        for batch, own in zip(batches, unbiased, strict=True)
    ]
    return weigh(batches, along, power)


def shares(groups: Sequence[Sequence[int]], trees: Sequence[RolloutTree]) -> Shares:
    """Shares of groups that fail and pass as a whole; ungraded ones are left out."""
    outcomes = [
        [reward for i in group if (reward := tree.samples[i].reward) is not None]
        for group, tree in zip(groups, trees, strict=True)
    ]
    graded = [its for its in outcomes if its]
    count = len(graded) or 1
    return Shares(
        len(graded), sum(max(its) == 0 for its in graded) / count, sum(min(its) == 1 for its in graded) / count
    )
