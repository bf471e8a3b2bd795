"""The explorer inside a notebook."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.evaluation.explorer.page import page
from gpo_lightning.rollouts import Rollouts, RolloutTree


@dataclass(frozen=True)
class Shown:
    """A page that Jupyter, VS Code and Colab display below the cell that returns it.

    Args:
        html: the whole page.
        height: of its frame, in pixels.
    """

    html: str
    height: int = 820

    def __repr__(self) -> str:
        return f"Explorer page of {len(self.html):,} characters; a notebook shows it."

    def _repr_html_(self) -> str:
        # A frame of its own, so that neither the page nor what a model wrote reaches the notebook around it.
        style = f"width:100%;height:{self.height}px;border:1px solid #8884;border-radius:10px"
        document = escape(self.html, quote=True)
        return f'<iframe title="Explorer" sandbox="allow-scripts" style="{style}" srcdoc="{document}"></iframe>'


def show(
    rollouts: Rollouts | Sequence[RolloutTree],
    title: str = "Where reasoning turns",
    tokenizer: Tokenizer | None = None,
    height: int = 820,
) -> Shown:
    """Look at rollouts in a notebook.

    >>> show([])
    Explorer page of ... characters; a notebook shows it.

    Args:
        rollouts: what ``gpo explore``, or ``RolloutDataModule.explore``, made, or trees read from a file.
        title: of the page.
        tokenizer: decodes rollouts that hold no texts.
        height: of the frame, in pixels.
    """
    trees = rollouts.trees if isinstance(rollouts, Rollouts) else rollouts
    return Shown(page(trees, title, tokenizer), height)
