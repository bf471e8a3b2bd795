"""Success without sampling: where one text is right, its probability is the policy's success at temperature 1."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from gpo_lightning.errors import ConfigError
from gpo_lightning.policy import Policy
from gpo_lightning.problems import Problem
from gpo_lightning.problems.prompting import encode_prompt, encode_solution
from gpo_lightning.problems.step_checked import StepChecked


@dataclass(frozen=True, slots=True)
class Worked:
    """A reference solution as tokens.

    Args:
        prompt: token ids.
        tokens: ids of the solution, end-of-sequence included.
        boundaries: ``[n + 1]`` token offsets of its steps.
        decides: ``[T]`` whether the outcome depends on the token; remarks decide nothing.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    boundaries: tuple[int, ...]
    decides: tuple[bool, ...]


def work(policy: Policy, source: StepChecked, problem: Problem) -> Worked:
    """The reference solution of a problem, cut into its steps.

    Raises:
        ConfigError: the policy's tokens do not end where steps and remarks do.
    """
    tokens, boundaries, decides = list[int](), [0], list[bool]()
    steps = source.steps_of(problem)
    for index, step in enumerate(steps):
        for text, matters in ((step.text, True), (step.remark, False), ("\n" if index < len(steps) - 1 else "", True)):
            ids = policy.tokenizer.encode(text, add_special_tokens=False) if text else []
            tokens += ids
            decides += [matters] * len(ids)
        boundaries.append(len(tokens))
    right = replace(problem, solution="\n".join(step.line for step in steps))  # a careless teacher's own is another
    whole = encode_solution(right, policy.tokenizer, policy.eos_ids) or ()
    if whole[: len(tokens)] != tuple(tokens):
        raise ConfigError(
            f"model.policy.base={policy.config.base!r} joins characters of different steps of {type(source).__name__} "
            "in one token, so that steps have no probability of their own. Success must be measured by sampling here."
        )
    boundaries[-1], decides = len(whole), decides + [True] * (len(whole) - len(tokens))
    return Worked(encode_prompt(problem, policy.tokenizer), whole, tuple(boundaries), tuple(decides))


def right_logprobs(
    policy: Policy, solutions: Sequence[Worked], temperature: float = 1.0, batch: int = 64
) -> Iterator[Tensor]:
    """``[B, T]`` log-probability of every deciding token of the solutions, a batch at a time; 0 elsewhere.

    Columns are tokens of prompt and solution, right-padded. Gradients flow where they are switched on.
    """
    for begin in range(0, len(solutions), batch):
        part = solutions[begin : begin + batch]
        width = max(len(its.prompt) + len(its.tokens) for its in part)
        ids = torch.full((len(part), width), policy.pad_id)
        attention, mask = torch.zeros_like(ids), torch.zeros(ids.shape)
        for row, its in enumerate(part):
            start, end = len(its.prompt), len(its.prompt) + len(its.tokens)
            ids[row, :end] = torch.tensor(its.prompt + its.tokens)
            attention[row, :end] = 1
            mask[row, start:end] = torch.tensor(its.decides, dtype=torch.float32)
        ids, attention, mask = (its.to(policy.device) for its in (ids, attention, mask))
        yield policy.logprobs(ids, attention, mask, temperature)


def exact_success(
    policy: Policy, source: StepChecked, problems: Sequence[Problem], temperature: float = 1.0, batch: int = 64
) -> Tensor:
    """``[P]`` probability that the policy answers each problem rightly in every step, without sampling noise.

    Remarks, which may be anything, are those of the reference solution: where there are some it is an estimate whose
    noise is small, since only their influence on later steps varies. A right answer after wrong steps does not count.
    """
    return success_of_solutions(policy, [work(policy, source, problem) for problem in problems], temperature, batch)


def success_of_solutions(
    policy: Policy, solutions: Sequence[Worked], temperature: float = 1.0, batch: int = 64
) -> Tensor:
    """``[P]`` as :func:`exact_success`, of solutions that are tokens already: they stay the same as a policy learns."""
    training = policy.training
    policy.eval()
    with torch.no_grad():
        found = [logprobs.double().sum(-1).exp() for logprobs in right_logprobs(policy, solutions, temperature, batch)]
    policy.train(training)
    return torch.cat(found)


@torch.no_grad()
def exact_values(policy: Policy, solutions: Sequence[Worked], temperature: float = 1.0) -> list[tuple[float, ...]]:
    """``[n + 1]`` V of each solution's prefixes: the probability that the rest, too, is written rightly; 1 at the end.

    The value of a prefix with a wrong step is 0, where only the right text is a success.
    """
    values: list[tuple[float, ...]] = []
    row = iter(solutions)
    for logprobs in right_logprobs(policy, solutions, temperature):
        for line in logprobs.double():
            its = next(row)
            drawn = line[len(its.prompt) : len(its.prompt) + len(its.tokens)]
            by_step = [float(drawn[a:b].sum()) for a, b in pairwise(its.boundaries)]
            rest = list(accumulate(reversed(by_step), initial=0.0))[::-1]
            values.append(tuple(torch.tensor(rest, dtype=torch.float64).exp().tolist()))
    return values
