"""The seccomp filter of a sandboxed run: the system calls that Python needs for itself, threads and files; no other.

In: the machine. Out: a BPF program (struct sock_filter, 8 bytes an instruction) for `child.py`. A call that is not
allowed fails with EPERM; ENOSYS where libc then takes an older one (clone3, whose flags a filter cannot see: `clone` is
tried instead), and for calls that are newer than this file. A call of another machine's table ends the process.

What is not on the list, and therefore refused: sockets, exec, fork, kill in all forms, ptrace and its kin, mount,
namespaces, bpf, io_uring, keys, memory that no limit counts (memfd, System V), modes, owners, times and attributes of
files (Landlock does not know them), and files by handle.
"""

import errno
import struct
from collections.abc import Mapping

from nanochat.inference.sandbox.syscalls import NUMBERS

ARCHITECTURES: Mapping[str, tuple[int, int]] = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""platform.machine() → the column of NUMBERS, and AUDIT_ARCH_…"""

# linux/filter.h, linux/seccomp.h
LOAD, AND, EQUAL, AT_LEAST, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
ALLOW, ERRNO, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
X32 = 0x40000000
NEWEST = 452
"""Calls from this number on did not exist when this file was written."""

CLONE_THREAD, CLONE_NEW = 0x00010000, 0x7E020080
O_ACCMODE, O_TRUNC = 0o3, 0o1000
AF_UNIX = 1
IOCTLS = (0x5401, 0x5413, 0x5421, 0x5450, 0x5451, 0x541B)
"""TCGETS, TIOCGWINSZ, FIONBIO, FIONCLEX, FIOCLEX, FIONREAD: what Python asks of any descriptor."""
FCNTLS = (0, 1, 2, 3, 4, 5, 6, 7, 1030)
"""Duplicates, flags, locks. Not F_SETOWN and F_SETSIG: the kernel would send another process a signal."""
PRCTLS = (15, 16)
"""PR_SET_NAME, PR_GET_NAME: a thread's name."""

Instruction = tuple[int, int, int, int]
"""Code, instructions to skip if true, if false, operand."""


def program(machine: str) -> bytes:
    """The filter of a machine of ARCHITECTURES."""
    column, architecture = ARCHITECTURES[machine]
    lines: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD, 0, 0, NUMBER_AT),
        (AT_LEAST, 0, 1, X32),
        (RETURN, 0, 0, KILL_PROCESS),
        (AT_LEAST, 0, 1, NEWEST),
        (RETURN, 0, 0, ERRNO | errno.ENOSYS),
    ]
    for name, numbers in NUMBERS.items():
        number = numbers[column]
        if number is not None:
            verdict = RULES.get(name, [(RETURN, 0, 0, ALLOW)])
            lines += [(EQUAL, 0, len(verdict), number), *verdict]
    lines.append(_REFUSE)
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


_REFUSE: Instruction = (RETURN, 0, 0, ERRNO | errno.EPERM)
_ALLOW: Instruction = (RETURN, 0, 0, ALLOW)


def _argument(index: int, *, upper: bool = False) -> Instruction:
    """Load 32 bits of an argument; both machines store the lower half first."""
    return (LOAD, 0, 0, ARGUMENTS_AT + 8 * index + 4 * upper)


def _one_of(index: int, *values: int) -> list[Instruction]:
    """Allowed where an argument of type int has one of these values."""
    checks = [line for value in values for line in ((EQUAL, 0, 1, value), _ALLOW)]
    return [_argument(index), *checks, _REFUSE]


def _null(index: int) -> list[Instruction]:
    """Allowed where an argument, a pointer, is NULL."""
    return [_argument(index), (EQUAL, 0, 3, 0), _argument(index, upper=True), (EQUAL, 0, 1, 0), _ALLOW, _REFUSE]


def _flags(index: int, mask: int, *, allowed: int) -> list[Instruction]:
    """Allowed where an argument's masked bits are these."""
    return [_argument(index), (AND, 0, 0, mask), (EQUAL, 0, 1, allowed), _ALLOW, _REFUSE]


def _open(index: int) -> list[Instruction]:
    """Not to cut off a file that is not opened for writing: Landlock's first two versions let that pass."""
    refused = [(EQUAL, 0, 1, O_TRUNC | mode) for mode in (0, 3)]
    checks = [line for check in refused for line in (check, _REFUSE)]
    return [_argument(index), (AND, 0, 0, O_TRUNC | O_ACCMODE), *checks, _ALLOW]


_NO_SUCH_CALL: list[Instruction] = [(RETURN, 0, 0, ERRNO | errno.ENOSYS)]
RULES: Mapping[str, list[Instruction]] = {
    "clone": _flags(0, CLONE_THREAD | CLONE_NEW, allowed=CLONE_THREAD),
    "clone3": _NO_SUCH_CALL,
    "fcntl": _one_of(1, *FCNTLS),
    "ioctl": _one_of(1, *IOCTLS),
    "open": _open(1),
    "openat": _open(2),
    "openat2": _NO_SUCH_CALL,
    "prctl": _one_of(0, *PRCTLS),
    "prlimit64": _one_of(0, 0),  # of this process
    "sendto": _null(4),  # without an address: a socket pair must not reach another's socket
    "socketpair": _one_of(0, AF_UNIX),
}
"""Calls of which a part is allowed, by their arguments."""
