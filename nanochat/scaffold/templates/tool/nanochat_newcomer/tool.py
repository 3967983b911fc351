"""The tool `newcomer`: a text from its end to its beginning."""

from nanochat.text.special import PYTHON_END, PYTHON_START


class Newcomer:
    """Called as <|python_start|>stressed<|python_end|>; the output is `desserts`."""

    name = "newcomer"
    start = PYTHON_START
    end = PYTHON_END

    def __init__(self, longest: int = 100) -> None:
        self.longest = longest

    def run(self, code: str) -> str | None:
        return code[::-1] if len(code) <= self.longest else None
