"""Lightning's Trainer with the two things people do with a policy besides fitting it: explore and export."""

from pathlib import Path

from lightning import Trainer

from gpo_lightning.callbacks.rollout_progress import RolloutProgress
from gpo_lightning.critical import Rollouts
from gpo_lightning.datamodule import RolloutDataModule
from gpo_lightning.metrics import errors_found
from gpo_lightning.module import GPOModule
from gpo_lightning.problems import LabelledSource
from gpo_lightning.report import write_report
from gpo_lightning.tree import write_trees


class GPOTrainer(Trainer):
    """Adds the subcommands ``explore`` and ``export``."""

    def explore(
        self,
        model: GPOModule,
        datamodule: RolloutDataModule,
        output: Path = Path("runs/explore"),
        ckpt_path: str | None = None,
        labelled: LabelledSource | None = None,
    ) -> Rollouts:
        """Search the critical steps of a policy on problems, without training.

        Args:
            model: the policy.
            datamodule: problems, engine and search.
            output: folder for ``rollouts.parquet`` and ``report.html``.
            ckpt_path: checkpoint whose trained weights are explored.
            labelled: responses with a known first mistake, to look for it in them instead of in the policy's own.
        """
        self._load(model, ckpt_path)
        RolloutProgress().report(datamodule)
        try:
            if labelled is None:
                rollouts = datamodule.explore(model.policy, iteration=0)
            else:
                trajectories, rollouts = datamodule.examine(model.policy, labelled)
                print(f"Critical step is the first wrong one: {errors_found(trajectories, rollouts.trees)}")
            write_trees(output / "rollouts.parquet", rollouts.trees)
            write_report(output / "report.html", rollouts.trees, model.policy.tokenizer)
        finally:
            datamodule.close()
        curves = sum(len(tree.curves) for tree in rollouts.trees)
        print(f"{len(rollouts.trees)} problems, {curves} trajectories explored.")
        print(f"Rollouts: {output / 'rollouts.parquet'}\nReport:   {output / 'report.html'}")
        return rollouts

    def export(
        self,
        model: GPOModule,
        datamodule: RolloutDataModule,
        output: Path = Path("export"),
        ckpt_path: str | None = None,
        merged: bool = False,
    ) -> None:
        """Write the adapter, or the merged model, for peft, transformers and vLLM.

        Args:
            model: the policy.
            datamodule: not used; LightningCLI gives it to every subcommand.
            output: folder to write.
            ckpt_path: checkpoint whose trained weights are exported.
            merged: fold the adapter into the base weights and write a whole model.
        """
        self._load(model, ckpt_path)
        output.mkdir(parents=True, exist_ok=True)
        if merged or model.policy.lora is None:
            model.policy.export_merged(output)
        else:
            model.policy.export_adapter(output)
        print(f"Wrote {output}")

    def _load(self, model: GPOModule, ckpt_path: str | None) -> None:
        model.configure_model()
        if ckpt_path is not None:
            model.load_trained(ckpt_path)
        model.to(self.strategy.root_device)
