"""The documents of one data file, of one split, from any of them on.

In: a file, how it is read, which documents are wanted. Out: their texts. A record that is null, empty, no UTF-8, no
text or too long is counted and passed over. Reading begins near the wanted document, where the file was read so far
before (`place_index.py`). Not here: formats (`records.py`).
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import attrs

from nanochat_plugins.sources.held_out import split_of
from nanochat_plugins.sources.json_lines import Record
from nanochat_plugins.sources.place_index import PlaceIndex
from nanochat_plugins.sources.records import records

TOO_LONG = "too long"


@attrs.frozen(kw_only=True)
class Reading:
    """Which documents a file's content gives."""

    column: str
    separator: str
    longest: int
    """Characters; longer documents are passed over."""
    split: str = ""
    """ "train", "validation": the documents whose text decides for it; "": all."""
    validation_share: float = 0.0

    def text(self) -> str:
        """All of it, as a `Shard` carries it."""
        return json.dumps(attrs.asdict(self), sort_keys=True)


@attrs.frozen(kw_only=True)
class DataFile:
    """A file, and what is read of it."""

    path: Path
    digest: str
    """Of its content, as its owner knows it."""
    reading: Reading

    def documents(self, start: int, skipped: Counter[str]) -> Iterator[str]:
        """The texts from document number `start` on; what is passed over behind it is counted in `skipped`."""
        # Its endings too: the same bytes are other documents as .jsonl and as .txt.
        index = PlaceIndex([self.digest, self.path.suffixes[-2:], self.reading.text()], self.path)
        place, number = index.find(start)
        try:
            for record in self._own(place):
                if record.place > place:
                    place = record.place
                    index.learn(place, number)
                if record.text is not None:
                    number += 1
                    if number > start:
                        yield record.text
                elif record.fault and number >= start:
                    skipped[record.fault] += 1
        finally:
            index.save()

    def _own(self, begin: int) -> Iterator[Record]:
        """The file's records; the other split's have neither text nor fault. Faulty ones belong to the train split."""
        how, split = self.reading, self.reading.split
        for record in records(self.path, column=how.column, separator=how.separator, begin=begin):
            found = record
            if found.text is not None and len(found.text) > how.longest:
                found = Record(None, TOO_LONG, record.place)
            if split and (split_of(found.text, how.validation_share) if found.text is not None else "train") != split:
                found = Record(None, "", record.place)
            yield found
