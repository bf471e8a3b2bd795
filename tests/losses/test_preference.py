"""What losses of pairs refuse, and where they are pulled to."""

from typing import Any

import pytest
import torch

from gpo_lightning.errors import ConfigError
from gpo_lightning.experience import Rows, Scores
from gpo_lightning.experience.preference import PairBatch
from gpo_lightning.losses import CPO, DPO, IPO, ORPO, APODown, APOZero, HingeDPO, RobustDPO, SimPO

LOSSES: list[Any] = [DPO(), RobustDPO(), HingeDPO(), IPO(), APOZero(), APODown(), SimPO(), ORPO(), CPO()]


def slopes(loss: Any, chosen: list[float], rejected: list[float]) -> tuple[list[float], list[float]]:
    """Gradient by every token of the chosen and of the rejected response, against a reference of -1 a token."""
    width = max(len(chosen), len(rejected))
    logprobs, mask = torch.zeros(2, width, dtype=torch.float64), torch.zeros(2, width, dtype=torch.float64)
    for i, row in enumerate((chosen, rejected)):
        logprobs[i, : len(row)] = torch.tensor(row, dtype=torch.float64)
        mask[i, : len(row)] = 1
    ids = torch.ones(mask.shape, dtype=torch.long)
    logprobs.requires_grad_()
    terms = loss(Scores(logprobs, -mask), PairBatch(Rows(ids, ids, mask, mask * 0), (1.0,)))
    (gradient,) = torch.autograd.grad(torch.stack(terms.sums).sum(), logprobs)
    return gradient[0, : len(chosen)].tolist(), gradient[1, : len(rejected)].tolist()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_the_two_sides_are_pushed_apart(loss: Any) -> None:
    chosen, rejected = slopes(loss, [-1.0, -2.0], [-1.0, -1.5, -0.5])
    assert max(chosen) < min(rejected)


@pytest.mark.parametrize(
    "loss", [loss for loss in LOSSES if loss.needs_reference], ids=lambda loss: type(loss).__name__
)
def test_losses_of_log_ratios_say_when_there_is_no_reference(loss: Any) -> None:
    mask = torch.ones(2, 3)
    with pytest.raises(ConfigError, match="reference"):
        loss(Scores(torch.zeros(2, 3)), PairBatch(Rows(mask.long(), mask.long(), mask, mask), (1.0,)))


@pytest.mark.parametrize("kind", [type(loss) for loss in LOSSES])
@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan"), float("inf")])
def test_beta_must_be_positive(kind: Any, beta: float) -> None:
    with pytest.raises(ConfigError, match=rf"model\.loss \({kind.__name__}\): beta"):
        kind(beta=beta)


@pytest.mark.parametrize("kind", [DPO, RobustDPO, CPO])
@pytest.mark.parametrize("smoothing", [-0.1, 0.5, 1.0])
def test_label_smoothing_must_leave_something_to_learn(kind: Any, smoothing: float) -> None:
    with pytest.raises(ConfigError, match=rf"model\.loss \({kind.__name__}\): label_smoothing"):
        kind(label_smoothing=smoothing)


def test_a_negative_margin_and_a_negative_likelihood_weight_are_refused() -> None:
    with pytest.raises(ConfigError, match="gamma"):
        SimPO(gamma=-1.0)
    with pytest.raises(ConfigError, match="alpha"):
        CPO(alpha=-1.0)


def test_a_sure_response_has_finite_odds() -> None:
    """exp(mean log-probability) = 1 would have infinite ones."""
    for row in slopes(ORPO(), [0.0, 0.0], [-1e-12]):
        assert all(torch.isfinite(torch.tensor(row)))


def test_what_orpo_imitates_is_the_response_or_prompt_and_response() -> None:
    mask = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    ids = torch.ones(2, 3, dtype=torch.long)
    logprobs = torch.full((2, 3), -1.0, dtype=torch.float64, requires_grad=True)
    for likelihood, reached in (("response", [0, 0, 1]), ("prompt_and_response", [1, 1, 1])):
        terms = ORPO(likelihood=likelihood)(Scores(logprobs), PairBatch(Rows(ids, ids, mask, mask), (1.0, 1.0)))  # type: ignore[arg-type]
        (slope,) = torch.autograd.grad(terms.sums[1], logprobs)
        assert (slope[0] != 0).int().tolist() == reached
        assert not slope[1].any(), "the rejected response is not imitated"
