"""What the sandbox must contain: programs that attack, and a world around them in which a breach would be seen.

`attack(name)` runs one and gives what went wrong, a list of sentences. As a script it runs them all and prints
name → faults as JSON: so that the tests can run it as another user. It imports no more of nanochat than the sandbox.
"""

import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs

from nanochat.inference.sandbox.policy import SandboxConfig
from nanochat.inference.sandbox.run import Outcome, run

LIMITS = SandboxConfig(seconds=5.0, memory_mib=256, disk_mib=4, output_bytes=10_000)
SHORT = attrs.evolve(LIMITS, seconds=0.3)


@attrs.frozen
class Attack:
    """A program that goes for what OUTSIDE, PORT and PARENT name; it prints BREACH if it succeeds."""

    code: str
    ends: tuple[str, ...] = ("completed",)
    """How it may end."""
    limits: SandboxConfig = LIMITS


def tries(*statements: str) -> Attack:
    """Each statement must fail with an OSError."""
    lines = [
        "import os, sys, socket, signal, threading, subprocess, shutil, fcntl, ctypes",
        "def call(name, *arguments):",
        "    if getattr(ctypes.CDLL(None), name)(*arguments) < 0:",
        "        raise OSError",
    ]
    for statement in statements:
        lines += ["try:", f"    {statement}", f"    print('BREACH', {statement!r})", "except OSError:", "    pass"]
    return Attack("\n".join(lines))


SYSCALL = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    if libc.syscall(number, *arguments) >= 0:
        print("BREACH", number)
    assert ctypes.get_errno() in (1, 38), (number, ctypes.get_errno())
