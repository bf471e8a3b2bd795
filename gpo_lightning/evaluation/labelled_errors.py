"""How well a policy's own continuations find the first wrong step of responses in which it is known."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gpo_lightning.critical import TurnReader
from gpo_lightning.evaluation.estimate import Estimate, wilson_interval
from gpo_lightning.evaluation.explorer.page import SURE
from gpo_lightning.evaluation.explorer.records import Valued, read_turns
from gpo_lightning.problems import LabelledTrajectory
from gpo_lightning.rollouts import RolloutTree


@dataclass(frozen=True)
class LabelledReport:
    """Figures of a labelled set.

    Args:
        exact: share of the responses with an error whose critical step is the first wrong one.
        within_one: the critical step is that one or its neighbour.
        found: of the responses with an error, those said to have one, at exactly that step.
        cleared: of the responses without an error, those said to have none.
        auroc: of the probability of a fall, telling responses with an error from those without; ``None`` where the set
            has only one kind.
        tokens: generated for a response, on average: siblings at the prompt and probes.
    """

    exact: Estimate
    within_one: Estimate
    found: Estimate
    cleared: Estimate
    auroc: float | None
    tokens: float

    @property
    def f1(self) -> float | None:
        """Harmonic mean of ``found`` and ``cleared`` (ProcessBench, arXiv 2412.06559, section 3.3)."""
        if not self.found.n or not self.cleared.n:
            return None
        total = self.found.mean + self.cleared.mean
        return 2 * self.found.mean * self.cleared.mean / total if total else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"f1": self.f1}

    def __str__(self) -> str:
        lines = [f"The critical step is the first wrong one: {self.exact}", f"It or a neighbour: {self.within_one}"]
        if self.f1 is not None:
            lines.append(f"F1 {100 * self.f1:.1f}: errors found at their step {self.found}, sound ones {self.cleared}")
        elif self.found.n:
            lines.append(f"Errors found at their step: {self.found}")
        elif self.cleared.n:
            lines.append(f"Sound ones cleared: {self.cleared}")
        if self.auroc is not None:
            lines.append(f'AUROC of "has an error": {self.auroc:.3f}')
        return "\n".join([*lines, f"Tokens a response: {self.tokens:,.0f}"])


def labelled_report(
    trajectories: Sequence[LabelledTrajectory], trees: Sequence[RolloutTree], reader: TurnReader = TurnReader()
) -> LabelledReport:
    """What was found in labelled responses.

    Args:
        trajectories: labelled ones.
        trees: as :meth:`RolloutLoop.examine` gave them; trajectories without a tree are left out.
        reader: says how probable a fall is.
    """
    valued = {id(tree.problem): its[0] for tree, its in zip(trees, read_turns(trees, reader), strict=True) if its}
    pairs = [(its, valued[id(its.problem)]) for its in trajectories if id(its.problem) in valued]
    wrong = [(its.error, found) for its, found in pairs if its.error is not None]
    sound = [found for its, found in pairs if its.error is None]
    drawn = [len(s.tokens) - s.start for _, found in pairs for s in found.tree.samples if s.drawn]
    return LabelledReport(
        exact=errors_found(trajectories, trees),
        within_one=errors_found(trajectories, trees, within=1),
        found=_share([_said(found) == error for error, found in wrong]),
        cleared=_share([_said(found) is None for found in sound]),
        auroc=_auroc([_fall(found) for _, found in wrong], [_fall(found) for found in sound]),
        tokens=sum(drawn) / len(pairs) if pairs else 0.0,
    )


def errors_found(trajectories: Sequence[LabelledTrajectory], trees: Sequence[RolloutTree], within: int = 0) -> Estimate:
    """Share of the trajectories with a wrong step whose critical step is that one, with its interval.

    Args:
        trajectories: labelled ones.
        trees: as :meth:`RolloutLoop.examine` gave them; trajectories without a tree are left out.
        within: how many steps the critical one may be off.
    """
    curves = {id(tree.problem): tree.curves[0] for tree in trees if tree.curves}
    return _share(
        [
            abs(curves[id(trajectory.problem)].critical - trajectory.error) <= within
            for trajectory in trajectories
            if trajectory.error is not None and id(trajectory.problem) in curves
        ]
    )


def _fall(valued: Valued) -> float:
    return valued.reading.fall.probability


def _said(valued: Valued) -> int | None:
    """The step that is said to be the error, as surely as the page calls one a turn; ``None`` where none is."""
    return valued.reading.fall.step if _fall(valued) >= SURE else None


def _share(hits: Sequence[bool]) -> Estimate:
    share = sum(hits) / len(hits) if hits else 0.0
    return Estimate(share, *wilson_interval(share, len(hits)), len(hits))


def _auroc(with_error: Sequence[float], without: Sequence[float]) -> float | None:
    """How often a response with an error has the higher score; ties count half.

    >>> _auroc([0.9, 0.5], [0.5, 0.1])
    0.875
    """
    if not with_error or not without:
        return None
    wins = sum((high > low) + 0.5 * (high == low) for high in with_error for low in without)
    return wins / (len(with_error) * len(without))
