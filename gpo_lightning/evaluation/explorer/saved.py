"""The explorer of rollouts that were kept as Parquet files: ``gpo report``."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase as Tokenizer

from gpo_lightning.errors import ConfigError, DataError
from gpo_lightning.evaluation.explorer.page import write_page
from gpo_lightning.policy.embedded.resolve import resolve_base
from gpo_lightning.rollouts import RolloutTree, read_trees
from gpo_lightning.saved_tokenizer import read_tokenizer


def report(
    rollouts: Path, output: Path | None = None, title: str = "Where reasoning turns", tokenizer: str | None = None
) -> None:
    """Draw the page of rollouts again, from the Parquet files they were kept in.

    Args:
        rollouts: a file, or a run's folder, whose iterations then stand on one page.
        output: HTML file to write; ``report.html`` beside the rollouts if it is not given.
        title: of the page.
        tokenizer: what ``model.policy.base`` was; only rollouts need it that were written before texts were kept.
    """
    trees = read_saved(rollouts)
    path = output or (rollouts if rollouts.is_dir() else rollouts.parent) / "report.html"
    write_page(path, trees, title, None if tokenizer is None else _tokenizer(tokenizer))
    curves = sum(len(tree.curves) for tree in trees)
    print(f"{len(trees)} problems, {curves} trajectories valued step by step.\nReport: {path}")


def read_saved(path: Path) -> list[RolloutTree]:
    """The trees of a rollout file, or of all in a run's folder.

    Raises:
        DataError: there is no such file, or it is none of ours.
    """
    if not path.is_dir():
        return read_trees(path)
    found = sorted((path / "rollouts").glob("*.parquet")) or sorted(path.glob("*.parquet"))
    if not found:
        raise DataError(
            f"{path}: no rollouts here; a run keeps them in FOLDER/rollouts/, gpo explore in rollouts.parquet."
        )
    return [tree for file in found for tree in read_trees(file)]


def _tokenizer(name: str) -> Tokenizer:
    try:
        return read_tokenizer(resolve_base(name))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--tokenizer: no tokenizer could be loaded from {name!r}: {error}") from error
