"""Rollouts made up for the page: with turns that are known, texts that are hostile, and as many as one likes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from gpo_lightning.engines import Purpose
from gpo_lightning.problems import Message, Problem
from gpo_lightning.rollouts import RolloutTree, Sample
from gpo_lightning.rollouts.tree import ValueCurve

_SENTENCE = """the price of a ticket is then divided among all three children who each pay half as much before tax while
she keeps twelve apples and sells every second basket so that remaining money equals total cost minus what he owes
therefore we multiply hours by rate add distance subtract discount find number per week check result again"""
_WORDS = _SENTENCE.split()


@dataclass
class Story:
    """One problem whose trajectory is written step by step, with continuations from before some of the steps.

    Args:
        steps: texts of the trajectory.
        outcome: its reward.
        tries: continuations before each step as (text that follows the steps before it, reward); siblings at 0.
        question: the problem's text.
    """

    steps: Sequence[str]
    outcome: float | None
    tries: dict[int, Sequence[tuple[str, float | None]]] = field(default_factory=dict)
    question: str = "What is 2 + 2?"
    name: str = "demo/1"
    task: str = "demo"
    iteration: int = 0
    messages: tuple[Message, ...] = ()

    def tree(self) -> RolloutTree:
        """The tree that such rollouts leave behind; a token is a character, as the page needs none."""
        prompt = None if self.messages else self.question
        problem = Problem(self.name, self.task, "4", prompt=prompt, messages=self.messages)
        tree = RolloutTree(problem, (1,))
        text = "".join(self.steps)
        tree.add(self._sample(text, 0, self.outcome, Purpose.SAMPLE))
        cuts = [0]
        for step in self.steps:
            cuts.append(cuts[-1] + len(step))
        for step, tries in self.tries.items():
            for follows, reward in tries:
                purpose = Purpose.PROBE if step else Purpose.SAMPLE
                tree.add(self._sample(text[: cuts[step]] + follows, cuts[step], reward, purpose))
        values = (*[0.5] * len(self.steps), self.outcome or 0.0)
        trials = tuple(len(self.tries.get(step, ())) for step in range(len(self.steps)))
        tree.curves.append(ValueCurve(_tokens(text), tuple(cuts), values, 0, trials, tuple(self.steps)))
        return tree

    def _sample(self, text: str, start: int, reward: float | None, purpose: Purpose) -> Sample:
        tokens = _tokens(text)
        logprobs = (-0.5,) * (len(tokens) - start)
        reason = "ungraded" if reward is None else "right" if reward > 0.5 else "wrong"
        answer = text.rpartition("#")[2].strip() or None
        return Sample(tokens, start, logprobs, reward, reason, False, purpose, self.iteration, answer, text)


def _tokens(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def falling(at: int, steps: int = 5, name: str = "demo/1", probes: int = 12, iteration: int = 0) -> Story:
    """A wrong solution that is ruined at a known step."""
    good, bad = [("good\n#4", 1.0)] * probes, [("bad\n#5", 0.0)] * probes
    tries = {t: good if t <= at else bad for t in range(steps)}
    return Story(_texts(steps, "#5"), 0.0, tries, f"Where does {name} fall?", name, iteration=iteration)


def rising(at: int, steps: int = 5, name: str = "demo/2", probes: int = 12, iteration: int = 0) -> Story:
    """A right solution that is won at a known step."""
    good, bad = [("good\n#4", 1.0)] * probes, [("bad\n#5", 0.0)] * probes
    tries = {t: bad if t <= at else good for t in range(steps)}
    return Story(_texts(steps, "#4"), 1.0, tries, f"Where does {name} rise?", name, iteration=iteration)


def _texts(steps: int, answer: str) -> list[str]:
    return [*(f"step {t + 1}\n" for t in range(steps - 1)), answer]


def many(
    problems: int, group: int = 8, steps: int = 8, probes: int = 4, words: int = 14, seed: int = 0
) -> list[RolloutTree]:
    """So many problems of ``group`` valued trajectories each, with texts of about the entropy of English."""
    draw = Random(seed)

    def sentence() -> str:
        return " ".join(draw.choices(_WORDS, k=words)) + f" = {draw.randrange(999)}.\n"

    trees: list[RolloutTree] = []
    for number in range(problems):
        problem = Problem(f"many/{number}", f"task {number % 3}", "4", prompt=f"Question {number}: {sentence()}")
        tree = RolloutTree(problem, (1,))
        for _ in range(group):
            _grow(tree, [sentence() for _ in range(steps)], draw, sentence, probes)
        trees.append(tree)
    return trees


def _grow(tree: RolloutTree, texts: list[str], draw: Random, sentence: object, probes: int) -> None:
    """Add a trajectory that turns somewhere, and probes before each of its steps; a token is a sentence."""
    steps, outcome = len(texts), float(draw.random() < 0.5)
    turn = draw.randrange(steps)
    tokens = tuple(draw.randrange(1 << 30) for _ in texts)

    def sample(start: int, own: list[str], drawn: tuple[int, ...], reward: float) -> Sample:
        text, whole = "".join((*texts[:start], *own)), tokens[:start] + drawn
        purpose = Purpose.PROBE if start else Purpose.SAMPLE
        reason = "right" if reward else "wrong"
        return Sample(whole, start, (-0.5,) * len(drawn), reward, reason, False, purpose, 0, "4", text)

    tree.add(sample(0, texts, tokens, outcome))
    for t in range(1, steps):
        for _ in range(probes):
            chance = 0.6 if t <= turn else outcome
            own = [sentence() for _ in range(steps - t)]  # type: ignore[operator]
            drawn = tuple(draw.randrange(1 << 30) for _ in own)
            tree.add(sample(t, own, drawn, float(draw.random() < chance)))
    values = (*[0.5] * steps, outcome)
    tree.curves.append(ValueCurve(tokens, tuple(range(steps + 1)), values, turn, (probes,) * steps, tuple(texts)))
