"""From the name of a base model to a directory that transformers and vLLM read."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
EMBEDDED = ("tiny", "smollm2")
"""Names of the embedded models."""
WARM = "tiny:"
"""What opens the name of a warm start of `tiny`, such as ``tiny:ledger-8``."""


def resolve_base(base: str) -> str:
    """Directory of an embedded model; any other name (a path, a hub id) is returned as it is."""
    match base:
        case "tiny":
            return str(WEIGHTS)
        case "smollm2":
            from gpo_lightning.policy.embedded.smollm2 import smollm2_directory

            return str(smollm2_directory())
        case _ if base.startswith(WARM):
            from gpo_lightning.policy.embedded.warm_start import warm_start_directory

            return str(warm_start_directory(base.removeprefix(WARM), WEIGHTS))
        case _:
            return base
