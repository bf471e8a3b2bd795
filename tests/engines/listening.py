"""Who could speak to the processes of an engine: the addresses at which they take connections."""

import struct
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

_LISTENS = "0A"


def listens_at(processes: Iterable[int]) -> set[IPv4Address | IPv6Address]:
    """IP addresses of the TCP sockets at which processes listen, as the kernel lists them."""
    theirs: set[str] = set()
    for pid in processes:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(OSError):  # it was closed meanwhile
                theirs.add(str(descriptor.readlink()))
    found: set[IPv4Address | IPv6Address] = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == _LISTENS and f"socket:[{rest[5]}]" in theirs:
                found.add(ip_address(_bytes(local.partition(":")[0])))
    return found


def _bytes(written: str) -> bytes:
    """The kernel writes an address as words of its own byte order."""
    return b"".join(struct.pack("=I", int(written[at : at + 8], 16)) for at in range(0, len(written), 8))
