"""Which documents are held out for validation: decided by each text alone.

In: a text and a share. Out: yes or no. The same text is always on the same side, whatever else there is in a corpus,
so that adding or removing files never moves a document from one split to the other, and duplicates stay together.
"""

import hashlib

from nanochat.data.source import Split


def split_of(text: str, share: float) -> Split:
    """The split of a text, of which about `share` are for validation."""
    digest = hashlib.sha256(b"validation:" + text.encode("utf-8", "surrogatepass")).digest()
    return "validation" if int.from_bytes(digest[:8], "big") < share * 2**64 else "train"
