"""Going through a sweep in this process, for `nanochat sweep` and `nanochat sweeps go`, and what is said at its end."""

from nanochat.reporting.file_reports import FileReports
from nanochat.running.progress import Display, ShieldedDisplay
from nanochat.sweeping.sweep import Sweep
from nanochat.sweeping.work import work


def run_sweep(sweep: Sweep, display: Display) -> int:
    """Work until no trial waits; says at the end where the results are. An exit code."""
    shielded = ShieldedDisplay(display)
    code = work(sweep, shielded, FileReports())
    done = sum(trial.state == "done" for trial in sweep.trials())
    results = f"The results: nanochat sweeps show {sweep.path.name}"
    shielded.say(f"{done} of {len(sweep.trials())} done{said_of_removed(sweep)}. {results}")
    return code


def said_of_removed(sweep: Sweep) -> str:
    """Of which trials the runs are gone, and what brings them back; nothing where there are none."""
    gone = [str(trial.number) for trial in sweep.trials() if trial.is_removed]
    if not gone:
        return ""
    runs = "the run of trial" if len(gone) == 1 else "the runs of trials"
    were = "was" if len(gone) == 1 else "were"
    again = f"nanochat sweeps retry {sweep.path.name} {' '.join(gone)}"
    return f"; {runs} {', '.join(gone)} {were} removed, `{again}` lets {'it' if len(gone) == 1 else 'them'} run again"
