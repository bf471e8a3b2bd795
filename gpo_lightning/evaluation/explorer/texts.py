"""Texts of responses and steps: as they were kept with the rollouts, else decoded."""

from dataclasses import dataclass
from itertools import pairwise

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.critical.token_text import token_pieces
from gpo_lightning.errors import DataError
from gpo_lightning.rollouts import RolloutTree, Sample
from gpo_lightning.rollouts.tree import ValueCurve


@dataclass(frozen=True)
class Texts:
    """Reads responses.

    Args:
        tokenizer: decodes those whose text was not kept; ``None`` refuses them.
    """

    tokenizer: Tokenizer | None = None

    def response(self, sample: Sample) -> str:
        """The text of a whole response.

        Raises:
            DataError: it was not kept, and there is no tokenizer.
        """
        return sample.text if sample.text is not None else self._decode(sample.tokens)

    def steps(self, curve: ValueCurve) -> tuple[str, ...]:
        """``[n]`` texts of a trajectory's steps."""
        if curve.steps or self.tokenizer is None:
            return curve.steps or (self._decode(curve.tokens),)
        pieces = token_pieces(self.tokenizer, curve.tokens)
        return tuple("".join(pieces[begin:end]) for begin, end in pairwise(curve.boundaries))

    def start(self, tree: RolloutTree, sample: Sample) -> int:
        """Characters of a response that were given; the rest was drawn."""
        if sample.start == 0:
            return 0
        for curve in tree.curves:
            if sample.start in curve.boundaries and curve.tokens[: sample.start] == sample.prefix:
                return sum(map(len, self.steps(curve)[: curve.boundaries.index(sample.start)]))
        if self.tokenizer is not None:
            return len(self._decode(sample.prefix))
        # What all continuations of a prefix share holds the prefix itself, and seldom more than a word beyond.
        own = self.response(sample)
        return min(shared(own, self.response(tree.samples[i])) for i in tree.through(sample.prefix))

    def _decode(self, tokens: tuple[int, ...]) -> str:
        if self.tokenizer is None:
            raise DataError(
                "These rollouts hold no texts (they were written before texts were kept). Name the tokenizer that can "
                "read them: gpo report FILE --tokenizer NAME, where NAME is what model.policy.base was."
            )
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))


def shared(first: str, second: str) -> int:
    """Characters at the beginning that two texts share.

    >>> shared("7 + 8 = 15", "7 + 8 = 14")
    9
    """
    # Halving compares slices, which costs far less than looking at characters one by one.
    least, most = 0, min(len(first), len(second))
    while least < most:
        middle = (least + most + 1) // 2
        if first[least:middle] == second[least:middle]:
            least = middle
        else:
            most = middle - 1
    return least
