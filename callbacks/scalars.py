"""What every logged scalar means, by name: the metrics reference in the documentation is made from this."""

from fnmatch import fnmatchcase

SCALARS: dict[str, dict[str, str]] = {
    "Training, mean over the iteration": {
        "train/loss": "The objective that is minimised. Near 0 for group-relative losses, whose advantages sum to 0.",
        "train/learning_rate": "Learning rate of the iteration's last optimiser step (ComputeLog).",
        "train/grad_norm": "Norm of the gradient before clipping, over all trainable weights.",
        "train/clip_fraction": "Share of tokens whose gradient the surrogate cuts, wholly or in part.",
        "train/ratio_max": "Largest probability ratio of a token between the policy now and as it sampled.",
        "train/rollout_kl": "Estimated KL of the policy now from the one that sampled, per token.",
        "train/advantage_size": "Mean absolute advantage of a token; 0 means that nothing is to be learnt.",
        "train/reference_kl": "Estimated KL of the policy from the reference, per token.",
        "train/mismatch_kl": "Estimated KL of the trainer's from the engine's log-probabilities for the same weights.",
        "train/mismatch_*": "How far trainer and engine differ, and how much the correction leaves out.",
        "train/value_loss": "Squared error of the value head.",
        "train/return": "Mean target of the value head.",
        "train/pair_accuracy": "Share of pairs whose chosen response has the higher implicit reward.",
        "train/margin": "Implicit reward of the chosen less that of the rejected response, mean over pairs.",
        "train/chosen_logprob": "Mean log-probability a token of chosen responses.",
        "train/rejected_logprob": "Mean log-probability a token of rejected responses.",
        "train/right_reward": "Implicit reward of right responses.",
        "train/wrong_reward": "Implicit reward of wrong responses.",
        "train/token_probability": "Mean probability of a token that is imitated.",
        "train/divergence": "KTO's estimate of the divergence from the reference.",
    },
    "Rollouts, by what they were drawn for": {
        "rollouts/success_*": "Mean reward of samples, probes, resets: of graded ones.",
        "rollouts/tokens_*": "Mean length of what was drawn, in tokens.",
        "rollouts/truncated": "Share of responses that were cut by the token limit.",
        "rollouts/entropy": "Entropy a token, in nats: the mean negative log-prob of sampled tokens.",
        "rollouts/uniform_groups": "Share of groups whose rewards are all equal, so that they teach nothing.",
        "rollouts/in_flight_mean": "Mean number of continuations asked for and not back, while rollouts are made.",
        "rollouts/idle_share": "Share of that time with fewer than a quarter of the engine's slots busy.",
    },
    "Rewards": {
        "rewards/*_spread": "Standard deviation of what a reward function gave in the iteration.",
        "rewards/*": "Mean of what a reward function gave in the iteration.",
    },
    "Steps": {
        "steps/advantage_mean": "Mean advantage of a step; a histogram stands under steps/advantage.",
        "steps/value_mean": "Mean value before a step; a histogram stands under steps/value.",
        "critical/advantage_mean": "Mean advantage of the chosen steps.",
        "critical/position_mean": "Where the chosen steps lie, from 0 (first) to 1 (last).",
    },
    "Counts": {
        "count/examples": "Examples that were learnt from.",
        "count/graded_*": "Responses by the grader's word for the verdict.",
        "count/ungraded": "Responses no grader could judge; they count neither as right nor as wrong.",
        "count/truncated": "Responses that reached the token limit.",
        "count/empty_response": "Responses without text.",
        "count/prompt_too_long": "Problems left out because their prompt leaves no room for a response.",
        "count/no_room": "Continuations not drawn because their prefix leaves no room.",
        "count/undecidable_group": "Problems not explored because all solutions were right, or all wrong.",
        "count/single_step": "Trajectories not explored because they have a single step.",
        "count/cancelled": "Probes given up because they could not change the choice any more.",
        "count/refilled": "Fresh problems drawn in the place of groups that were all right or all wrong.",
        "count/uniform_group": "Groups without a signal, because all their rewards are equal.",
        "count/moved_group": "Problems with a group that starts where data.starts chose, without a search.",
        "count/group_stays_at_prompt": "Problems without one: the prompt is the best start, or nothing else could be.",
        "count/no_start_source": "Of those, groups to be moved without a solution, success or failure to start in.",
        "count/no_start_inside": "Of those, groups whose response to start in has no step boundary in the right place.",
        "count/state_key_failed": "Responses whose states are unknown because the problem source's state_key raised.",
        "count/*": "Whatever else was left out of the examples, by the reason why.",
    },
    "Evaluation": {
        "eval/*": "Held-out accuracy, with the bounds (low, high) of its 95 % interval and the number n of problems.",
        "val/*": "The same, from gpo validate or validation inside training.",
        "test/*": "The same, from gpo test.",
    },
    "Loggers": {
        "hp_metric": "Written by the TensorBoard logger beside the hyperparameters; says nothing.",
    },
    "Compute": {
        "compute/generated": "Tokens generated so far, for all purposes (TokenBudget).",
        "compute/prefilled": "Prompt tokens read so far, less those found in a cache (TokenBudget).",
        "compute/tokens_per_second": "Tokens generated a second of rollouts, over all ranks (ComputeLog).",
        "compute/tokens_per_useful_group": "Tokens generated for each group whose rewards differ (ComputeLog).",
        "compute/tokens_*": "Tokens generated in the iteration, by purpose, over all ranks (ComputeLog).",
        "compute/seconds_*": "Seconds of the iteration, by phase, of the first rank (ComputeLog). Sampling, probing "
        "and resetting overlap: the engine's time is shared out by what it has in flight.",
    },
    "From Lightning": {"lr-*": "Learning rate (LearningRateMonitor).", "epoch": "Iterations so far."},
}


RECORDS: dict[str, str] = {
    "steps/advantage": "Histogram: advantage of every step that was valued.",
    "steps/value": "Histogram: value before every step.",
    "critical/advantage": "Histogram: advantage of the chosen steps.",
    "critical/position": "Histogram: where the chosen steps lie, from 0 (first) to 1 (last).",
    "rollouts/in_flight": "Table: mean number of continuations in flight in each twentieth of the rollouts' time.",
    "rollouts/completions": "Table: some responses with prompt, rewards, answers, and their critical step.",
}
"""What is logged beside scalars."""


def meaning(name: str) -> str | None:
    """What a logged scalar means; ``None`` for one that is not ours.

    >>> meaning("rollouts/success_probe")
    'Mean reward of samples, probes, resets: of graded ones.'
    """
    known = (entry for group in SCALARS.values() for entry in group.items())
    return next((said for pattern, said in known if fnmatchcase(name, pattern)), None)
