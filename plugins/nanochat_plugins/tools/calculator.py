"""The tool `calculator`: arithmetic on numbers, and counting in a short text. Nothing else is ever computed.

In: what a model wrote. Out: the result as Python prints it, or None. The text is parsed, and the tree walked by hand:
there is no eval, no name is looked up, and no signal or clock is needed, so it works in any thread. Every step is
bounded before it is taken (`9**9**9` is refused in microseconds). Commas between digits of a number are left out; × ÷
− are * / -.

Limits: 256 characters, a tree 32 deep, integers of 512 bits, texts of 100 characters.
"""

import ast
import math
import operator
import re
from collections.abc import Callable

from nanochat.text.special import PYTHON_END, PYTHON_START

MAX_CHARS = 256
MAX_DEPTH = 32
MAX_BITS = 512
MAX_LITERAL = 100

Number = int | float

_PIECE = re.compile(r'("[^"\\\n]*"|\'[^\'\\\n]*\')')
_ALLOWED = re.compile(r"(?:[0-9.+\-*/%()\s]|[eE](?=[0-9+\-])|\.count(?=\())*")
_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?![\d,])")
_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-"})
_BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


class _Refused(Exception):
    """The text is none that is computed."""


class Calculator:
    """Runs the sums that a model writes, and counts of a letter in a word, within narrow limits. Take it in a stage
    that finetunes on `arithmetic` or `spelling_bee`; it is kept with the checkpoint, for chats as well.
    """

    name = "calculator"
    start = PYTHON_START
    end = PYTHON_END

    def run(self, code: str) -> str | None:
        """The result as text; None for anything but a sum or a count within the limits."""
        try:
            return str(_value(_parsed(code), 1))
        except (_Refused, SyntaxError, ValueError, ArithmeticError, MemoryError, RecursionError):
            return None


def _parsed(code: str) -> ast.expr:
    """The expression's tree, once its characters are those of numbers, signs, texts and `.count`."""
    if len(code) > MAX_CHARS:
        raise _Refused
    pieces = _PIECE.split(code)  # texts are at the odd places, and stay as they are
    for place in range(0, len(pieces), 2):
        piece = _THOUSANDS.sub(lambda number: number[0].replace(",", ""), pieces[place].translate(_SIGNS))
        if not _ALLOWED.fullmatch(piece):
            raise _Refused
        pieces[place] = piece
    return ast.parse("".join(pieces).strip(), mode="eval").body


def _value(node: ast.expr, depth: int) -> Number:
    """The value of a node, `depth` levels down."""
    if depth > MAX_DEPTH:
        raise _Refused
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _bounded(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
        value = _value(node.operand, depth + 1)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _value(node.left, depth + 1), _value(node.right, depth + 1)
        if isinstance(node.op, ast.Pow):
            _check_power(left, right)
        return _bounded(_BINARY[type(node.op)](left, right))
    if isinstance(node, ast.Call):
        return _count(node)
    raise _Refused


def _bounded(value: Number | complex) -> Number:
    """The value, if it is a finite number of a size that is allowed."""
    if isinstance(value, int) and value.bit_length() <= MAX_BITS:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise _Refused


def _check_power(base: Number, exponent: Number) -> None:
    """Refuse a power of integers before it is computed, if it needs more bits than are allowed.

    |base| ≥ 2^(bits − 1), so base^exponent has at least (bits − 1)·exponent + 1 bits, and at most twice as many.
    """
    if isinstance(base, int) and isinstance(exponent, int) and (abs(base).bit_length() - 1) * exponent >= MAX_BITS:
        raise _Refused


def _count(call: ast.Call) -> int:
    """`"strawberry".count("r")`, on two literal texts."""
    texts = [call.func.value, *call.args] if isinstance(call.func, ast.Attribute) and call.func.attr == "count" else []
    if len(texts) != 2 or call.keywords:
        raise _Refused
    values = [text.value for text in texts if isinstance(text, ast.Constant) and isinstance(text.value, str)]
    if len(values) != 2 or max(map(len, values)) > MAX_LITERAL:
        raise _Refused
    return values[0].count(values[1])
