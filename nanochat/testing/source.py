"""`check_source`: does a source keep the contract of `nanochat.data.source`?

In: a source's builder and config. Out: an AssertionError that lists what it breaks. Two sources are built and compared;
of each split up to a thousand documents are read. Not here: what the texts are worth.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from nanochat.data.remote import RemoteSource
from nanochat.data.source import Shard, Split
from nanochat.testing.faults import TRACEBACK, Faults, is_plain, short

DOCUMENTS = 1_000
SPLITS: tuple[Split, ...] = ("train", "validation")


def check_source(build: Callable[..., Any], config: Any = None) -> None:
    """AssertionError where the source that `build(config)` makes breaks its contract; without a config, `build()`."""
    faults = Faults(f"the source `{getattr(build, '__name__', build)}`", "nanochat.data.source")
    _check_fingerprint(config, faults)
    arguments = () if config is None else (config,)
    with faults.during("the builder", contract="build(config) makes a source", mend=TRACEBACK):
        source, twin = build(*arguments), build(*arguments)
        texts = {split: _read_split(source, twin, split, faults) for split in SPLITS}
        faults.expect(
            bool(texts["train"]),
            "the train split has no document",
            contract="there is something to train on",
            mend="raise wrong_input(E302, …) where the data is empty, so that a person learns it early",
        )
        shared = set(texts["train"]) & set(texts["validation"])
        faults.expect(
            not shared,
            f"{len(shared)} documents are in both splits, such as {short(next(iter(shared), ''))}",
            contract="train and validation share no document",
            mend="let the text itself decide its split, so that duplicates stay on one side",
        )
        _check_skipped(source, faults)
        if isinstance(source, RemoteSource):
            _check_files(source, faults)
    faults.raise_any()


def _check_fingerprint(config: Any, faults: Faults) -> None:
    if not hasattr(config, "fingerprint"):
        return
    contract = "fingerprint() is a mapping of plain data, the same each time, without the network"
    with faults.during("fingerprint()", contract=contract, mend="raise wrong_input(E301, …) only if data is missing"):
        found = config.fingerprint()
        faults.expect(
            is_plain(found) and found == config.fingerprint(),
            f"fingerprint() is {short(found)}",
            contract=contract,
            mend="say what decides the content: digests, names and numbers, no times and no objects",
        )


def _read_split(source: Any, twin: Any, split: Split, faults: Faults) -> list[str]:
    """The first documents of a split, each shard read whole, from later places, and by another source."""
    shards = _shards(source, split, faults)
    faults.expect(
        shards == _shards(twin, split, faults),
        f'two sources of one config have other shards("{split}")',
        contract="the same config gives the same shards, digests included",
        mend="sort what a folder lists, seed what is drawn, and digest what decides the content",
    )
    texts: list[str] = []
    for shard in shards:
        if len(texts) >= DOCUMENTS:
            break
        where = f'documents of shard "{shard.name}"'
        contract = "documents(shard, start) gives the shard's texts from number `start` on"
        with faults.during(where, contract=contract, mend=TRACEBACK):
            found = list(islice(source.documents(shard), DOCUMENTS - len(texts)))
            _check_texts(found, where, faults)
            _check_places(source, twin, shard, found, faults)
            texts += [text for text in found if isinstance(text, str)]
    return texts


def _shards(source: Any, split: Split, faults: Faults) -> Sequence[Shard]:
    contract = "shards(split) gives a list of Shard, each with a name, a size in bytes and a digest"
    mend = "Shard(name=…, size_bytes=…, digest=hashlib.sha256(content).hexdigest())"
    with faults.during(f'shards("{split}")', contract=contract, mend=mend):
        shards = list(source.shards(split))
        sound = all(
            isinstance(shard, Shard)
            and isinstance(shard.size_bytes, int)
            and shard.size_bytes >= 0
            and isinstance(shard.digest, str)
            and bool(shard.digest)
            for shard in shards
        )
        sound = sound and len({shard.name for shard in shards}) == len(shards)
        faults.expect(sound, f'shards("{split}") is {short(shards)}', contract=contract, mend=mend)
        return shards if sound else []
    return []


def _check_texts(texts: Sequence[Any], where: str, faults: Faults) -> None:
    for text in texts:
        sound = isinstance(text, str) and bool(text) and not any("\ud800" <= char <= "\udfff" for char in text)
        faults.expect(
            sound,
            f"among the {where} is {short(text)}",
            contract="a document is a text with something in it, and valid Unicode",
            mend="pass over empty records, count them in skipped(), and decode bytes as UTF-8",
        )


def _check_places(source: Any, twin: Any, shard: Shard, texts: Sequence[Any], faults: Faults) -> None:
    """Reading from any place gives what reading from the start gives there, again and in another source."""
    name = short(shard.name)
    for start in sorted({0, 1, len(texts) // 2, max(0, len(texts) - 1)}):
        found = list(islice(source.documents(shard, start), len(texts) - start))
        faults.expect(
            found == texts[start:],
            f"documents({name}, {start}) are not documents({name})[{start}:]",
            contract="a shard gives the same documents in the same order, from any place",
            mend="count documents as they are given out, those that are passed over left out",
        )
    faults.expect(
        list(islice(twin.documents(shard), len(texts))) == texts,
        f"another source of the same config has other documents in {name}",
        contract="the same config gives the same documents in the same order",
        mend="seed what is drawn from the config, never from time or process",
    )
    first, second = source.documents(shard), source.documents(shard)
    turns = [text for pair in zip(first, second, strict=False) for text in pair][:4]
    wanted = [text for text in texts[:2] for _ in range(2)]
    faults.expect(
        turns == wanted,
        f"two readings of {name} at once disturb each other",
        contract="each call of documents(shard) reads for itself",
        mend="keep the place in the generator, not in the source",
    )


def _check_files(source: RemoteSource, faults: Faults) -> None:
    """Of a source that fetches: what `nanochat data` asks, of shards that were read just now."""
    contract = "what was read lies whole at place(shard), is `here` in state(shard), and passes check(shard)"
    with faults.during("pin(), place(), state(), fetch() or check()", contract=contract, mend=TRACEBACK):
        faults.expect(
            isinstance(source.pin(), str) and bool(source.pin()),
            f"pin() is {short(source.pin())}",
            contract="pin() says what was pinned",
            mend='return f"{repository}@{commit}"',
        )
        for shard in source.shards("validation")[:1]:
            source.fetch(shard, lambda _: None)
            state, size = source.state(shard), source.place(shard).stat().st_size
            faults.expect(
                state.here and state.bytes_here == size,
                f"of {short(shard.name)}, which is {size} bytes long, state(shard) is {short(state)}",
                contract=contract,
                mend="look at the file itself, and compare its size with the manifest's",
            )
            source.check(shard)


def _check_skipped(source: Any, faults: Faults) -> None:
    contract = "skipped() gives how many records were passed over, by reason"
    with faults.during("skipped()", contract=contract, mend="return {} where none ever is"):
        found = source.skipped()
        sound = all(isinstance(reason, str) and isinstance(count, int) for reason, count in found.items())
        faults.expect(sound, f"skipped() is {short(found)}", contract=contract, mend='return {"empty": 3}, say')
