"""A run as a trial of a sweep, and the trial that it is compared with: the first variant's with the same seed.

In: a run. Out: plain data. Not here: what differs between the two.
"""

import attrs

from nanochat.running.run_folder import RunFolder
from nanochat.sweeping.axes import SEED
from nanochat.sweeping.sweep import Sweep, Trial, needing


@attrs.frozen(kw_only=True)
class SweptTrial:
    """A run as one of a sweep's."""

    sweep: Sweep
    trial: Trial
    is_of_the_first: bool
    """Whether it is of the first variant itself."""
    reference: Trial | None
    """The first variant's with the same seed; None where there is none."""


def swept_trial(run: RunFolder) -> SweptTrial | None:
    """The newest sweep's that has it; None where it is of none."""
    for sweep, own in needing(run):
        trials = sweep.trials()
        (variant, seed), (first, _) = _parts(own), _parts(trials[0])
        alike = next((trial for trial in trials if _parts(trial) == (first, seed)), None)
        return SweptTrial(sweep=sweep, trial=own, is_of_the_first=variant == first, reference=alike)
    return None


def _parts(trial: Trial) -> tuple[list[str], list[str]]:
    """Its variant's settings, and its seed."""
    seeds = [setting for setting in trial.settings if setting.partition("=")[0] == SEED]
    return [setting for setting in trial.settings if setting not in seeds], seeds
