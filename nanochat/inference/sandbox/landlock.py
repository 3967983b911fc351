"""What Landlock lets a sandboxed run do with files: the standard library read, its scratch folder written.

In: the scratch folder. Out: the ruleset's attributes and rules, as plain data for `child.py`, made for the version of
Landlock that this kernel has. What Landlock does not know (modes, owners, times, extended attributes; before its third
version, cutting a file off) is the business of `seccomp.py`.
"""

import ctypes
import os
import struct
import sys
import sysconfig
from functools import cache
from pathlib import Path

# linux/landlock.h
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << bit for bit in range(6, 13))
REFER, TRUNCATE, IOCTL_DEV = (1 << bit for bit in range(13, 16))
BIND_TCP, CONNECT_TCP = 1, 2
SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL = 1, 2

READ = READ_FILE | READ_DIR
SCRATCH = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM | REFER | TRUNCATE
READ_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo")
"""Beside the standard library: what its extension modules are linked with, and the time zones."""

Rule = tuple[str, int, bool]
"""Path, rights, whether the run cannot do without it."""


@cache
def version() -> int:
    """Landlock's version in this kernel; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    found = int(ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1))
    return max(0, found)


def handled_files(version: int) -> int:
    """The rights that a version knows: all of them are withheld but where a rule gives them."""
    bits = 13 if version < 2 else 14 if version < 3 else 15 if version < 5 else 16
    return (1 << bits) - 1


def ruleset(scratch: Path, version: int) -> tuple[bytes, list[Rule]]:
    """The attributes of the ruleset (struct landlock_ruleset_attr) and its rules."""
    attributes = struct.pack("=Q", handled_files(version))
    if version >= 4:
        attributes += struct.pack("=Q", BIND_TCP | CONNECT_TCP)
    if version >= 6:
        attributes += struct.pack("=Q", SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL)
    libraries = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    rules: list[Rule] = [(str(Path(folder).resolve()), READ, True) for folder in sorted(libraries)]
    rules += [(folder, READ, False) for folder in READ_FOLDERS]
    rules += [(os.devnull, READ_FILE | WRITE_FILE, False), ("/dev/urandom", READ_FILE, False)]
    rules.append((str(scratch), SCRATCH & handled_files(version), True))
    return attributes, rules
