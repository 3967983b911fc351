"""Run Python that a model wrote, in a process of its own that was first deprived of nearly everything.

In: programs, run one after the other in one namespace, and limits. Out: an `Outcome`: what was printed, how it ended,
which layers held it. It works in any thread: no signal handler, no state, no fork of this process's memory.

`completed` says that the last program ran to its end: not that the process exited with 0, not that something was
printed. The record of it is a nonce, which `child.py` writes to a descriptor of its own. Programs that exit, raise,
write to every descriptor, close them or look at frames and objects cannot forge it. Those that read the interpreter's
memory (ctypes, forged bytecode) might; and what runs in one interpreter with its tests can always answer them with an
object that equals everything.
"""

import marshal
import os
import secrets
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal

import attrs

from nanochat.errors import stage_failure
from nanochat.inference.sandbox.policy import FILES, MIB, THREADS, SandboxConfig, layers, refused
from nanochat.inference.sandbox.scratch import holds_more, scratch_folder

CHILD = Path(__file__).with_name("child.py")
LOOK_SECONDS = 0.05
"""Between two looks at the clock, the threads and the scratch folder."""
END_SECONDS = 0.002
"""Between two looks whether a process has ended that has closed its descriptors: nearly always it is about to."""
LONGEST_START_SECONDS = 60.0
"""Until the code begins: a busy machine may take its time, and no code's limit begins before."""
PIPE_BYTES = 65_536
RECORD_BYTES = 4_096
MARK = "NANOCHAT_SANDBOX"
"""In the environment of whatever a run starts."""

Ending = Literal["completed", "exited", "killed", "time", "threads", "disk"]


@attrs.frozen(kw_only=True)
class Outcome:
    """What became of a run."""

    ended: Ending
    """completed: every program ran to its end. exited: with `code`, by an exception or an exit. killed: by the signal
    `code`. time, threads, disk: stopped at that limit."""
    code: int
    stdout: str
    stderr: str
    truncated: bool
    """Whether more was printed than is kept."""
    seconds: float
    """By the clock, from where the code began."""
    achieved: tuple[str, ...]
    """The layers that held it."""


def run(*programs: str, limits: SandboxConfig | None = None) -> Outcome:
    """Run the programs in one `__main__`. InputError E604 where the sandbox cannot be had; StageError E604 where
    no process can be started.
    """
    limits = limits or SandboxConfig()
    nonce, mark = secrets.token_bytes(32), secrets.token_hex(16)
    with scratch_folder() as scratch:
        orders = layers(limits, scratch, os.getpid())
        child = _Child(limits, scratch, mark)
        try:
            child.attend(marshal.dumps((orders, list(programs), nonce)))
        finally:
            child.end(mark, confined="seccomp" in child.achieved)
        return child.outcome(nonce)


