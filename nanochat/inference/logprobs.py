"""What is told of the ids of an answer: each one's log-probability under the model, and the likeliest others'.

In: logits before any setting touches them, the ids that were chosen. Out: `Told`, one for each id. Log-probabilities
are natural logarithms of the model's own distribution, whatever temperature and cuts were drawn with.
"""

from collections.abc import Sequence

from torch import Tensor

from nanochat.inference.completion import Told
from nanochat.inference.transfer import on_device


def told(logits: Tensor, ids: Sequence[int], top: int) -> list[Told]:
    """logits (T, V), the ids (T) that followed → what is told of each."""
    logprobs = logits.log_softmax(dim=-1)
    own = logprobs.gather(-1, on_device(ids, logits.device)[:, None]).squeeze(-1).tolist()
    best = logprobs.topk(min(top, logits.size(-1)), dim=-1)
    likeliest = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [
        Told(token, logprob, tuple(zip(*pairs, strict=True)))
        for token, logprob, pairs in zip(ids, own, likeliest, strict=True)
    ]


class Ledger:
    """What is told of an answer's text, released no sooner than the text itself."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self._bytes: list[int] = []
        self._given = 0

    def add(self, told: Told, size: int) -> None:
        """An id that spells so many bytes of text."""
        self.told.append(told)
        self._bytes.append(size)

    def take(self, held: int) -> list[Told]:
        """What was added since the last call, but for the ids that reach into the last `held` bytes."""
        end = self._before(held)
        given, self._given = self._given, max(self._given, end)
        return self.told[given : self._given]

    def cut(self, size: int) -> None:
        """The text's last so many bytes are not shown: forget the ids that are wholly in them."""
        while self._bytes and 0 < self._bytes[-1] <= size:
            size -= self._bytes.pop()
            self.told.pop()

    def _before(self, held: int) -> int:
        end = len(self.told)
        while held > 0 and end:
            end -= 1
            held -= self._bytes[end]
        return end
