"""The HTML page of trajectories with their critical steps: where reasoning turns, for people to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from jinja2 import Environment, PackageLoader
from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.rollouts import RolloutTree, ValueCurve

_WIDTH, _HEIGHT, _MARGIN = 320, 90, 10


@dataclass(frozen=True, slots=True)
class StepView:
    """One row of the page."""

    number: int
    text: str
    value: float
    trials: int
    advantage: float
    critical: bool


@dataclass(frozen=True, slots=True)
class TrajectoryView:
    """One trajectory of the page, ready to be printed.

    Args:
        problem_id: of the problem.
        prompt: its text.
        answer: gold answer.
        right: whether the trajectory was.
        steps: with values and advantages.
        curve: points of the value curve, as SVG wants them.
        marks: x, y and whether critical, of each point.
        resets: text and verdict of continuations from the critical prefix.
        rescued: right ones among them.
    """

    problem_id: str
    prompt: str
    answer: str
    right: bool
    steps: tuple[StepView, ...]
    curve: str
    marks: tuple[tuple[float, float, bool], ...]
    resets: tuple[tuple[str, str], ...]
    rescued: int


def write_report(
    path: Path, trees: Sequence[RolloutTree], tokenizer: Tokenizer, title: str = "Critical steps", most: int = 24
) -> None:
    """Render explored trajectories, those with the largest critical step first.

    Args:
        path: HTML file to write; it needs nothing but itself.
        trees: rollout trees.
        tokenizer: decodes them.
        title: of the page.
        most: trajectories shown.
    """
    explored = [(tree, curve) for tree in trees for curve in tree.curves]
    explored.sort(key=lambda item: -abs(item[1].advantages[item[1].critical]))
    views = [trajectory_view(tree, curve, tokenizer) for tree, curve in explored[:most]]
    environment = Environment(loader=PackageLoader("gpo_lightning.evaluation", "."), autoescape=True)
    page = environment.get_template("page.html.j2").render(
        title=title,
        trajectories=views,
        explored=len(explored),
        problems=len(trees),
        width=_WIDTH,
        height=_HEIGHT,
        margin=_MARGIN,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def trajectory_view(tree: RolloutTree, curve: ValueCurve, tokenizer: Tokenizer) -> TrajectoryView:
    """What the page shows of one explored trajectory."""

    def text(tokens: Sequence[int]) -> str:
        return str(tokenizer.decode(list(tokens), skip_special_tokens=True))

    spans = pairwise(curve.boundaries)
    steps = tuple(
        StepView(
            number=t + 1,
            text=text(curve.tokens[begin:end]).strip("\n"),
            value=curve.values[t],
            trials=curve.trials[t] if curve.trials else 0,
            advantage=curve.advantages[t],
            critical=t == curve.critical,
        )
        for t, (begin, end) in enumerate(spans)
    )
    points = [_point(t, value, len(steps)) for t, value in enumerate(curve.values)]
    group = [tree.samples[i] for i in tree.group(curve.critical_prefix)]
    return TrajectoryView(
        problem_id=tree.problem.id,
        prompt=tree.problem.prompt or "\n".join(f"{m.role}: {m.content}" for m in tree.problem.messages),
        answer=tree.problem.answer,
        right=curve.values[-1] > 0.5,
        steps=steps,
        curve=" ".join(f"{x:.1f},{y:.1f}" for x, y in points),
        marks=tuple((x, y, t in (curve.critical, curve.critical + 1)) for t, (x, y) in enumerate(points)),
        resets=tuple((text(sample.tokens[sample.start :]).strip("\n"), sample.reason) for sample in group),
        rescued=sum(sample.reward == 1 for sample in group),
    )


def _point(step: int, value: float, steps: int) -> tuple[float, float]:
    x = _MARGIN + (_WIDTH - 2 * _MARGIN) * step / max(1, steps)
    return x, _MARGIN + (_HEIGHT - 2 * _MARGIN) * (1 - value)
