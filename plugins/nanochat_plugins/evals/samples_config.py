"""Configuration of `samples`."""

from nanochat.config import config, option

PROMPTS = (
    "The capital of Italy is",
    "Water freezes at a temperature of",
    "The opposite of small is",
    "One, two, three, four,",
    "If today is Monday, then tomorrow is",
    "The largest planets of the solar system are",
    "Once upon a time, there was",
)


@config
class SamplesConfig:
    """How the model goes on from a few prompts: to be read rather than measured, in the report and while it trains.
    Take it at intervals of a pretraining, or with `chat` of a finetuning.
    """

    prompts: list[str] = option(list(PROMPTS), doc="what it goes on from")
    chat: bool = option(False, doc="a prompt is a user's message, and the model answers it")
    temperatures: list[float] = option(
        [0.0, 1.0], minimum=0.0, maximum=100.0, doc="each prompt once at each; 0: the likeliest ids"
    )
    top_k: int = option(50, minimum=0, maximum=10**9, doc="only so many likeliest ids; 0: all")
    max_tokens: int = option(32, minimum=1, maximum=1_000_000, doc="longest continuation, in tokens")
    seed: int = option(1, minimum=0, maximum=2**62, doc="of what is sampled: the same weights always say the same")
    rows: int = option(32, minimum=1, maximum=1_000_000, execution=True, doc="continued at once")

    def forward_tokens(self) -> int:
        """Tokens that one evaluation computes at most, the prompts apart."""
        return len(self.prompts) * len(self.temperatures) * self.max_tokens

    def problems(self) -> list[tuple[str, str]]:
        """Nothing to show."""
        return [(name, f"{name} is empty") for name in ("prompts", "temperatures") if not getattr(self, name)]
