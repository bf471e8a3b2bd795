"""Which side of the split a generated problem is on."""

from hashlib import sha256

HELDOUT_SHARE = 10
"""One problem text in this many belongs to the held-out side."""


def is_heldout(text: str) -> bool:
    """Decided by the problem's text alone: whatever the seeds and sizes, the two sides cannot meet."""
    return int.from_bytes(sha256(text.encode()).digest()[:8]) % HELDOUT_SHARE == 0
