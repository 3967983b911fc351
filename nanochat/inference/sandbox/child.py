"""The program that a sandboxed run starts: it gives up what it was told to, layer by layer, then runs the model's code.

In: on stdin, marshalled, the orders (`run.py` makes them, plain data), the programs, and a nonce; the record's
descriptor as the argument. Out: on that descriptor one line, which says what was achieved or `refused LAYER: why`; and
once every program has run to its end, the nonce. It stands alone: `python -I -S` runs it by its path, so it imports
nothing of nanochat.
"""

import builtins
import ctypes
import marshal
import os
import sys
import types
from collections.abc import Callable
from typing import Any

# linux/prctl.h, linux/sched.h, linux/capability.h
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
SECCOMP_MODE_FILTER, SIGKILL = 2, 9
CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = 0x04000000, 0x08000000, 0x10000000, 0x40000000
CAPABILITY_VERSION_3 = 0x20080522
LANDLOCK_CREATE, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT, PATH_BENEATH = 444, 445, 446, 1

Orders = dict[str, Any]


class Refused(Exception):
    """A layer cannot be had."""


def main() -> None:
    """Take what stdin says, confine this process, run the programs."""
    record = int(sys.argv[1])
    orders, programs, box = received()
    try:
        achieved = confine(orders)
    except Refused as fault:
        os.write(record, f"refused {fault}\n".encode())
        os._exit(1)
    os.write(record, f"{' '.join(achieved)}\n".encode())
    sys.argv = [""]
    run(programs, record, box)


def received() -> tuple[Orders, list[str], list[bytes]]:
    """Orders, programs, and the nonce in a box of its own: no other reference to it stays."""
    chunks = []
    while chunk := os.read(0, 65536):
        chunks.append(chunk)
    orders, programs, nonce = marshal.loads(b"".join(chunks))
    return orders, programs, [nonce]


def run(programs: list[str], record: int, box: list[bytes]) -> None:
    """Run the programs in one fresh `__main__`; the nonce is written after the last one's end, and only then.

    While they run, it lies on this frame's value stack alone, where neither frames nor the garbage collector show it.
    """
    module = types.ModuleType("__main__")
    module.__builtins__ = builtins  # type: ignore[attr-defined]
    sys.modules["__main__"] = module
    code = 1
    try:
        os.write(record, box.pop() + executed(programs, module.__dict__))
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException as fault:
        shown(fault)
        flush()
    finally:
        os._exit(code & 255)


def executed(programs: list[str], namespace: dict[str, Any]) -> bytes:
    """Nothing, once all have run. Each is compiled on its own: none can swallow the next one's text."""
    for text in programs:
        exec(compile(text, "<program>", "exec", dont_inherit=True), namespace)
    flush()
    return b""


def shown(fault: BaseException) -> None:
    """Print what a program raised, without the frames of this file."""
    trace = fault.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    sys.__excepthook__(type(fault), fault.with_traceback(trace), trace)


def flush() -> None:
    """Send off what was printed: this process ends without Python's own end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # the streams may be the program's own
            continue


def confine(orders: Orders) -> list[str]:
    """The layers that were achieved, each in turn; Refused for one that is demanded and cannot be had."""
    libc = ctypes.CDLL(None, use_errno=True) if orders["linux"] else None
    layers: list[tuple[str, Callable[[Any, Any], None]]] = [
        ("process", enter_process),
        ("namespaces", enter_namespaces),
        ("rlimits", enter_rlimits),
        ("privileges", drop_privileges),
        ("landlock", enter_landlock),
        ("seccomp", enter_seccomp),
    ]
    achieved = []
    for name, enter in layers:
        if name not in orders:
            continue
        try:
            enter(libc, orders[name])
            achieved.append(name)
        except (OSError, ValueError) as fault:
            if name in orders["demanded"]:
                raise Refused(f"{name}: {fault}") from fault
    return achieved


def enter_process(libc: Any, parent: int) -> None:
    """Die with the one who waits; the session, the environment and the pipes are its work."""
    if libc is not None:
        called(libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "prctl")
    if os.getppid() != parent:
        raise OSError("whoever started this run is gone")


def enter_namespaces(libc: Any, _: Any) -> None:
    """A network without devices, and System V objects and a host name of its own."""
    apart = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
    user, group = os.getuid(), os.getgid()
    if libc.unshare(apart) == 0:
        return
    called(libc.unshare(apart | CLONE_NEWUSER), "unshare")
    # Without a mapping of its own user, nothing could be created in the scratch folder.
    for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - pathlib takes 5 ms to import
            file.write(line)


def enter_rlimits(_: Any, limits: list[tuple[int, int]]) -> None:
    """Soft and hard, never above the hard limit that there is."""
    import resource

    for kind, value in limits:
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def drop_privileges(libc: Any, _: Any) -> None:
    """No capability, and none by exec."""
    called(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    called(libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")


def enter_landlock(libc: Any, orders: tuple[bytes, list[tuple[str, int, bool]]]) -> None:
    """Only the given paths; one that is not there, and need not be, is passed over."""
    attributes, rules = orders
    ruleset = called(libc.syscall(LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0), "landlock")
    for path, access, needed in rules:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            if needed:
                raise
            continue
        rule = access.to_bytes(8, sys.byteorder) + place.to_bytes(4, sys.byteorder)
        called(libc.syscall(LANDLOCK_ADD_RULE, ruleset, PATH_BENEATH, rule, 0), f"a landlock rule for {path}")
        os.close(place)
    called(libc.syscall(LANDLOCK_RESTRICT, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)


def enter_seccomp(libc: Any, program: bytes) -> None:
    """Install a BPF program, 8 bytes an instruction."""
    instructions = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    order = Program(len(program) // 8, ctypes.addressof(instructions))
    called(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(order), 0, 0), "seccomp")


def called(result: int, what: str) -> int:
    """The result of a call of libc. OSError where it failed."""
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


if __name__ == "__main__":
    main()