class _Child:
    """The process, what came of it so far, and its limits."""

    def __init__(self, limits: SandboxConfig, scratch: Path, mark: str) -> None:
        self.limits, self.scratch = limits, scratch
        record, theirs = os.pipe()
        try:
            self.process = subprocess.Popen(
                [_interpreter(), "-I", "-S", "-B", "-X", "utf8", str(CHILD), str(theirs)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=(theirs,),
                start_new_session=True,
                cwd=scratch,
                env=_environment(scratch, mark),
            )
        except OSError as fault:
            os.close(record)
            raise stage_failure("E604", f"the sandbox's process cannot be started: {fault}") from fault
        finally:
            os.close(theirs)
        self.record = os.fdopen(record, "rb", buffering=0)
        self.kept = {"stdout": bytearray(), "stderr": bytearray(), "record": bytearray()}
        self.truncated = False
        self.stopped: Ending | None = None
        self.began: float | None = None
        self.started = self.ended = time.monotonic()

    @property
    def achieved(self) -> tuple[str, ...]:
        """The layers, once the child has told them."""
        line, end, _ = bytes(self.kept["record"]).partition(b"\n")
        return tuple(line.decode("ascii", "replace").split()) if end else ()

    def attend(self, orders: bytes) -> None:
        """Give the orders, take what is printed, until the process ends or meets a limit."""
        streams = {"stdout": self.process.stdout, "stderr": self.process.stderr, "record": self.record}
        with selectors.DefaultSelector() as selector:
            for name, stream in streams.items():
                assert stream is not None
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ, name)
            assert self.process.stdin is not None
            os.set_blocking(self.process.stdin.fileno(), False)
            selector.register(self.process.stdin, selectors.EVENT_WRITE, "")
            waiting, looked = memoryview(orders), self.started
            while self.stopped is None and not self._is_over(selector):
                for key, _ in selector.select(LOOK_SECONDS if selector.get_map() else END_SECONDS):
                    if key.data:
                        self._take(key.data, key.fileobj, selector)  # type: ignore[arg-type]
                    else:
                        waiting = self._give(waiting, selector)
                if (now := time.monotonic()) - looked > LOOK_SECONDS / 2:
                    looked = now
                    self.stopped = self._limit_met(now)
            self.ended = time.monotonic()

    def _is_over(self, selector: selectors.BaseSelector) -> bool:
        """Whether the process has ended, and what it wrote is here. It is not reaped: its number stays its own."""
        return _has_ended(self.process) and not (selector.get_map() and selector.select(0))

    def _take(self, name: str, stream: IO[bytes], selector: selectors.BaseSelector) -> None:
        chunk = os.read(stream.fileno(), PIPE_BYTES)
        if not chunk:
            selector.unregister(stream)
            return
        kept = self.kept[name]
        room = (RECORD_BYTES if name == "record" else self.limits.output_bytes) - len(kept)
        kept += chunk[: max(0, room)]
        self.truncated |= len(chunk) > room
        if name == "record" and self.began is None and b"\n" in kept:
            self.began = time.monotonic()

    def _give(self, waiting: memoryview, selector: selectors.BaseSelector) -> memoryview:
        assert self.process.stdin is not None
        try:
            waiting = waiting[os.write(self.process.stdin.fileno(), waiting) :]
        except BrokenPipeError:
            waiting = waiting[:0]
        if not waiting:
            selector.unregister(self.process.stdin)
            self.process.stdin.close()
        return waiting

    def _limit_met(self, now: float) -> Ending | None:
        if now - self.started > LONGEST_START_SECONDS if self.began is None else now - self.began > self.limits.seconds:
            return "time"
        if _threads(self.process.pid) > THREADS:
            return "threads"
        return "disk" if holds_more(self.scratch, files=FILES, size=self.limits.disk_mib * MIB) else None

    def end(self, mark: str, *, confined: bool) -> None:
        """Leave no process behind."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if not confined:
            _kill_marked(mark)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr, self.record):
            if stream is not None:
                stream.close()

    def outcome(self, nonce: bytes) -> Outcome:
        """What is to be told. InputError E604 where a layer was refused, StageError where the child never began."""
        line, _, record = bytes(self.kept["record"]).partition(b"\n")
        code = self.process.returncode
        if line.startswith(b"refused "):
            layer, _, reason = line.decode("utf-8", "replace").removeprefix("refused ").partition(": ")
            raise refused(layer, reason)
        if self.began is None:
            said = self.kept["stderr"].decode("utf-8", "replace").strip()[-500:]
            raise stage_failure("E604", f"the sandbox's process ended with {code} before the code began: {said}")
        ended: Ending = "killed" if code < 0 else "exited"
        if secrets.compare_digest(record, nonce):
            ended = "completed"
        elif self.stopped is not None:
            ended = self.stopped
        return Outcome(
            ended=ended,
            code=abs(code),
            stdout=self.kept["stdout"].decode("utf-8", "replace"),
            stderr=self.kept["stderr"].decode("utf-8", "replace"),
            truncated=self.truncated,
            seconds=self.ended - self.began,
            achieved=self.achieved,
        )


def _interpreter() -> str:
    """The interpreter itself, not the link of a virtual environment: there are no packages in the sandbox."""
    return str(Path(sys.executable).resolve())


def _environment(scratch: Path, mark: str) -> dict[str, str]:
    home = {name: str(scratch) for name in ("HOME", "TMPDIR")}
    # One arena: each further thread's would be 64 MiB of address space.
    return {**home, "LANG": "C.UTF-8", "TZ": "UTC", "MALLOC_ARENA_MAX": "1", MARK: mark}


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """Without reaping it, where the system can tell."""
    if not hasattr(os, "waitid"):  # macOS
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _threads(pid: int) -> int:
    """Threads of a process; 0 where the system does not tell."""
    try:
        return Path(f"/proc/{pid}/task").stat().st_nlink - 2
    except OSError:
        return 0


def _kill_marked(mark: str) -> None:
    """Kill what a run without seccomp may have left in other sessions: it has the run's mark in its environment."""
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                process.kill()
