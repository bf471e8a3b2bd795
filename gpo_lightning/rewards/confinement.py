"""What takes a worker process the network, the file system, other programs and other processes.

Deadline and memory bound what hostile text can cost; this bounds what it can do, should it ever run as code. Limits of
resources hold on every Unix; Landlock (files, TCP) and seccomp (system calls) where the kernel is a Linux with them.
"""

import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from gpo_lightning.rewards.system_calls import seccomp_filter

_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH = 1
_VERSION = 1
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
# Rights that each version of Landlock knows: 13 at first, then to link elsewhere, to truncate, to control devices.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_MOST_FILE_RIGHTS = 16
_TCP_FROM, _SCOPE_FROM = 4, 6

LIBRARIES = tuple(
    Path(folder)
    for folder in (sys.prefix, sys.base_prefix, "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
)
"""Where modules and the shared libraries under them lie."""


def confine(readable: Sequence[Path]) -> tuple[str, ...]:
    """Give up, for good, what no scorer needs.

    Args:
        readable: folders from which files may still be read; libraries import modules late.

    Returns:
        what is in force, of ``limits``, ``landlock`` and ``seccomp``.
    """
    # What a file may grow to, what may be started, what a crash may leave.
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    if sys.platform != "linux":
        return ("limits",)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return ("limits",)
    # Landlock first: seccomp leaves nothing to set up with.
    done = {"limits": True, "landlock": _landlock(libc, readable), "seccomp": _seccomp(libc)}
    return tuple(name for name, in_force in done.items() if in_force)


def _landlock(libc: ctypes.CDLL, readable: Iterable[Path]) -> bool:
    version = int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION))
    if version < 1:
        return False
    files = (1 << _FILE_RIGHTS.get(version, _MOST_FILE_RIGHTS)) - 1
    handled = struct.pack("QQQ", files, 3 if version >= _TCP_FROM else 0, 3 if version >= _SCOPE_FROM else 0)
    size = 8 if version < _TCP_FROM else 16 if version < _SCOPE_FROM else 24
    ruleset = int(libc.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(size), 0))
    if ruleset < 0:
        return False
    for folder in readable:
        with suppress(OSError):
            descriptor = os.open(folder, os.O_PATH)
            rule = struct.pack("=Qi", _READ_FILE | _READ_FOLDER, descriptor)
            libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
            os.close(descriptor)
    in_force = libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return in_force


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _seccomp(libc: ctypes.CDLL) -> bool:
    code = seccomp_filter(platform.machine())
    if code is None:
        return False
    program = _Program(len(code) // 8, code)
    return libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0) == 0
