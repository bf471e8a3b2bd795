"""Which system calls a confined worker may still make, as a seccomp filter: all others are refused (EPERM).

Allowed is what acts on nothing but the process itself and files that are open, or that Landlock lets one open. So a
call that a later kernel brings is refused until somebody allows it.
"""

import struct
from collections.abc import Iterable, Mapping

# Name and number: on x86_64, and on aarch64 where there is such a call. A test compares them with the kernel's headers.
_ALLOWED = """
read:0:63 write:1:64 readv:19:65 writev:20:66 pread64:17:67 pwrite64:18:68 preadv:295:69 lseek:8:62 close:3:57
close_range:436:436 fstat:5:80 newfstatat:262:79 statx:332:291 stat:4: lstat:6: access:21: faccessat:269:48
faccessat2:439:439 open:2: openat:257:56 readlink:89: readlinkat:267:78 getcwd:79:17 getdents:78: getdents64:217:61
statfs:137:43 fstatfs:138:44 dup:32:23 dup2:33: dup3:292:24 pipe:22: pipe2:293:59 fadvise64:221:223
readahead:187:213

mmap:9:222 munmap:11:215 mprotect:10:226 mremap:25:216 madvise:28:233 mincore:27:232 msync:26:227 brk:12:214
membarrier:324:283 mlock:149:228 munlock:150:229

rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139 rt_sigpending:127:136 rt_sigtimedwait:128:137
sigaltstack:131:132 setitimer:38:103 getitimer:36:102 alarm:37: pause:34: restart_syscall:219:128

futex:202:98 futex_waitv:449:449 set_robust_list:273:99 get_robust_list:274:100 rseq:334:293 set_tid_address:218:96
arch_prctl:158: sched_yield:24:124 sched_getaffinity:204:123 sched_getparam:143:121 sched_getscheduler:145:120
getcpu:309:168

getpid:39:172 getppid:110:173 gettid:186:178 getuid:102:174 geteuid:107:175 getgid:104:176 getegid:108:177
getgroups:115:158 getresuid:118:148 getresgid:120:150 getpgrp:111: getpgid:121:155 getsid:124:156
clock_gettime:228:113 clock_getres:229:114 clock_nanosleep:230:115 nanosleep:35:101 gettimeofday:96:169 time:201:
times:100:153 getrusage:98:165 getrlimit:97:163 sysinfo:99:179 uname:63:160 getrandom:318:278

poll:7: ppoll:271:73 select:23: pselect6:270:72 epoll_create:213: epoll_create1:291:20 epoll_ctl:233:21
epoll_wait:232: epoll_pwait:281:22 eventfd2:290:19 exit:60:93 exit_group:231:94
"""
# Calls of which only some forms are allowed: place of the argument that tells them apart, and what it may be.
_SOME_FORMS = {
    # To copy a descriptor, and its flags; not who gets signals about it, nor which.
    "fcntl:72:25": (1, (0, 1, 2, 3, 1030)),
    # Whether it is a terminal, and how wide, whether programs get it, how much is in it.
    "ioctl:16:29": (1, (0x5401, 0x5413, 0x5450, 0x5451, 0x541B)),
    # To read limits, not to set one.
    "prlimit64:302:261": (2, (0,)),
}
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # with EPERM
_LOAD, _EQUAL, _GIVE = 0x20, 0x15, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # where they lie in what the filter is given


def allowed(machine: str) -> Mapping[str, int]:
    """Numbers of the calls allowed whatever their arguments, by name.

    >>> allowed("x86_64")["getrandom"], "openat2" in allowed("x86_64")
    (318, False)
    """
    return _numbers(_ALLOWED.split(), _MACHINES[machine][0])


def in_some_forms(machine: str) -> Mapping[str, int]:
    """Numbers of the calls of which some forms are allowed, by name."""
    return _numbers(_SOME_FORMS, _MACHINES[machine][0])


def seccomp_filter(machine: str) -> bytes | None:
    """The filter as the kernel takes it, steps of 8 bytes; ``None`` for a machine whose numbers are not known here."""
    if machine not in _MACHINES:
        return None
    calls = list(allowed(machine).values())
    numbers = in_some_forms(machine).values()
    forms = [_only(number, *form) for number, form in zip(numbers, _SOME_FORMS.values(), strict=True)]
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _MACHINES[machine][1]),
        (_GIVE, 0, 0, _REFUSE),
        # x86_64 numbers its calls a second time, from 2^30 on; none of those is in the list.
        (_LOAD, 0, 0, _NUMBER),
        *(step for form in forms for step in form),
        *((_EQUAL, len(calls) - place, 0, call) for place, call in enumerate(calls)),
        (_GIVE, 0, 0, _REFUSE),
        (_GIVE, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def _only(call: int, argument: int, values: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """Steps that end with a verdict where it is this call, and go on behind them where it is not.

    An argument has two words, the lower one first; the upper one must be 0.
    """
    place = _ARGUMENTS + 8 * argument
    return [
        (_EQUAL, 0, len(values) + 5, call),
        (_LOAD, 0, 0, place + 4),
        (_EQUAL, 0, len(values) + 1, 0),
        (_LOAD, 0, 0, place),
        *((_EQUAL, len(values) - number, 0, value) for number, value in enumerate(values)),
        (_GIVE, 0, 0, _REFUSE),
        (_GIVE, 0, 0, _ALLOW),
    ]


def _numbers(entries: Iterable[str], column: int) -> dict[str, int]:
    found = [entry.split(":") for entry in entries]
    return {name: int(numbers[column]) for name, *numbers in found if numbers[column]}
