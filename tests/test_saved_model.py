"""A model in one file or in the parts of several processes: torch's own reader finds in them what ours does."""

import json
import shutil
from pathlib import Path

import attrs
import pytest
import torch
import torch.distributed.checkpoint as dcp
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader

from nanochat.errors import StageError
from nanochat.runtime import local_runtime
from nanochat.training.checkpoint import processes, ranks_to_read
from nanochat.training.manifest import MANIFEST, write_manifest
from nanochat.training.saved_model import SavedModel, part_of_rank
from nanochat.training.share import Share
from nanochat.training.tensor_file import write_tensors

SHAPES = st.lists(st.integers(1, 9), max_size=3).map(tuple)
DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.int64])


@st.composite
def models(draw: st.DrawFn) -> dict[str, Tensor]:
    tensors = {}
    for index in range(draw(st.integers(1, 4))):
        shape, dtype = draw(SHAPES), draw(DTYPES)
        numbers = torch.arange(torch.Size(shape).numel()).reshape(shape)
        tensors[f"blocks.{index}.weight"] = (numbers + 100 * index).to(dtype)
    return tensors


def write_parts(model: dict[str, Tensor], ranks: int, folder: Path, everybodys: frozenset[str] = frozenset()) -> None:
    """A checkpoint's files as `ranks` processes write them that hold the rows that FSDP2 gives to each."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for rank in range(ranks):
        held = {}
        for name, tensor in model.items():
            if tensor.dim() == 0 or name in everybodys:
                held |= {name: (0, tensor)} if rank == 0 else {}
            elif rows := Share(kind="cut").rows(tensor.shape, rank, ranks):
                held[name] = (rows[0], tensor[slice(*rows)])
        part = part_of_rank(rank, held)
        write_tensors(part.tensors, folder / f"{part.file}.safetensors", part.metadata)
    write_manifest(folder)


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], its) and found[name].dtype == its.dtype for name, its in expected.items()
    )


@given(model=models(), ranks=st.integers(1, 6), data=st.data())
def test_any_rows_of_any_parts_are_those_of_the_whole(
    model: dict[str, Tensor], ranks: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "rows"
    write_parts(model, ranks, folder, frozenset(data.draw(st.sets(st.sampled_from(sorted(model))))))
    saved = SavedModel(folder)
    assert saved.shapes == {name: tuple(tensor.shape) for name, tensor in model.items()}
    assert same(saved.whole(), model)
    for name, tensor in model.items():
        whole = tensor if tensor.dim() else tensor.reshape(1)
        start = data.draw(st.integers(0, len(whole) - 1))
        stop = data.draw(st.integers(start + 1, len(whole)))
        assert torch.equal(saved.rows(name, start, stop).reshape(whole[start:stop].shape), whole[start:stop])
    saved.write(folder / "ours")
    save_file(model, folder / "theirs", metadata={"format": "pt"})
    assert (folder / "ours").read_bytes() == (folder / "theirs").read_bytes()


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@given(model=models(), ranks=st.integers(1, 6))
def test_torchs_distributed_checkpoint_loads_the_parts(
    model: dict[str, Tensor], ranks: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "dcp"
    write_parts(model, ranks, folder)
    for path in folder.glob("*.json"):
        path.unlink()
    found = {name: torch.zeros_like(tensor) for name, tensor in model.items()}
    dcp.load(found, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    assert same(found, model)


def test_torch_joins_the_parts_to_the_file_that_we_join_them_to(tmp_path: Path) -> None:
    consolidate = pytest.importorskip("torch.distributed.checkpoint._consolidate_hf_safetensors")
    model = {"wte.weight": torch.randn(7, 4), "scale": torch.randn(5), "head.weight": torch.randn(2, 4)}
    write_parts(model, 3, tmp_path / "parts", frozenset({"scale"}))
    SavedModel(tmp_path / "parts").write(tmp_path / "ours.safetensors")
    (tmp_path / "theirs").mkdir()
    consolidate.consolidate_safetensors_files(
        str(tmp_path / "parts"), str(tmp_path / "theirs"), fqn_to_index_mapping=dict.fromkeys(model, 1)
    )
    (theirs,) = (tmp_path / "theirs").glob("*.safetensors")
    assert same(load_file(theirs), model)
    assert same(load_file(tmp_path / "ours.safetensors"), model)


def test_a_process_opens_no_parts_but_those_that_it_goes_on_with(tmp_path: Path) -> None:
    model = {"wte.weight": torch.randn(9, 2), "scale": torch.randn(5)}
    write_parts(model, 4, tmp_path / "parts", frozenset({"scale"}))
    runtime = attrs.evolve(local_runtime(), rank=2, world_size=4, shard="full")
    ranks = ranks_to_read({"processes": processes(runtime)}, runtime)
    assert ranks is not None
    for rank in {0, 1, 2, 3} - ranks:
        (tmp_path / f"parts/model-{rank}.safetensors").unlink()
    saved = SavedModel(tmp_path / "parts", ranks=ranks)
    assert torch.equal(saved.rows("wte.weight", 6, 9), model["wte.weight"][6:9])
    assert torch.equal(saved.rows("scale", 0, 5), model["scale"])
    for others in ({"world_size": 2}, {"shard": "optimizer"}):
        assert ranks_to_read({"processes": processes(attrs.evolve(runtime, **others))}, runtime) is None
    assert ranks_to_read({}, runtime) is None, "an earlier version's"


@pytest.mark.parametrize("lost", [0, 1])
def test_rows_that_no_file_has_are_missed(lost: int, tmp_path: Path) -> None:
    folder = tmp_path / "step_000003"
    write_parts({"wte.weight": torch.randn(9, 2)}, 3, folder)
    said = json.loads((folder / MANIFEST).read_text())
    del said["files"][f"model-{lost}.safetensors"]
    (folder / MANIFEST).write_text(json.dumps(said))
    with pytest.raises(StageError, match=r"E406.*step_000003 is broken: rows . to . of `wte.weight` are"):
        SavedModel(folder).whole()
    with pytest.raises(StageError, match=r"E406.*step_000003 is broken: rows 2 to 7 of `wte.weight` are not all"):
        SavedModel(folder).rows("wte.weight", 2, 7)
