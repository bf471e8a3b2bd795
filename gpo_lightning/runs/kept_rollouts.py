"""Rollouts that several iterations learn from, kept so that a run that is taken up again learns from the same."""

import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from gpo_lightning.errors import DataError
from gpo_lightning.rollouts import Rollouts, read_trees, write_trees
from gpo_lightning.rollouts.ranks import gather

_LOG = logging.getLogger(__name__)


class KeptRollouts:
    """One file of trees and one of counts an iteration.

    Args:
        directory: where they lie.
        rank: of this process.
    """

    def __init__(self, directory: Path, rank: int) -> None:
        self.directory, self.rank = directory, rank

    def _trees(self, iteration: int) -> Path:
        return self.directory / f"rollouts-{iteration:06d}-rank{self.rank}.parquet"

    def write(self, iteration: int, rollouts: Rollouts) -> None:
        path = self._trees(iteration)
        path.parent.mkdir(parents=True, exist_ok=True)
        # The trees are written last, and whole: where they are, the counts are too.
        path.with_suffix(".json").write_text(json.dumps(rollouts.counts))
        write_trees(path, rollouts.trees)

    def read(self, iteration: int) -> Rollouts | None:
        """What is kept of an iteration; ``None`` where that is nothing, or has rotted."""
        path = self._trees(iteration)
        if not path.exists():
            return None
        try:
            return Rollouts(read_trees(path), Counter(json.loads(path.with_suffix(".json").read_text())))
        except (DataError, OSError, ValueError) as error:
            _LOG.warning("%s: the rollouts kept there cannot be read, and new ones are made: %s", path, error)
            return None

    def read_or_make(self, iteration: int, make: Callable[[], Rollouts], look: bool) -> Rollouts:
        """The rollouts that a stopped run kept of an iteration, else new ones, which are kept.

        All ranks call it together. A kill may have come between two ranks' writing, and ranks that share their searches
        search together; so where one rank has none, all make them anew.

        Args:
            iteration: that the rollouts are made in.
            make: makes new ones.
            look: whether there can be any.
        """
        found = self.read(iteration) if look else None
        complete = all(gather([found is not None]))
        if found is not None and complete:
            return found
        rollouts = make()
        self.write(iteration, rollouts)
        return rollouts

    def discard(self, before: int) -> None:
        for path in sorted(self.directory.glob(f"rollouts-*-rank{self.rank}.parquet")):
            if path < self._trees(before):
                path.unlink(missing_ok=True)
                path.with_suffix(".json").unlink(missing_ok=True)
