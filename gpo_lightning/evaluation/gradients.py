"""How well a batch's gradient points where success rises, for the tokens it cost: the test of a method before a run.

A method's batch gradient g is compared with the gradient g* of success itself. At small steps the gain that a token
buys is proportional to (E<g, g*>)^2 / (E|g|^2 |g*|^2 tokens), whatever the scale of g; methods are compared by it.
Where one batch already points along g*, no start state and no credit can better it, and the task has no headroom.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import nan, sqrt
from statistics import mean, stdev

import torch
from torch import Tensor

from gpo_lightning.errors import ConfigError
from gpo_lightning.evaluation.exact import right_logprobs, work
from gpo_lightning.experience import ExperienceBuilder, Scores
from gpo_lightning.experience.example import Example
from gpo_lightning.experience.schedule import schedule
from gpo_lightning.losses import Loss
from gpo_lightning.policy import Policy
from gpo_lightning.problems import Problem
from gpo_lightning.problems.step_checked import StepChecked
from gpo_lightning.rollouts import RolloutTree


@dataclass(frozen=True, slots=True)
class BatchGradient:
    """The ascent direction of one batch.

    Args:
        direction: ``[N]``, minus the gradient of the loss; zeros where the batch had nothing to learn from.
        tokens: generated for it.
    """

    direction: Tensor
    tokens: int


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What batches of one method are worth.

    Args:
        cosine: mean cosine of a batch's direction with the gradient of success; batches without a gradient count 0.
        gain: (E<g, g*>)^2 / (E|g|^2 |g*|^2) per million tokens; 0 where g points away from g* on average.
        error: standard error of ``gain``, to first order.
        tokens: mean number of a batch.
        batches: how many.
    """

    cosine: float
    gain: float
    error: float
    tokens: float
    batches: int


def efficiency(batches: Sequence[BatchGradient], success: Tensor) -> Efficiency:
    """What a method's batches are worth.

    >>> along = BatchGradient(torch.tensor([1.0, 0.0]), tokens=1_000_000)
    >>> round(efficiency([along, along], torch.tensor([3.0, 0.0])).gain, 3)
    1.0

    Args:
        batches: at one checkpoint, independent of each other and of ``success``.
        success: ``[N]`` gradient of the success probability.
    """
    target = success.double()
    along = [float(batch.direction.double() @ target) for batch in batches]
    return weigh(batches, along, float(target.square().sum()))


def weigh(batches: Sequence[BatchGradient], along: Sequence[float], power: float) -> Efficiency:
    """What batches are worth by their inner products with the gradient of success, and its squared length."""
    squares = [float(batch.direction.double().square().sum()) for batch in batches]
    tokens = sum(batch.tokens for batch in batches) / len(batches)
    towards, length = mean(along), max(mean(squares) * power, 1e-300)
    gain = max(towards, 0.0) ** 2 / length / max(tokens, 1) * 1e6
    spread = stdev(along) if len(batches) > 1 else nan
    error = 2 * gain * spread / sqrt(len(batches)) / max(abs(towards), 1e-300)
    cosines = [a / max(sqrt(square * power), 1e-300) for a, square in zip(along, squares, strict=True)]
    return Efficiency(mean(cosines), gain, error, tokens, len(batches))


def success_gradient(policy: Policy, source: StepChecked, problems: Sequence[Problem]) -> Tensor:
    """``[N]`` exact gradient of the mean probability of the right solution over the trainable weights."""
    solutions = [work(policy, source, problem) for problem in problems]
    with _differentiated(policy) as parameters:
        for logprobs in right_logprobs(policy, solutions, batch=32):
            (logprobs.sum(-1).exp().sum() / len(problems)).backward()
        return _flat(parameters)


def batch_gradient(
    policy: Policy, loss: Loss, builder: ExperienceBuilder, examples: Sequence[Example], tokens: int
) -> BatchGradient:
    """Ascent direction of a loss over a batch, all of it as one optimiser step.

    Raises:
        ConfigError: the loss reads more than the policy's own log-probabilities.
    """
    if loss.needs_reference or loss.needs_values or loss.needs_old_logprobs:
        raise ConfigError(f"{type(loss).__name__} reads a reference or values; its gradient is not measured here.")
    with _differentiated(policy) as parameters:
        terms = len(loss.weights(builder.blank()))
        parts = schedule(examples, loss.weights, 32, -(-len(examples) // 32) or 1, terms)
        collated = [part.collate(builder, policy.pad_id) for part in parts]
        for prepared in loss.prepare(collated, builder, lambda sums: sums):
            batch = prepared.to(policy.device)
            logprobs = policy.logprobs(batch.rows.input_ids, batch.rows.attention_mask, batch.rows.loss_mask)
            sums = loss(Scores(logprobs), batch).sums
            torch.stack([term / weight for term, weight in zip(sums, batch.normalisers, strict=True)]).sum().backward()
        return BatchGradient(-_flat(parameters), tokens)


@dataclass(frozen=True, slots=True)
class UniformShare:
    """Groups whose responses all got the same reward, of problems whose success lies in a bin.

    Args:
        low: least success of the bin.
        high: what success stays below.
        groups: how many.
        uniform: those that teach nothing.
    """

    low: float
    high: float
    groups: int
    uniform: int


BINS = (0.0, 0.02, 0.1, 0.3, 0.7, 0.9, 1.0)


def uniform_share(
    trees: Sequence[RolloutTree], success: Mapping[str, float], bins: Sequence[float] = BINS
) -> list[UniformShare]:
    """Prompt groups by their problem's success; bins without a group are left out.

    Args:
        trees: graded.
        success: of each problem, by id; problems without one are not counted.
        bins: edges, ascending.
    """
    found: list[UniformShare] = []
    for low, high in pairwise(bins):
        inside = [tree for tree in trees if tree.problem.id in success and low <= success[tree.problem.id]]
        inside = [tree for tree in inside if success[tree.problem.id] < high or high == bins[-1]]
        outcomes = [{tree.samples[i].reward for i in tree.trajectories} - {None} for tree in inside]
        if outcomes:
            found.append(UniformShare(low, high, len(outcomes), sum(len(its) < 2 for its in outcomes)))
    return found


def headroom(advantages: Sequence[float], outcome: float, logprobs: Sequence[float]) -> tuple[float, float]:
    """Energy of a trajectory's gradient under outcome credit and under step credit.

    A token's share is its squared advantage times 1 - p, which has the mean of the squared length of its score in
    logits. The ratio of the sums over many trajectories is how much noisier outcome rewards are than step advantages:
    about 1 where credit has nothing to gain.

    Args:
        advantages: ``[T]`` step advantage of each token.
        outcome: reward less the value of the prompt.
        logprobs: ``[T]`` of the tokens when they were drawn.
    """
    energies = [1 - torch.tensor(value).exp().item() for value in logprobs]
    step = sum(a * a * energy for a, energy in zip(advantages, energies, strict=True))
    return outcome * outcome * sum(energies), step


@contextmanager
def _differentiated(policy: Policy) -> Generator[list[Tensor]]:
    """Within: the trainable weights have no gradient yet, and the policy is as it is when it is sampled from."""
    parameters, training = list(policy.trainable_state().values()), policy.training
    policy.eval()
    _forget(parameters)
    try:
        yield parameters
    finally:
        _forget(parameters)
        policy.train(training)


def _forget(parameters: Sequence[Tensor]) -> None:
    for parameter in parameters:
        parameter.grad = None


def _flat(parameters: Sequence[Tensor]) -> Tensor:
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return torch.cat([gradient.detach().flatten().float().cpu() for gradient in found])
