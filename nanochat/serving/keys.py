"""API keys, and how often each may ask.

In: a request's Authorization header. Out: whose it is, or an error. Keys are compared in constant time; they are
kept as digests, which is also what stands for them in salts and logs.
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nanochat.errors import wrong_input
from nanochat.given_file import given_text
from nanochat.serving.faults import RequestError

_FORM = "write one a line, or leave it out"


def read_keys(path: Path | None, listed: str | None) -> list[str]:
    """Those of a file, one a line, `#` begins a comment; and those listed with commas.

    InputError E407 for none, E304 for a file that cannot be read as text.
    """
    if path is None and listed is None:
        return []
    lines = [] if path is None else given_text(path, help=_FORM).splitlines()
    stripped = [line.partition("#")[0].strip() for line in [*lines, *(listed or "").split(",")]]
    keys = list(dict.fromkeys(key for key in stripped if key))
    if not keys:
        raise wrong_input("E407", "there is no API key in what was given", help=_FORM)
    return keys


class Keys:
    """Who may ask. Without keys everybody may, as one."""

    def __init__(self, keys: Sequence[str] = (), *, per_minute: float | None = None) -> None:
        self._digests = [_digest(key.encode("utf-8", "replace")) for key in keys]
        self._buckets = Buckets(per_minute) if per_minute else None

    @property
    def some(self) -> bool:
        """Whether there are any."""
        return bool(self._digests)

    def admit(self, authorization: str) -> str:
        """The salt of whoever sent this header. RequestError 401 for none or a wrong one, 429 where it is too often."""
        scheme, _, key = authorization.partition(" ")
        given = key.strip(" \t").encode("latin-1", "replace") if scheme.lower() == "bearer" else b""
        # Clients write a key's letters beyond ASCII as UTF-8 or, as browsers do, as Latin-1.
        readings = _digest(given), _digest(given.decode("latin-1").encode())
        # All are compared, so that the time tells nothing of which one was nearly right.
        fitting = [own for own in self._digests for each in readings if hmac.compare_digest(own, each)]
        if self._digests and not fitting:
            raise RequestError(401, "this server asks for an API key: Authorization: Bearer …", code="invalid_api_key")
        salt = fitting[0] if fitting else ""
        if self._buckets is not None and (wait := self._buckets.take(salt)):
            raise RequestError(429, "too many requests with this key", code="rate_limit_exceeded", retry=wait)
        return salt


class Buckets:
    """For each key a bucket that holds a minute's requests and fills steadily (a token bucket)."""

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.size, self.per_second, self.clock = max(1.0, per_minute), per_minute / 60, clock
        self._filled: dict[str, tuple[float, float]] = {}
        """Key → what it held when."""

    def take(self, key: str) -> float:
        """Take one. 0, or the seconds after which there is one."""
        now = self.clock()
        held, when = self._filled.get(key, (self.size, now))
        held = min(self.size, held + (now - when) * self.per_second)
        if held < 1:
            return (1 - held) / self.per_second
        self._filled[key] = held - 1, now
        return 0.0


def _digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()
