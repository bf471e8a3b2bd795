"""Path-star: the first step decides, and nothing that follows shows whether it was right (2403.06963).

A prompt lists the edges of a star in any order, then its centre and the end of one arm; the solution is the way there:

    prompt     12-5+12-8+8-3+5-9=12-3?\\n
    solution   12-8\\n8-3

Nobody can tell the right arm from the centre without having walked it from the other end.
"""

import re
from random import Random

from gpo_lightning.problems.checked import Checked, Slips, check_range, never
from gpo_lightning.problems.step_checked import Step
from gpo_lightning.rewards import Grader, Verbatim

_EDGE = re.compile(r"(\d+)-(\d+)")
_PROMPT = re.compile(r"((?:\d+-\d+\+?)+)=(\d+)-(\d+)\?\n")
_NODES = 97
"""Node names are 0 to 96, the numbers the embedded policy knows."""


class PathStar(Checked):
    """Ways from the centre of a star to the end of one of its arms.

    Args:
        steps: edges of an arm.
        arms: of the star.
        train_size: problems to train on, all different.
        heldout_size: problems to evaluate on, all different, disjoint from training ones of any seed or size.
        seed: draws the training problems.
        heldout_seed: draws the held-out problems.
    """

    task = "path_star"

    def __init__(
        self,
        steps: int = 5,
        arms: int = 3,
        train_size: int = 4096,
        heldout_size: int = 512,
        seed: int = 0,
        heldout_seed: int = 0,
    ) -> None:
        check_range("arms", arms, 2, _NODES - 1, "with one arm there is nothing to decide")
        check_range("steps", steps, 1, (_NODES - 1) // arms, f"{arms} arms share {_NODES} node names")
        super().__init__(steps, train_size, heldout_size, seed, heldout_seed)
        self.arms = arms

    @property
    def grader(self) -> Grader:
        return Verbatim()

    def prompt(self, draw: Random) -> str:
        centre, *nodes = draw.sample(range(_NODES), 1 + self.arms * self.steps)
        arms = [nodes[arm :: self.arms] for arm in range(self.arms)]
        edges = [edge for arm in arms for edge in zip([centre, *arm], arm, strict=False)]
        draw.shuffle(edges)
        return f"{'+'.join(f'{a}-{b}' for a, b in edges)}={centre}-{draw.choice(arms)[-1]}?\n"

    def solve(self, prompt: str, slips: Slips = never, draw: Random | None = None) -> list[Step]:
        """The author's slip is to go on in another arm."""
        match = _PROMPT.fullmatch(prompt)
        if match is None:
            raise ValueError(f"not a star: {prompt!r}; expected the form '12-5+12-8=12-8?\\n'")
        draw = draw or Random(prompt)
        edges = _EDGE.findall(match[1])
        after = {begin: end for begin, end in edges if begin != match[2]}
        arms = [_walk(end, after) for begin, end in edges if begin == match[2]]
        arm = next(nodes for nodes in arms if nodes[-1] == match[3])
        at, steps = match[2], list[Step]()
        for depth in range(len(arm)):
            if slips():
                arm = draw.choice([other for other in arms if other is not arm])
            steps.append(Step(f"{at}-{arm[depth]}"))
            at = arm[depth]
        return steps


def _walk(node: str, after: dict[str, str]) -> list[str]:
    nodes = [node]
    while nodes[-1] in after:
        nodes.append(after[nodes[-1]])
    return nodes
