"""The sandbox: what a program may do, what it cannot, how its end is told, and when it refuses to run."""

import json
import os
import shlex
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest
from sandbox_battery import ATTACKS, FORGERIES, LIMITS, attack, forge

from nanochat.errors import NanochatError
from nanochat.inference.sandbox import landlock, seccomp
from nanochat.inference.sandbox import run as running
from nanochat.inference.sandbox.policy import DEMANDED, SandboxConfig
from nanochat.inference.sandbox.run import run
from nanochat.inference.sandbox.syscalls import NUMBERS

strict = pytest.mark.skipif(
    not (landlock.version() and os.uname().machine in seccomp.ARCHITECTURES), reason="no Landlock or no filter here"
)
BEST = attrs.evolve(LIMITS, sandbox="best-effort")


@strict
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_contained(name: str) -> None:
    if name in ("system calls", "clone without a thread", "another table of system calls"):
        skip_unless_x86()
    assert attack(name) == []


@strict
@pytest.mark.parametrize("name", FORGERIES)
def test_a_program_that_does_not_reach_its_end_has_not_completed(name: str) -> None:
    assert forge(name).ended != "completed"


@strict
def test_an_ordinary_user_contains_the_same_attacks() -> None:
    if os.getuid() != 0 or not shutil.which("setpriv") or not shutil.which("unshare"):
        pytest.skip("runs as an ordinary user already, or cannot become one")
    skip_unless_x86()
    script = as_nobody(sys.executable, str(Path(__file__).with_name("sandbox_battery.py")))
    done = subprocess.run(["unshare", "--mount", "sh", "-ec", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"uid": 65534, "faults": {}}


def as_nobody(*command: str) -> str:
    """A shell script, for a mount namespace of its own, in which nobody may read this Python and this repository."""
    repository = str(Path(__file__).parent.parent)
    needed = sorted({repository, sys.prefix, sys.base_prefix})
    needed = [path for path in needed if not any(path.startswith(f"{other}/") for other in needed)]
    closed = [closed_above(Path(path)) for path in needed]
    lines = ["mount --make-rprivate /", "hold=$(mktemp -d)", "mount -t tmpfs -o mode=755 none $hold"]
    for number, path in enumerate(needed):
        lines += [f"mkdir $hold/{number}", f"mount --bind {shlex.quote(path)} $hold/{number}"]
    lines += [f"mount -t tmpfs -o mode=755 none {shlex.quote(str(path))}" for path in sorted({*filter(None, closed)})]
    for number, path in enumerate(needed):
        lines += [f"mkdir -p {shlex.quote(path)}", f"mount --bind $hold/{number} {shlex.quote(path)}"]
    path = os.pathsep.join([repository, str(Path(repository, "plugins"))])
    lines += [f"export PYTHONPATH={shlex.quote(path)} PYTHONDONTWRITEBYTECODE=1", "chmod 755 $hold", "cd /"]
    lines.append(f"exec setpriv --reuid 65534 --regid 65534 --clear-groups {shlex.join(command)}")
    return "\n".join(lines)


def closed_above(path: Path) -> Path | None:
    """The highest folder on the way to a path that others may not enter."""
    return next((folder for folder in reversed([path, *path.parents]) if not folder.stat().st_mode & 0o001), None)


def skip_unless_x86() -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("its numbers are those of x86_64")


@strict
@pytest.mark.parametrize(
    "code, printed",
    [
        ("print(sum(range(10)))", "45\n"),
        ("import math, re, json, random, heapq, hashlib, decimal\nprint(hashlib.md5(b'').hexdigest()[:4])", "d41d\n"),
        ("import threading\nt = threading.Thread(target=print, args=(1,))\nt.start()\nt.join()", "1\n"),
        ("import asyncio\nasync def f():\n    await asyncio.sleep(0.001)\n    print('x')\nasyncio.run(f())", "x\n"),
        ("from concurrent.futures import ThreadPoolExecutor as P\nprint(list(P(2).map(abs, (-1, 2))))", "[1, 2]\n"),
        ("import tempfile\nwith tempfile.TemporaryFile() as f:\n    f.write(b'x')\n    print(f.tell())", "1\n"),
        ("import os\nos.makedirs('a/b')\nopen('a/c', 'w')\nos.rename('a/c', 'e')\nprint(os.listdir('a'))", "['b']\n"),
        ("import sqlite3\nprint(sqlite3.connect('x.db').execute('select 1').fetchone())", "(1,)\n"),
        ("import pickle\nclass A:\n    x = 1\nprint(pickle.loads(pickle.dumps(A())).x)", "1\n"),
        ("import datetime, zoneinfo\nprint(datetime.datetime(2024, 1, 1).astimezone().tzname())", "UTC\n"),
        ("import sys, os\nprint(sys.argv, __name__, sys.stdin.read(), sorted(os.environ))", None),
        ("print('☃')", "☃\n"),
    ],
)  # fmt: skip
def test_ordinary_programs_work(code: str, printed: str | None) -> None:
    outcome = run(code, limits=attrs.evolve(LIMITS, memory_mib=512))
    assert (outcome.ended, outcome.stderr) == ("completed", "")
    if printed is not None:
        assert outcome.stdout == printed


@strict
def test_the_environment_holds_nothing_of_the_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    outcome = run("import os\nprint(sorted(os.environ), open(0).read())", limits=LIMITS)
    assert outcome.stdout == "['HOME', 'LANG', 'MALLOC_ARENA_MAX', 'NANOCHAT_SANDBOX', 'TMPDIR', 'TZ'] \n"


@strict
def test_it_tells_which_layers_held() -> None:
    assert set(DEMANDED) <= set(run("pass", limits=LIMITS).achieved)


@strict
def test_an_exception_is_shown_without_the_sandboxs_own_frames() -> None:
    outcome = run("def f():\n    return 1 / 0\nf()", limits=LIMITS)
    assert (outcome.ended, outcome.code) == ("exited", 1)
    assert [line for line in outcome.stderr.splitlines() if "File" in line] == [
        '  File "<program>", line 3, in <module>',
        '  File "<program>", line 2, in f',
    ]


@strict
def test_programs_share_a_namespace_and_none_swallows_the_next() -> None:
    assert run("x = 1", "print(x)", limits=LIMITS).stdout == "1\n"
    assert run("x = '''", "'''", limits=LIMITS).ended == "exited"


@strict
def test_many_threads_run_programs_at_once() -> None:
    seen: dict[int, str] = {}

    def work(number: int) -> None:
        seen[number] = run(f"print({number})", limits=LIMITS).stdout

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {number: f"{number}\n" for number in range(16)}


@strict
def test_runs_leave_no_descriptor_open() -> None:
    run("pass", limits=LIMITS)
    before = psutil.Process().num_fds()
    for code in ("pass", "1/0", "import os; os._exit(0)"):
        run(code, limits=LIMITS)
    assert psutil.Process().num_fds() == before


@strict
def test_a_program_dies_with_whoever_started_it() -> None:
    code = "from nanochat.inference.sandbox.run import run; run('import time; time.sleep(600)')"
    parent = subprocess.Popen([sys.executable, "-c", code])
    children = wait_for(lambda: [c for c in psutil.Process(parent.pid).children() if "child.py" in str(c.cmdline())])
    time.sleep(0.3)  # it asks for this first of all, once it has its orders
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children))


