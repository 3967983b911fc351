"""The source `pydocs`: the interpreter's own documentation."""

import functools
import sysconfig
from pathlib import Path

import pytest
from small_files import read

from nanochat_plugins.sources import pydocs
from nanochat_plugins.sources.pydocs import PyDocs, PyDocsConfig


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOCHAT_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


@functools.cache
def library() -> list[str]:
    return pydocs.extract(Path(sysconfig.get_path("stdlib")))


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The real extraction, done once for all tests."""
    texts = library()
    monkeypatch.setattr(pydocs, "extract", lambda folder: list(texts))
    return texts


def test_pydocs_are_megabytes_of_prose_without_duplicates(extracted: list[str]) -> None:
    assert sum(map(len, extracted)) > 1_500_000
    assert len(set(extracted)) == len(extracted)
    assert min(map(len, extracted)) >= 40
    assert any("Return a shallow copy" in text for text in extracted)
    letters = sum(char.isalpha() or char.isspace() for text in extracted for char in text)
    assert letters / sum(map(len, extracted)) > 0.85


def test_pydocs_come_from_docstrings_alone_and_never_from_tests(home: Path) -> None:
    module = home / "library" / "pack" / "module.py"
    module.parent.mkdir(parents=True)
    (home / "library" / "test").mkdir()
    doc = "The documentation of a {} is long enough to be kept here."
    module.write_text(
        f'"""{doc.format("module")}"""\n# {doc.format("comment")}\nraise SystemExit\n'
        f'class A:\n    """{doc.format("class")}\n\n        Indented.   \n    """\n'
        f'    async def f(self):\n        """{doc.format("method")}"""\n        return "{doc.format("string")}"\n'
        f'def g():\n    """Short."""\ndef h():\n    """{doc.format("module")}"""\n'
    )
    (home / "library" / "test" / "case.py").write_text(f'"""{doc.format("test")}"""\n')
    (home / "library" / "broken.py").write_text("def (:\n")
    ours = [text for text in pydocs.extract(home / "library") if text.startswith("The documentation of a")]
    assert sorted(ours) == [
        doc.format("class") + "\n\nIndented.",
        doc.format("method"),
        doc.format("module"),
    ]


def test_pydocs_splits_share_nothing_and_places_are_exact(extracted: list[str]) -> None:
    source = PyDocs(PyDocsConfig())
    train, validation = read(source), read(source, "validation")
    assert sorted(train + validation) == sorted(extracted)
    assert not set(train) & set(validation)
    assert 0.02 < len(validation) / len(extracted) < 0.04
    (shard,) = source.shards("train")
    assert list(source.documents(shard, 4_000)) == train[4_000:]
    assert read(PyDocs(PyDocsConfig())) == train


def test_pydocs_are_kept_and_a_damaged_file_is_made_anew(
    home: Path, extracted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pydocs.library_documents()
    (kept,) = (home / "data" / "pydocs").iterdir()
    content = kept.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(pydocs, "extract", None)  # to extract would fail
        assert pydocs.library_documents() == first
    kept.write_bytes(content.replace(b"Return", b"Reform", 1))
    assert pydocs.library_documents() == first
    assert kept.read_bytes() == content
