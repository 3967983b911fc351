"""The special tokens, the split pattern and who encodes: what a vocabulary has beside its merges.

Imports nothing heavy.
"""

from typing import Literal, get_args

Implementation = Literal["rust", "huggingface", "tiktoken"]
"""The package that encodes: ours, Hugging Face's tokenizers, or tiktoken."""
IMPLEMENTATIONS = get_args(Implementation)

BOS = "<|bos|>"
USER_START, USER_END = "<|user_start|>", "<|user_end|>"
ASSISTANT_START, ASSISTANT_END = "<|assistant_start|>", "<|assistant_end|>"
PYTHON_START, PYTHON_END = "<|python_start|>", "<|python_end|>"
OUTPUT_START, OUTPUT_END = "<|output_start|>", "<|output_end|>"

SPECIAL_TOKENS = (
    BOS,
    USER_START,
    USER_END,
    ASSISTANT_START,
    ASSISTANT_END,
    PYTHON_START,
    PYTHON_END,
    OUTPUT_START,
    OUTPUT_END,
)
"""In the order of their ids: the last nine of every vocabulary."""


def call_tokens(tool: str) -> tuple[str, str]:
    """The specials between which a call of a tool stands: <|search_start|> and <|search_end|> for `search`."""
    return f"<|{tool}_start|>", f"<|{tool}_end|>"


def called_by(start: str) -> str:
    """The tool that a special begins a call of: what `call_tokens` was given. The token itself where it is no such."""
    return start[2:-8] if start.startswith("<|") and start.endswith("_start|>") else start


SPLIT_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
"""GPT-4's, with numbers in groups of at most two digits, so that a small vocabulary is not spent on numerals."""