"""
X86_CALLS = {
    "ptrace": 101, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "unshare": 272, "setns": 308,
    "bpf": 321, "io_uring_setup": 425, "memfd_create": 319, "keyctl": 250, "add_key": 248, "perf_event_open": 298,
    "userfaultfd": 323, "process_vm_readv": 310, "process_vm_writev": 311, "pidfd_open": 434, "pidfd_getfd": 438,
    "kill": 62, "tgkill": 234, "tkill": 200, "rt_sigqueueinfo": 129, "socket": 41, "connect": 42, "bind": 49,
    "sendmsg": 46, "execve": 59, "execveat": 322, "fork": 57, "vfork": 58, "clone3": 435, "openat2": 437, "chmod": 90,
    "fchmodat": 268, "chown": 92, "utimensat": 280, "setxattr": 188, "truncate": 76, "mknod": 133, "shmget": 29,
    "msgget": 68, "mq_open": 240, "init_module": 175, "kexec_load": 246, "reboot": 169, "settimeofday": 164,
    "personality": 135, "setsid": 112, "setpgid": 109, "setpriority": 141, "inotify_init1": 294, "capset": 126,
    "name_to_handle_at": 303, "open_by_handle_at": 304, "seccomp": 317, "unknown": 900,
}  # fmt: skip

ATTACKS: dict[str, Attack] = {
    "write outside": tries(
        "open(OUTSIDE + '/new', 'w')",
        "open(OUTSIDE + '/precious', 'a')",
        "os.open(OUTSIDE + '/precious', os.O_RDWR)",
        "os.mkdir(OUTSIDE + '/folder')",
        "os.symlink('x', OUTSIDE + '/link')",
        "os.mkfifo(OUTSIDE + '/fifo')",
    ),
    "delete outside": tries(
        "os.unlink(OUTSIDE + '/precious')",
        "os.rename(OUTSIDE + '/precious', 'mine')",
        "os.rename(OUTSIDE + '/precious', OUTSIDE + '/other')",
        "os.rmdir(OUTSIDE + '/empty')",
        "shutil.rmtree(OUTSIDE)",
    ),
    "cut off outside": tries(
        "os.truncate(OUTSIDE + '/precious', 0)",
        "os.open(OUTSIDE + '/precious', os.O_RDONLY | os.O_TRUNC)",
        "os.open(os.__file__, os.O_RDONLY | os.O_TRUNC)",
        "os.open(os.__file__, 3 | os.O_TRUNC)",
    ),
    "change outside": tries(
        "os.chmod(OUTSIDE + '/precious', 0)",
        "os.chown(OUTSIDE + '/precious', 1, 1)",
        "os.utime(OUTSIDE + '/precious', (0, 0))",
        "os.setxattr(OUTSIDE + '/precious', 'user.x', b'x')",
        "os.link(OUTSIDE + '/precious', 'linked')",
    ),
    "read outside": tries(
        "open('/etc/passwd').read()",
        "open('/etc/shadow').read()",
        "open(OUTSIDE + '/precious').read()",
        "os.listdir('/')",
        "os.listdir(OUTSIDE)",
        "os.listdir(os.path.dirname(os.getcwd()))",
    ),
    "symlink out of scratch": tries(
        "os.symlink(OUTSIDE + '/precious', 'link') or open('link').read()",
        "os.symlink(OUTSIDE, 'folder') or open('folder/new', 'w')",
        "os.symlink('/etc/passwd', 'passwd') or open('passwd').read()",
        "os.symlink('/etc/passwd', 'to') or call('linkat', -100, b'to', -100, b'hard', 0x400)",  # AT_SYMLINK_FOLLOW
    ),
    "network": tries(
        "socket.create_connection(('127.0.0.1', PORT), 1)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
        "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_UNIX)",
        "socket.socket(16, socket.SOCK_RAW, 0)",  # AF_NETLINK
        "socket.socketpair(type=socket.SOCK_DGRAM)[0].sendto(b'x', OUTSIDE + '/socket')",
        "socket.socketpair(type=socket.SOCK_DGRAM)[0].connect(OUTSIDE + '/socket')",
        "socket.getaddrinfo('localhost', 80)",
    ),
    "fork": tries("os.fork()", "os.forkpty()", "os.posix_spawn('/bin/true', ['true'], {})"),
    "fork bomb": Attack("import os\nwhile True:\n    os.fork()", ends=("exited",)),
    "fork bomb that goes on": Attack(
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
        ends=("time",),
        limits=SHORT,
    ),
    "subprocess": tries(
        "subprocess.run(['/bin/true'])",
        "subprocess.run('true', shell=True)",
        "os.execv(sys.executable, [sys.executable])",
        "os.popen('true').close()",
    ),
    "daemon": tries("os.fork() or (os.setsid(), os.fork(), __import__('time').sleep(60))", "os.setsid()"),
    "thread bomb": Attack(
        "import threading, time\nthreading.stack_size(32768)\n"
        "while True:\n    try:\n        threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "    except RuntimeError:\n        pass",
        ends=("threads",),
    ),
    "memory bomb": Attack("x = 'x' * 10**10", ends=("exited",)),
    "memory bomb in steps": Attack("x = []\nwhile True:\n    x.append(bytearray(10**6))", ends=("exited",)),
    "a 300 MB file": Attack(
        "with open('big', 'wb') as file:\n    for _ in range(300):\n        file.write(bytes(10**6))",
        ends=("exited", "disk"),
    ),
    "many files": Attack("for n in range(100_000):\n    open(str(n), 'w').close()", ends=("disk",)),
    "many large files": Attack(
        "n = 0\nwhile True:\n    n += 1\n    open(str(n), 'wb').write(bytes(10**6))", ends=("disk",)
    ),
    "a deep folder": Attack("import os\nwhile True:\n    os.mkdir('d')\n    os.chdir('d')", ends=("disk",)),
    "folders that nobody may enter": Attack(
        "import os\nos.makedirs('a/b')\nos.mkdir('c', 0)\nos.umask(0o777)\nos.mkdir('a/d')\nopen('a/b/e', 'w')"
    ),
    "300 MB of output": Attack("for _ in range(300):\n    print('x' * 10**6)", ends=("completed", "time")),
    "300 MB of errors": Attack(
        "import os\nfor _ in range(4800):\n    os.write(2, b'x' * 65536)", ends=("completed", "time")
    ),
    "endless loop": Attack("while True:\n    pass", ends=("time",), limits=SHORT),
    "endless loop in C": Attack("sum(range(10**15))", ends=("time",), limits=SHORT),
    "endless sleep": Attack("import time\ntime.sleep(10**6)", ends=("time",), limits=SHORT),
    "sleep without descriptors": Attack(
        "import os, time\nos.closerange(0, 64)\ntime.sleep(10**6)", ends=("time",), limits=SHORT
    ),
    "signals ignored": Attack(
        "import signal\nfor n in range(1, 65):\n    try:\n        signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True:\n    pass",
        ends=("time",),
        limits=SHORT,
    ),
    "signalling the parent": tries(
        "os.kill(PARENT, signal.SIGKILL)",
        "os.kill(PARENT, 0)",
        "os.kill(-1, signal.SIGKILL)",
        "os.killpg(0, signal.SIGKILL)",
        "signal.pthread_kill(threading.get_ident(), signal.SIGKILL)",
        "os.pidfd_open(PARENT)",
        "fcntl.fcntl(0, fcntl.F_SETOWN, PARENT)",
        "fcntl.fcntl(0, 10, 9)",  # F_SETSIG
    ),
    "/proc": tries(
        "open('/proc/self/mem', 'rb')",
        "open('/proc/self/environ')",
        "open('/proc/self/maps')",
        "open(f'/proc/{PARENT}/environ')",
        "open(f'/proc/{PARENT}/mem', 'wb')",
        "open(f'/proc/{PARENT}/cmdline')",
        "os.listdir('/proc')",
        "os.listdir('/proc/self/fd')",
        "os.readlink(f'/proc/{PARENT}/cwd')",
        "open(f'/proc/{PARENT}/root/etc/passwd')",
        "open('/proc/sys/kernel/core_pattern', 'w')",
        "open('/dev/mem')",
        "open('/dev/tty')",
    ),
    "higher limits": Attack(
        "import resource\n"
        "for kind in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE, resource.RLIMIT_CPU):\n"
        "    try:\n        resource.setrlimit(kind, (10**9, 10**9))\n        print('BREACH', kind)\n"
        "    except (ValueError, OSError):\n        pass\n"
        "try:\n    resource.prlimit(PARENT, resource.RLIMIT_CORE, (0, 0))\n    print('BREACH')\n"
        "except OSError:\n    pass"
    ),
    "ctypes": Attack(
        SYSCALL + "path = (OUTSIDE + '/precious').encode()\n"
        "if libc.open(path, 0) >= 0 or libc.open(b'/etc/passwd', 0) >= 0 or libc.unlink(path) >= 0:\n"
        "    print('BREACH')\n"
        "if libc.system(b'touch ' + path + b'.new') == 0 or libc.fork() >= 0 or libc.kill(PARENT, 9) >= 0:\n"
        "    print('BREACH')"
    ),
    "ctypes that crashes": Attack("import ctypes\nctypes.string_at(0)", ends=("killed",)),
    "another table of system calls": Attack(SYSCALL + "call(0x40000000 + 39)", ends=("killed",)),
    "system calls": Attack(SYSCALL + f"for number in {sorted(X86_CALLS.values())}:\n    call(number, 0, 0, 0, 0, 0)"),
    "clone without a thread": Attack(
        SYSCALL + "call(56, 0x11, 0, 0, 0, 0)\ncall(56, 0x10000011 | 0x10000, 0, 0, 0, 0)"
    ),
    "not UTF-8": Attack("import sys\nsys.stdout.buffer.write(b'\\xff\\xfe\\x00ok')"),
    "a stack overflow": Attack(
        "import sys\nsys.setrecursionlimit(10**9)\ndef f():\n    f()\nf()",
        ends=("killed", "exited", "time"),
        limits=SHORT,
    ),
    "nested source": Attack("(" * 100_000, ends=("exited", "killed")),
    "bytes that are no source": Attack("x = '\\ud800\\0'", ends=("exited", "completed")),
}  # fmt: skip

FORGERIES: dict[str, str] = {
    "sys.exit(0)": "import sys\nsys.exit(0)",
    "os._exit(0)": "import os\nos._exit(0)",
    "raise SystemExit": "raise SystemExit",
    "return": "return",
    "an exit in a thread": (
        "import os, threading\nthreading.Thread(target=os._exit, args=(0,)).start()\nwhile True:\n    pass"
    ),
    "an exit at exit": "import atexit, os\natexit.register(os._exit, 0)\nassert False",
    "an exit in a hook": "import os, sys\nsys.excepthook = sys.__excepthook__ = lambda *_: os._exit(0)\nassert False",
    "an exit in a finalizer": "import os\nclass A:\n    def __del__(self):\n        os._exit(0)\nA()",
    "every descriptor written to": (
        "import os\nfor n in range(64):\n    try:\n        os.write(n, b'completed\\n' + bytes(32))\n"
        "    except OSError:\n        pass\nos._exit(0)"
    ),
    "every descriptor written to, and an end": (
        "import os\nfor n in range(3, 64):\n    try:\n        os.write(n, bytes(32))\n    except OSError:\n        pass"
    ),
    "every descriptor closed": "import os\nos.closerange(0, 64)",
    "what frames and the collector know": """
