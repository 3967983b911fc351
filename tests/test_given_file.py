"""Files that a person names to a command, and that are not what it takes: one clear error each, and no traceback."""

import json
import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nanochat.benchmarking.page import parse
from nanochat.cli.main import main
from nanochat.errors import InputError
from nanochat.given_file import given_json, given_text, write_given
from nanochat.recipe.artifacts import kinds_at
from nanochat.running.run_folder import RunFolder
from nanochat.serving.keys import read_keys

DEEP = b"[" * 100_000
BINARY = b"\x7fELF\x02\x01\xff\xfe"
Main = Callable[..., str]


@pytest.fixture
def nanochat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Main:
    monkeypatch.setenv("NANOCHAT_HOME", str(tmp_path / "home"))

    def run(*arguments: object) -> str:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        assert ended.value.code in (1, 2)
        return capsys.readouterr().err

    return run


def test_a_text_is_read_with_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "text").write_text("é\n", encoding=encoding)
        assert given_text(tmp_path / "text", help="") == "é\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (DEEP, "{} is no JSON: it is nested too deeply"),
        (BINARY, "{} cannot be read: it is no UTF-8 text (byte 6 is 0xff)"),
        (b"{", "{} is no JSON: Expecting property name"),
        (b"9" * 10_000, "{} is no JSON: Exceeds the limit"),
        (None, "{} cannot be read: No such file or directory"),
    ],
)
def test_what_is_no_json_is_named_with_the_reason_and_what_to_do(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError) as refused:
        given_json(file, help="name another")
    shown = str(refused.value)
    assert shown.startswith(f"error[E304]: {said.format(file)}") and shown.endswith("= help: name another")


def test_what_a_full_disk_does_not_take_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    file.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    disposition = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # the kernel takes the first page and refuses the rest
    try:
        with pytest.raises(InputError, match=r"E304.*talk.json cannot be written: File too large"):
            write_given(file, "x" * 10_000, help="")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, disposition)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_is_replaced_keeps_its_permissions_and_a_link_to_it_stays_one(tmp_path: Path) -> None:
    file, link = tmp_path / "talk.json", tmp_path / "link"
    file.write_text("old")
    file.chmod(0o600)
    link.symlink_to(file)
    write_given(link, "new", help="")
    assert (file.read_text(), link.is_symlink(), file.stat().st_mode & 0o777) == ("new", True, 0o600)


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE) as reader:
        write_given(tmp_path / "pipe", "new", help="")
        assert reader.communicate(timeout=60)[0] == b"new"


def test_a_file_of_keys_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(BINARY)
    with pytest.raises(InputError, match=r"E304.*keys cannot be read: it is no UTF-8 text.*\n.*one a line"):
        read_keys(tmp_path / "keys", None)


@pytest.mark.parametrize("option", ["--persona", "--topics", "--api-key-file"])
def test_texts_for_synthesis_that_are_none_are_named(tmp_path: Path, nanochat: Main, option: str) -> None:
    (tmp_path / "file").write_bytes(BINARY)
    shown = nanochat("data", "synth", tmp_path / "talk.jsonl", option, tmp_path / "file")
    assert shown.startswith(f"error[E304]: {tmp_path / 'file'} cannot be read: it is no UTF-8 text")
    assert not (tmp_path / "talk.jsonl").exists()


def test_lines_of_another_program_that_are_nested_deeply_are_no_synthesis(tmp_path: Path, nanochat: Main) -> None:
    (tmp_path / "talk.jsonl").write_bytes(DEEP + b"\n")
    assert "talk.jsonl:1 was not written by this command" in nanochat("data", "synth", tmp_path / "talk.jsonl")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (DEEP, "E304.*nested too deeply"),
        (BINARY, "E304.*no UTF-8"),
        (b"[]", "E407.*is no page of benchmarks"),
        (b"{}", "E407.*is no page of benchmarks"),
        (json.dumps({"format": 1, "outcomes": {"a": 1}, "facts": {}, "cores": 1}).encode(), "E407.*is no page"),
        (json.dumps({"format": 1, "outcomes": [1], "facts": {}, "cores": 1}).encode(), "E407.*is no page"),
    ],
)
def test_what_is_no_page_of_benchmarks_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "page.json").write_bytes(content)
    with pytest.raises(InputError, match=said):
        parse(tmp_path / "page.json")


@pytest.mark.parametrize("content", [DEEP, BINARY, b"[]", b"{}", b'{"files": []}'])
@pytest.mark.parametrize("command", ["chat", "complete", "export"])
def test_a_checkpoint_whose_manifest_is_none_is_broken(
    tmp_path: Path, nanochat: Main, command: str, content: bytes
) -> None:
    (tmp_path / "MANIFEST.json").write_bytes(content)
    options = ["--format", "hf"] if command == "export" else ["-p", "hi"]
    assert nanochat(command, tmp_path, *options).startswith(f"error[E406]: the checkpoint {tmp_path} is broken")


@pytest.mark.parametrize("content", [DEEP, b"a = " + DEEP, BINARY, b"{}"])
def test_a_record_and_a_lock_that_are_none_are_as_good_as_absent(
    tmp_path: Path, nanochat: Main, content: bytes
) -> None:
    for name in ("record.json", "plan.json", "recipe.lock.toml", "tokenizer.json"):
        (tmp_path / name).write_bytes(content)
    assert kinds_at(tmp_path) == ["tokenizer"]
    assert RunFolder(tmp_path).lock == {}
    assert nanochat("tokenizer", "export", tmp_path, tmp_path / "out.tiktoken").startswith("error[E307]")
