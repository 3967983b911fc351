"""The documents of a text file: its pieces between separators.

In: a stream of bytes, a separator. Out: one `Record` for each piece. Blank lines about a document are not its own;
where nothing else is, there is no record. Memory stays at one block and one document. Not here: opening files.
"""

from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import BinaryIO

from nanochat_plugins.sources.json_lines import BLOCK, Record, record


def pieces(stream: BinaryIO, separator: bytes, begin: int = 0) -> Iterator[Record]:
    """The records of a stream that begins at byte `begin` of its file, which is 0 or a record's place."""
    separator = separator.replace(b"\r\n", b"\n")
    rest, place = bytearray(), begin
    for offset, raw in _blocks(stream, begin):
        # What is read already is not searched again, but for what may be the beginning of a separator.
        before, start = len(rest), 0
        looked = max(0, before - len(separator) + 1)
        rest += raw.replace(b"\r\n", b"\n")
        while separator and (end := rest.find(separator, looked)) >= 0:
            yield from _piece(rest[start:end], place)
            if not start:  # the first that begins in this block
                place = offset + _length(raw, end + len(separator) - before)
            start = looked = end + len(separator)
        del rest[:start]
    yield from _piece(rest, place)


def _blocks(stream: BinaryIO, begin: int) -> Iterator[tuple[int, bytes]]:
    """A file in pieces that do not part the line ends of Windows, without the mark that it puts before UTF-8.

    Each with the byte at which it begins.
    """
    mark = b"" if begin else stream.read(len(BOM_UTF8))
    rest = mark.removeprefix(BOM_UTF8)
    begin += len(mark) - len(rest)
    while block := rest + stream.read(BLOCK):
        rest = b""
        while block.endswith(b"\r") and (more := stream.read(1)):
            block += more
        yield begin, block
        begin += len(block)


def _length(raw: bytes, length: int) -> int:
    """How many bytes of a block become the first `length` of them when its line ends become those of Unix."""
    block = raw.replace(b"\r\n", b"\n")[:length]
    lines = block.count(b"\n")
    whole_lines = len(raw) - len(raw.split(b"\n", lines)[lines])
    return whole_lines + length - (block.rfind(b"\n") + 1)


def _piece(found: bytearray, place: int) -> Iterator[Record]:
    if piece := bytes(found.strip(b"\n")):
        yield record(piece, place)