def wait_for(happens: Callable[[], Any]) -> Any:
    while not (found := happens()):
        time.sleep(0.01)
    return found


@strict
@pytest.mark.parametrize("version", range(1, 8))
def test_files_outside_are_safe_under_each_version_of_landlock(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if version > landlock.version():
        pytest.skip("this kernel's is older")
    monkeypatch.setattr(landlock, "version", lambda: version)
    names = ("write outside", "delete outside", "cut off outside", "read outside", "symlink out of scratch")
    assert [fault for name in names for fault in attack(name)] == []


@pytest.mark.parametrize("layer", ["landlock", "seccomp"])
def test_strict_refuses_and_names_the_layer_that_is_missing(layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    take_away(layer, monkeypatch)
    with pytest.raises(NanochatError) as caught:
        run("print('ran')", limits=LIMITS)
    assert caught.value.diagnostics[0].code == "E604"
    assert f"layer `{layer}` cannot be had" in caught.value.diagnostics[0].message


@strict
def test_strict_refuses_a_layer_that_the_kernel_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "program", lambda machine: b"\0" * 8)  # no return at its end
    with pytest.raises(NanochatError, match=r"layer `seccomp` cannot be had: .*Invalid argument"):
        run("print('ran')", limits=LIMITS)


@pytest.mark.parametrize("layer", ["landlock", "seccomp"])
def test_best_effort_runs_without_and_says_so(layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    take_away(layer, monkeypatch)
    outcome = run("print('ran')", limits=BEST)
    assert outcome.stdout == "ran\n"
    assert layer not in outcome.achieved
    assert "rlimits" in outcome.achieved


def test_a_daemon_does_not_survive_where_seccomp_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    take_away("seccomp", monkeypatch)
    code = (
        "import os, time\nr, w = os.pipe()\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        os.write(w, b'%d' % os.getpid())\n        time.sleep(600)\n    os._exit(0)\n"
        "print(os.read(r, 9).decode())"
    )
    outcome = run(code, limits=BEST)
    assert outcome.ended == "completed"
    pid = int(outcome.stdout)
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def take_away(layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if layer == "landlock":
        monkeypatch.setattr(landlock, "version", lambda: 0)
    else:
        monkeypatch.setattr(seccomp, "ARCHITECTURES", {})


def test_a_process_that_never_begins_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_interpreter", lambda: "/bin/false")
    with pytest.raises(NanochatError, match=r"ended with 1 before the code began"):
        run("pass", limits=LIMITS)
    monkeypatch.setattr(running, "_interpreter", lambda: "/no/such/python")
    with pytest.raises(NanochatError, match="cannot be started"):
        run("pass", limits=LIMITS)


# The filter, interpreted: what it says of calls on both machines


def verdict(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the filter of a machine returns for a call: a small interpreter of the BPF that it uses."""
    own = seccomp.ARCHITECTURES[machine][1]
    data = struct.pack("<IIQ6Q", number, architecture or own, 0, *(*arguments, *[0] * (6 - len(arguments))))
    lines = list(struct.iter_unpack("=HBBI", seccomp.program(machine)))
    place = accumulator = 0
    while True:
        code, true, false, operand = lines[place]
        place += 1
        if code == seccomp.LOAD:
            accumulator = struct.unpack_from("<I", data, operand)[0]
        elif code == seccomp.AND:
            accumulator &= operand
        elif code == seccomp.EQUAL:
            place += true if accumulator == operand else false
        elif code == seccomp.AT_LEAST:
            place += true if accumulator >= operand else false
        else:
            assert code == seccomp.RETURN
            return operand


DENIED, MISSING = seccomp.ERRNO | 1, seccomp.ERRNO | 38


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_the_filter_says_of_each_call_what_it_should(machine: str) -> None:
    column = seccomp.ARCHITECTURES[machine][0]
    for name, numbers in NUMBERS.items():
        number = numbers[column]
        if number is not None and name not in seccomp.RULES:
            assert verdict(machine, number) == seccomp.ALLOW, name
    allowed = {numbers[column] for numbers in NUMBERS.values()}
    assert {verdict(machine, number) for number in range(seccomp.NEWEST) if number not in allowed} == {DENIED}
    assert verdict(machine, seccomp.NEWEST) == MISSING
    assert verdict(machine, 0, architecture=0x40000003) == seccomp.KILL_PROCESS  # i386


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
@pytest.mark.parametrize(
    "name, arguments, expected",
    [
        ("clone", (0x3D0F00,), seccomp.ALLOW),  # what glibc's pthread_create says
        ("clone", (0x11,), DENIED),
        ("clone", (0x3D0F00 | 0x10000000,), DENIED),
        ("clone3", (), MISSING),
        ("openat2", (), MISSING),
        ("prctl", (15,), seccomp.ALLOW),
        ("prctl", (22,), DENIED),
        ("prlimit64", (0,), seccomp.ALLOW),
        ("prlimit64", (1,), DENIED),
        ("fcntl", (0, 4), seccomp.ALLOW),
        ("fcntl", (0, 8), DENIED),
        ("ioctl", (0, 0x5401), seccomp.ALLOW),
        ("ioctl", (0, 0x5412), DENIED),  # TIOCSTI
        ("sendto", (3, 1, 1, 0, 0), seccomp.ALLOW),
        ("sendto", (3, 1, 1, 0, 1), DENIED),
        ("sendto", (3, 1, 1, 0, 1 << 32), DENIED),
        ("socketpair", (1,), seccomp.ALLOW),
        ("socketpair", (2,), DENIED),
        ("openat", (-100 % 2**64, 1, 0o1001), seccomp.ALLOW),
        ("openat", (-100 % 2**64, 1, 0o1002), seccomp.ALLOW),
        ("openat", (-100 % 2**64, 1, 0o1000), DENIED),
        ("openat", (-100 % 2**64, 1, 0o1003), DENIED),
        ("openat", (-100 % 2**64, 1, 0), seccomp.ALLOW),
    ],
)
def test_the_filter_looks_at_arguments(machine: str, name: str, arguments: tuple[int, ...], expected: int) -> None:
    number = NUMBERS[name][seccomp.ARCHITECTURES[machine][0]]
    assert number is not None
    assert verdict(machine, number, *arguments) == expected


@pytest.mark.parametrize(
    "header, column",
    [("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 0), ("/usr/include/asm-generic/unistd.h", 1)],
)
def test_the_numbers_are_those_of_the_kernels_headers(header: str, column: int) -> None:
    if not Path(header).exists():
        pytest.skip("the kernel's headers are not here")
    found = {}
    for line in Path(header).read_text().splitlines():
        words = line.split()
        if len(words) >= 3 and words[0] == "#define" and words[1].startswith("__NR") and words[2].isdigit():
            found[words[1].removeprefix("__NR3264_").removeprefix("__NR_")] = int(words[2])
    names = {name: numbers[column] for name, numbers in NUMBERS.items()}
    if column:
        found["newfstatat"] = found["fstatat"]
        names = {name: number for name, number in names.items() if number is not None}
    assert {name: found.get(name) for name in names} == names


def test_the_sandbox_imports_no_torch() -> None:
    code = "import sys, nanochat.inference.sandbox.run; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_strict_is_the_default() -> None:
    assert SandboxConfig().sandbox == "strict"
