"""What people do with a policy besides training it: look at its rollouts, ask whether resets would pay, give it away.

Subcommands of ``gpo``, and methods of the trainer, whose device and settings they share.
"""

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lightning import Trainer

from gpo_lightning.callbacks.model_export import training
from gpo_lightning.callbacks.rollout_progress import RolloutProgress
from gpo_lightning.callbacks.scalars import meaning
from gpo_lightning.datamodule import RolloutDataModule
from gpo_lightning.evaluation import explorer
from gpo_lightning.evaluation.diagnosis import Diagnosis, diagnose
from gpo_lightning.evaluation.labelled_errors import labelled_report
from gpo_lightning.module import GPOModule
from gpo_lightning.problems.labelled import LabelledSource
from gpo_lightning.rollouts import Frontier, Rollouts, write_trees
from gpo_lightning.runs.model_folder import push_model, write_model
from gpo_lightning.runs.resume import JOURNAL


class Subcommands(Trainer):
    """Adds ``explore``, ``diagnose`` and ``export`` to Lightning's trainer.

    ``settings`` is the resolved configuration by dotted key, which tells runs apart; the command line sets it.
    """

    settings: Mapping[str, Any] = MappingProxyType({})

    def explore(
        self,
        model: GPOModule,
        datamodule: RolloutDataModule,
        output: Path = Path("runs/explore"),
        ckpt_path: str | None = None,
        labelled: LabelledSource | None = None,
    ) -> Rollouts:
        """Search the critical steps of a policy on problems, without training.

        Killed, and started again with the same command, it goes on with what it had finished (``OUTPUT/journal``).

        Args:
            model: the policy.
            datamodule: problems, engine and search.
            output: folder for ``rollouts.parquet`` and ``report.html``, and ``labelled.json`` where labels are given.
            ckpt_path: checkpoint whose trained weights are explored.
            labelled: responses of others, to look at them instead of the policy's own; of known first mistakes it is
                told how often the search finds them.
        """
        self._load(model, ckpt_path)
        datamodule.journal_in(output / JOURNAL)
        with _followed(datamodule):
            if labelled is None:
                rollouts = datamodule.explore(model.policy, iteration=0)
            else:
                trajectories, rollouts = datamodule.examine(model.policy, labelled)
                if any(trajectory.error is not None for trajectory in trajectories):
                    found = labelled_report(trajectories, rollouts.trees)
                    output.mkdir(parents=True, exist_ok=True)
                    (output / "labelled.json").write_text(json.dumps(found.to_dict(), indent=1) + "\n")
                    print(found)
            write_trees(output / "rollouts.parquet", rollouts.trees)
            explorer.write_page(output / "report.html", rollouts.trees, tokenizer=model.policy.tokenizer)
            # Nobody will ask the journal again.
            datamodule.teardown("explore")
        curves = sum(len(tree.curves) for tree in rollouts.trees)
        print(f"{len(rollouts.trees)} problems, {curves} trajectories explored.")
        for reason in ("undecidable_group", "single_step", "prompt_too_long", "no_room") if not curves else ():
            if count := rollouts.counts[reason]:
                print(f"  {count}: {meaning(f'count/{reason}')}")
        print(f"Rollouts: {output / 'rollouts.parquet'}\nReport:   {output / 'report.html'} (open it in a browser)")
        return rollouts

    def diagnose(
        self,
        model: GPOModule,
        datamodule: RolloutDataModule,
        iterations: int = 8,
        ckpt_path: str | None = None,
    ) -> Diagnosis:
        """Say whether critical steps would help a policy on problems, before training it.

        Batches of rollouts are drawn at the present weights; how well the gradient of each method's batch points where
        success rises, for the tokens it cost, is printed as a table and in words.

        Args:
            model: the policy.
            datamodule: problems and engine; ``data.plan`` says how large a batch is.
            iterations: batches; the more, the finer the differences that can be told.
            ckpt_path: checkpoint whose trained weights are examined.
        """
        self._load(model, ckpt_path)
        with _followed(datamodule):
            searched = datamodule.starts.searches and datamodule.plan.reset_probability > 0
            made = [datamodule.explore(model.policy, i).trees for i in range(iterations)] if searched else []
            datamodule.starts = Frontier()
            frontier = [datamodule.explore(model.policy, i).trees for i in range(iterations)]
            found = diagnose(model.policy, frontier, made)
        print("\n".join([found.table(), "", *found.advice()]))
        return found

    def export(
        self,
        model: GPOModule,
        datamodule: RolloutDataModule,
        output: Path = Path("export"),
        ckpt_path: str | None = None,
        merged: bool = False,
        push: str | None = None,
        private: bool = True,
    ) -> None:
        """Write the adapter, or the merged model, for peft, transformers and vLLM.

        Tokenizer, chat template and a model card lie beside it.

        Args:
            model: the policy.
            datamodule: named in the model card.
            output: folder to write.
            ckpt_path: checkpoint whose trained weights are exported.
            merged: fold the adapter into the base weights and write a whole model.
            push: also upload it to the Hugging Face hub, under this name (``owner/name``).
            private: whether a repository that is made there is private.
        """
        self._load(model, ckpt_path)
        run = None if ckpt_path is None else Path(ckpt_path).resolve().parents[1]
        write_model(output, model.policy, training(model, datamodule), run, merged)
        print(f"Wrote {output}")
        if push is not None:
            print(f"Pushed {push_model(output, push, private)}")

    def _load(self, model: GPOModule, ckpt_path: str | None) -> None:
        model.configure_model()
        if ckpt_path is not None:
            model.load_trained(ckpt_path, self.settings)
        model.to(self.strategy.root_device)


@contextmanager
def _followed(datamodule: RolloutDataModule) -> Generator[None]:
    """Show how far its rollouts are; whatever comes, take the bar away and end the engine."""
    progress = RolloutProgress()
    progress.report(datamodule)
    try:
        yield
    finally:
        progress.close()
        datamodule.close()
