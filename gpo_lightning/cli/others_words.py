"""What people who come from other trainers type, and what it is called here."""

COMMANDS = {
    "train": "fit",
    "run": "fit",
    "resume": "fit --ckpt_path last",
    "eval": "test",
    "evaluate": "test",
    "benchmark": "test",
    "generate": "predict",
    "sample": "predict",
    "push": "export --push OWNER/NAME",
    "merge": "export --merged true",
    "init": "new",
    "create": "new",
    "list": "configs",
    "version": "--version",
}
"""Commands of other tools."""

KEYS = {
    "actor_learning_rate": "model.optimizer.lr",
    "actor_rollout_ref": "model",
    "adam_beta1": "model.optimizer.betas",
    "algorithm": "model.loss",
    "batch_size": "data.plan.problems or data.micro_batch",
    "beta": "model.loss.kl.beta",
    "bf16": "trainer.precision",
    "checkpoint_callback": "trainer.enable_checkpointing",
    "dataset": "data.problems",
    "dataset_name": "data.problems",
    "epochs": "trainer.max_epochs",
    "epsilon": "model.loss.surrogate.low",
    "epsilon_high": "model.loss.surrogate.high",
    "eval_dataset": "data.problems",
    "eval_steps": "trainer.callbacks",
    "fp16": "trainer.precision",
    "gpus": "trainer.devices",
    "gradient_accumulation_steps": "trainer.accumulate_grad_batches",
    "init_kl_coef": "model.loss.kl.beta",
    "kl_coef": "model.loss.kl.beta",
    "learning_rate": "model.optimizer.lr",
    "load_in_4bit": "model.policy.quantization.load_in_4bit",
    "log_completions": "trainer.callbacks",
    "logger": "trainer.logger",
    "logging_dir": "trainer.default_root_dir",
    "logging_steps": "trainer.log_every_n_steps",
    "lora_alpha": "model.policy.lora.lora_alpha",
    "lora_dropout": "model.policy.lora.lora_dropout",
    "lora_r": "model.policy.lora.r",
    "lora_target_modules": "model.policy.lora.target_modules",
    "lr": "model.optimizer.lr",
    "lr_scheduler_type": "model.schedule.name",
    "max_completion_length": "data.sampling.max_tokens",
    "max_grad_norm": "trainer.gradient_clip_val",
    "max_length": "data.sampling.max_tokens",
    "max_new_tokens": "data.sampling.max_tokens",
    "micro_train_batch_size": "data.micro_batch",
    "mini_batch_size": "data.micro_batch",
    "model_name": "model.policy.base",
    "model_name_or_path": "model.policy.base",
    "n_epochs": "trainer.max_epochs",
    "n_samples_per_prompt": "data.plan.group_size",
    "num_epochs": "trainer.max_epochs",
    "num_generations": "data.plan.group_size",
    "num_iterations": "data.refresh_every",
    "num_train_epochs": "trainer.max_epochs",
    "output_dir": "trainer.default_root_dir",
    "peft_config": "model.policy.lora",
    "per_device_train_batch_size": "data.micro_batch",
    "ppo_epochs": "data.refresh_every",
    "ppo_max_token_len_per_gpu": "data.micro_tokens",
    "pretrain": "model.policy.base",
    "progress_bar_refresh_rate": "trainer.enable_progress_bar",
    "prompt_data": "data.problems",
    "report_to": "trainer.logger",
    "resume_from_checkpoint": "ckpt_path",
    "reward": "data.rewards",
    "reward_funcs": "data.rewards",
    "reward_weights": "data.rewards",
    "rollout_batch_size": "data.plan.problems",
    "run_name": "trainer.logger",
    "save_steps": "trainer.callbacks",
    "save_total_limit": "trainer.callbacks",
    "seed": "seed_everything",
    "system_prompt": "data.problems",
    "temperature": "data.sampling.temperature",
    "top_p": "data.sampling.top_p",
    "train_batch_size": "data.micro_batch",
    "train_dataset": "data.problems",
    "use_vllm": "data.engine",
    "warmup_ratio": "model.schedule.warmup",
    "warmup_steps": "model.schedule.warmup",
    "weight_decay": "model.optimizer.weight_decay",
}
"""Settings of GRPOTrainer, DPOTrainer, transformers' Trainer, verl and OpenRLHF."""

LOGGERS = {
    "wandb": "lightning.pytorch.loggers.WandbLogger",
    "tensorboard": "lightning.pytorch.loggers.TensorBoardLogger",
    "csv": "lightning.pytorch.loggers.CSVLogger",
    "mlflow": "lightning.pytorch.loggers.MLFlowLogger",
}
"""Names by which ``report_to`` knows them."""


def here(words: dict[str, str], word: str) -> str:
    """A sentence that says what a word is called here; empty where it is none of theirs.

    >>> here(KEYS, "num_generations")
    ' Here it is data.plan.group_size.'
    """
    return f" Here it is {words[word]}." if word in words else ""
