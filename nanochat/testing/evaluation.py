"""`check_eval`: does an evaluation keep the contract of `nanochat.stages.subject`?

In: an evaluation's function and config, perhaps a Subject. Out: an AssertionError that lists what it breaks. Not here:
whether the figures are right, for which an author has a value of his own.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np
import torch

from nanochat.stages.context import Figure
from nanochat.stages.subject import Subject
from nanochat.testing.faults import TRACEBACK, Faults, is_number, is_plain, short
from nanochat.testing.tiny import tiny_subject


def check_eval(build: Callable[..., Any], config: Any = None, subject: Subject | None = None) -> None:
    """AssertionError where `build(config, subject)` breaks its contract; without a config, `build(subject)`.

    subject: without one, a tiny model, tokenizer and source.
    """
    faults = Faults(f"the evaluation `{getattr(build, '__name__', build)}`", "nanochat.stages.subject")
    given = subject or tiny_subject()

    def measured(keep: Callable[[Any], None] = lambda _: None) -> Any:
        fresh = attrs.evolve(given, keep_example=keep, kept={})
        return build(fresh) if config is None else build(config, fresh)

    given.model.eval()  # as a stage does before it asks for figures
    before = _Surroundings(given.model)
    kept: list[Any] = []
    with faults.during("the evaluation", contract="build(config, subject) gives figures", mend=TRACEBACK):
        figures = measured(kept.append)
        _check_figures(figures, faults)
        before.check(faults)
        again = measured()
        faults.expect(
            again == figures,
            f"a second measurement gave {short(again)}, the first {short(figures)}",
            contract="the same model always has the same figures",
            mend="decode greedily, or draw from a generator with a seed of the config",
        )
    faults.expect(
        all(map(is_plain, kept)),
        f"keep_example was given {short(next((e for e in kept if not is_plain(e)), None))}",
        contract="an example that is kept is plain data",
        mend="keep texts and numbers: float(score), not a tensor",
    )
    faults.raise_any()


def _check_figures(figures: Any, faults: Faults) -> None:
    contract = "an evaluation gives a mapping of names to nanochat.stages.context.Figure, one at least"
    sound = isinstance(figures, Mapping) and bool(figures)
    sound = sound and all(isinstance(n, str) and n and isinstance(f, Figure) for n, f in figures.items())
    mend = 'return {"accuracy": Figure(value=0.5, n=200, standard_error=0.035)}'
    if not faults.expect(sound, f"it gave {short(figures)}", contract=contract, mend=mend):
        return
    for name, figure in figures.items():
        faults.expect(
            is_number(figure.value),
            f"`{name}` is {short(figure.value)}",
            contract="a figure's value is a finite number",
            mend="float(…) of a tensor; leave a figure out that has no examples",
        )
        faults.expect(
            isinstance(figure.n, int) and figure.n >= 0,
            f"`{name}` has n = {short(figure.n)}",
            contract="n counts the examples behind a figure",
            mend="n=len(examples)",
        )
        error = figure.standard_error
        faults.expect(
            error is None or (is_number(error) and error >= 0),
            f"`{name}` has the standard error {short(error)}",
            contract="a standard error is a finite number of at least 0, or None",
            mend="math.sqrt(variance / n)",
        )
    several = [name for name, figure in figures.items() if figure.n > 1]
    faults.expect(
        not several or any(figures[name].standard_error is not None for name in several),
        f"{', '.join(several)} have several examples behind them, and no figure a standard error",
        contract="a mean over examples says its standard error",
        mend="for shares: standard_error=math.sqrt(p * (1 - p) / n)",
    )


class _Surroundings:
    """What an evaluation leaves as it is: the model, and everybody's random numbers."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self._random = _random_states()

    def check(self, faults: Faults) -> None:
        """Compare with how it is now."""
        changed = [n for n, value in self._model.state_dict().items() if not torch.equal(value, self._weights[n])]
        faults.expect(
            not changed,
            f"{short(changed)} of the model changed",
            contract="an evaluation leaves the model's weights as they are",
            mend="work on copy.deepcopy(subject.model) where it must be changed",
        )
        held = [name for name, parameter in self._model.named_parameters() if parameter.grad is not None]
        faults.expect(
            not held and not self._model.training,
            f"the model is left in training mode, or with gradients of {short(held)}",
            contract="an evaluation leaves the model in eval mode and without gradients",
            mend="decorate it with @torch.no_grad(), and do not call model.train()",
        )
        faults.expect(
            self._random == _random_states(),
            "the global random numbers of torch, NumPy or Python were used",
            contract="an evaluation leaves the global random numbers as they are: training goes on with them",
            mend="torch.Generator().manual_seed(…), random.Random(…), np.random.default_rng(…)",
        )


def _random_states() -> tuple[Any, ...]:
    numpy_state = np.random.get_state(legacy=False)
    return torch.get_rng_state().tolist(), random.getstate(), repr(numpy_state)