import gc, os, sys
found, frame = set(), sys._getframe()
def look(thing, depth=0):
    if isinstance(thing, (bytes, bytearray)):
        found.add(bytes(thing))
    elif depth < 6 and isinstance(thing, (list, tuple, dict, set)):
        for part in (list(thing.values()) if isinstance(thing, dict) else list(thing)):
            look(part, depth + 1)
while frame:
    look(dict(frame.f_locals))
    look(dict(frame.f_globals))
    look(gc.get_referents(frame))
    frame = frame.f_back
for thing in gc.get_objects():
    look(gc.get_referents(thing), 4)
for text in [text for text in found if len(text) == 32] + [b'' .join(found)]:
    for n in range(3, 64):
        try:
            os.write(n, text)
        except OSError:
            pass
os._exit(0)
""",
    "the frames below, by a trace": """
import sys
frame = sys._getframe()
def tracer(frame, event, argument):
    if event == 'line':
        for line in range(1, 200):
            try:
                frame.f_lineno = line
                break
            except ValueError:
                pass
    return tracer
while frame:
    frame.f_trace = tracer
    if 'box' in frame.f_locals:
        frame.f_locals['box'].append(b'x' * 32)
    frame = frame.f_back
sys.settrace(tracer)
assert False
""",
    "a write of its own": "import os\nos.write = lambda *_: 0\nassert False",
    "standard streams of its own": (
        "import os, sys\nclass Out:\n    def write(self, text): os._exit(0)\n    flush = write\n"
        "sys.stdout = sys.stderr = Out()\nassert False"
    ),
    "an exception that exits": "import os\nclass E(BaseException):\n    def __str__(self): os._exit(0)\nraise E",
    "a stop of itself": "import signal\nsignal.raise_signal(signal.SIGKILL)",
}  # fmt: skip


@contextmanager
def world() -> Iterator[tuple[dict[str, object], list[socket.socket]]]:
    """A folder that any user may change, and three sockets that listen."""
    with ExitStack() as stack:
        outside = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        outside.chmod(0o777)
        (outside / "precious").write_text("gold")
        (outside / "precious").chmod(0o666)
        (outside / "empty").mkdir()
        sockets = [
            stack.enter_context(socket.socket(family, kind))
            for family, kind in (
                (socket.AF_INET, socket.SOCK_STREAM),
                (socket.AF_INET, socket.SOCK_DGRAM),
                (socket.AF_UNIX, socket.SOCK_DGRAM),
            )
        ]
        sockets[0].bind(("127.0.0.1", 0))
        port = sockets[0].getsockname()[1]
        sockets[0].listen()
        sockets[1].bind(("127.0.0.1", port))
        sockets[2].bind(str(outside / "socket"))
        for one in sockets:
            one.setblocking(False)
        yield {"outside": str(outside), "port": port, "parent": os.getpid()}, sockets


def state(outside: Path) -> list[object]:
    """All of a folder that a breach could change."""
    found: list[object] = []
    for path in sorted(outside.iterdir()):
        told = path.lstat()
        found.append((path.name, told.st_mode, told.st_uid, told.st_mtime_ns, told.st_size, told.st_nlink))
    return found


def reached(sockets: list[socket.socket]) -> bool:
    """Whether anyone called."""
    for one in sockets:
        try:
            one.accept() if one.type == socket.SOCK_STREAM else one.recv(1)
        except BlockingIOError:
            continue
        return True
    return False


def attack(name: str) -> list[str]:
    """What went wrong when the attack was made; nothing, where it was contained."""
    made = ATTACKS[name]
    with world() as (targets, sockets):
        before, scratches = state(Path(str(targets["outside"]))), scratch_folders()
        began = time.monotonic()
        outcome = run(f"OUTSIDE, PORT, PARENT = {tuple(targets.values())}", made.code, limits=made.limits)
        seconds = time.monotonic() - began
        faults = [f"printed {outcome.stdout!r}"] if "BREACH" in outcome.stdout else []
        if outcome.ended not in made.ends:
            faults.append(f"ended {outcome.ended} {outcome.code}: {outcome.stderr[-500:]}")
        if state(Path(str(targets["outside"]))) != before:
            faults.append("the world is another")
        if reached(sockets):
            faults.append("somebody was called")
    if left := scratch_folders() - scratches:
        faults.append(f"left {left}")
    if max(len(outcome.stdout), len(outcome.stderr)) > made.limits.output_bytes:
        faults.append("more was kept than is allowed")
    if outcome.ended == "time" and seconds > made.limits.seconds + 30:
        faults.append(f"it took {seconds} s")
    return faults


def forge(name: str) -> Outcome:
    """A program that must not pass, with tests behind it that it does not let run."""
    return run(FORGERIES[name], "assert False", limits=attrs.evolve(LIMITS, seconds=1.0))


def scratch_folders() -> set[str]:
    """Of this process's user."""
    return {path.name for path in Path(tempfile.gettempdir()).glob(f"nanochat-sandbox-{os.getpid()}-*")}


def main() -> None:
    """All of them, as whoever this process belongs to."""
    faults = {name: attack(name) for name in ATTACKS}
    faults |= {name: ["it passed"] for name in FORGERIES if forge(name).ended == "completed"}
    print(json.dumps({"uid": os.getuid(), "faults": {name: said for name, said in faults.items() if said}}))


if __name__ == "__main__":
    main()
