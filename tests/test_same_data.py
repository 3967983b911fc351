"""Processes that would read different data stop before the first step, all of them."""

import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from small_data import Texts

from nanochat.errors import StageError
from nanochat.runtime import distributed_runtime, local_runtime
from nanochat.stages.same_data import check_same_data


def _rank(rank: int, texts: list[list[str]], store: Path, answers: Any) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(len(texts)), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.read_text()}
    with distributed_runtime(device="cpu", dtype="float32", seed=0) as runtime:
        try:
            check_same_data({"web": Texts(*([text] for text in texts[rank]))}, runtime)
        except StageError as fault:
            answers.put(fault.diagnostics[0].code)
        else:
            answers.put("")


@pytest.mark.parametrize(
    "texts, codes",
    [([["a", "b"], ["a", "b"], ["a", "b"]], [""] * 3), ([["a", "b"], ["a", "b"], ["a"]], ["E304"] * 3)],
    ids=["the same", "one has other shards"],
)
def test_every_process_learns_whether_all_read_the_same(
    texts: list[list[str]], codes: list[str], tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "port").write_text(str(free.getsockname()[1]))
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    ranks = [context.Process(target=_rank, args=(rank, texts, tmp_path / "port", answers)) for rank in range(3)]
    for process in ranks:
        process.start()
    assert [answers.get(timeout=60) for _ in ranks] == codes
    for process in ranks:
        process.join()


def test_a_process_alone_agrees_with_itself() -> None:
    check_same_data({"web": Texts(["a"])}, local_runtime())
