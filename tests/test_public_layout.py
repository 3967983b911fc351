"""Checkpoints of the public nanochat: both generations come in with their numbers, and no pickle does anything."""

import contextlib
import io
import json
import os
import pickle
import struct
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import tiktoken
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import NanoChatConfig, NanoChatForCausalLM

from nanochat.errors import NanochatError
from nanochat.exchange import public_layout, source
from nanochat.exchange.weights import Weights
from nanochat.model.gpt import GPT
from nanochat.registry import load_registry
from nanochat.testing.tiny import tiny_model, tiny_tokenizer
from nanochat.text.pickled_encoding import read_pickled_encoding
from nanochat.text.tokenizer import Tokenizer

IDS = torch.randint(300, (2, 50), generator=torch.Generator().manual_seed(1))


def encoding() -> tiktoken.Encoding:
    """The tiny tokenizer as the public nanochat has it in memory."""
    vocabulary = tiny_tokenizer().vocabulary
    first = len(vocabulary.tokens)
    return tiktoken.Encoding(
        name="rustbpe",
        pat_str=vocabulary.pattern,
        mergeable_ranks={token: rank for rank, token in enumerate(vocabulary.tokens)},
        special_tokens={name: first + place for place, name in enumerate(vocabulary.specials)},
    )


def save(home: Path, step: int, tensors: Mapping[str, torch.Tensor], **model_config: Any) -> Path:
    """Files as the public nanochat lays them out below its home; the folder of the checkpoint."""
    folder = home / "base_checkpoints" / "d2"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(dict(tensors), folder / f"model_{step:06d}.pt")
    meta = {"step": step, "val_bpb": 1.0, "model_config": model_config, "user_config": {"run": "dummy"}}
    (folder / f"meta_{step:06d}.json").write_text(json.dumps(meta, indent=2))
    (home / "tokenizer").mkdir(exist_ok=True)
    (home / "tokenizer" / "tokenizer.pkl").write_bytes(pickle.dumps(encoding()))
    return folder


def read(folder: Path, **options: Any) -> Weights:
    return source.read(folder, load_registry(), **options)


def ours(weights: Weights) -> GPT:
    model = GPT(weights.config)
    model.load_state_dict(dict(weights.tensors))
    return model


SHAPE = {"sequence_len": 64, "vocab_size": 300, "n_layer": 2, "n_head": 4, "n_kv_head": 2, "n_embd": 48}
THEIRS_IN_TRANSFORMERS = {
    "attn.c_q": "self_attn.q_proj",
    "attn.c_k": "self_attn.k_proj",
    "attn.c_v": "self_attn.v_proj",
    "attn.c_proj": "self_attn.o_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def first_release(home: Path, prefix: str = "") -> tuple[Path, NanoChatForCausalLM]:
    """A checkpoint of the first release, made of a model of transformers, which is that release's."""
    torch.manual_seed(0)
    config = NanoChatConfig(
        vocab_size=300,
        hidden_size=48,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    theirs = NanoChatForCausalLM(config)
    with torch.no_grad():  # what bfloat16 holds, since that is how the embedding is kept
        theirs.model.embed_tokens.weight.copy_(theirs.model.embed_tokens.weight.bfloat16().float())
    state = theirs.state_dict()
    tensors = {"transformer.wte.weight": state["model.embed_tokens.weight"].bfloat16()}
    tensors["lm_head.weight"] = state["lm_head.weight"]
    for layer in range(2):
        for name, other in THEIRS_IN_TRANSFORMERS.items():
            tensors[f"transformer.h.{layer}.{name}.weight"] = state[f"model.layers.{layer}.{other}.weight"]
    return save(home, 300, {prefix + name: tensor for name, tensor in tensors.items()}, **SHAPE), theirs


def current(home: Path, *, step: int = 300, without: str = "") -> tuple[Path, GPT]:
    """A checkpoint of the current model under the public names."""
    model = tiny_model(
        dim=48, head_dim=12, n_head=4, n_kv_head=2, depth=4, sequence_len=1024, window_pattern="SL", vocab_multiple=64
    )
    renamed = [
        ("wte.", "transformer.wte."),
        ("head.", "lm_head."),
        ("blocks.", "transformer.h."),
        (".attn.q.", ".attn.c_q."),
        (".attn.k.", ".attn.c_k."),
        (".attn.v.", ".attn.c_v."),
        (".attn.out.", ".attn.c_proj."),
        (".attn.value_gate.", ".attn.ve_gate."),
        (".mlp.up.", ".mlp.c_fc."),
        (".mlp.down.", ".mlp.c_proj."),
    ]
    tensors = {}
    for name, tensor in model.state_dict().items():
        for mine, public in renamed:
            if name.startswith(mine) or (mine[0] == "." and mine in name):
                name = name.replace(mine, public)
        tensors[name] = tensor
    assert {"value_embeds.1.weight", "transformer.h.3.attn.ve_gate.weight", "smear_gate.weight"} <= set(tensors)
    tensors.pop(without, None)
    return save(home, step, tensors, **{**SHAPE, "n_layer": 4, "sequence_len": 1024, "window_pattern": "SL"}), model


@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
def test_the_first_release_gives_the_logits_of_transformers(prefix: str, tmp_path: Path) -> None:
    folder, theirs = first_release(tmp_path, prefix)
    found = read(folder)
    with torch.no_grad():
        torch.testing.assert_close(ours(found)(IDS), theirs(IDS).logits, atol=1e-4, rtol=0)
    assert (found.step, found.config.vocab_size, found.config.rotary_base) == (300, 300, 10_000.0)


def test_the_current_model_comes_in_to_the_last_bit(tmp_path: Path) -> None:
    folder, model = current(tmp_path)
    found = read(folder)
    assert found.config.windows() == [256, 1024, 256, 1024]
    state = model.state_dict()
    assert set(found.tensors) == set(state)
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in state.items())
    ids = IDS.reshape(1, 100).repeat(1, 6)  # longer than a short window
    with torch.no_grad():
        assert torch.equal(ours(found)(ids), model(ids))


def test_the_last_step_is_taken_unless_one_is_named(tmp_path: Path) -> None:
    current(tmp_path, step=100)
    folder, _ = current(tmp_path, step=2_000_000)
    (folder / "model_000300_backup.pt").write_bytes(b"")
    (folder / "optim_000100_rank0.pt").write_bytes(b"never opened")
    assert read(folder).step == 2_000_000
    assert read(folder, step=100).step == 100
    with pytest.raises(NanochatError, match=r"E409.*no model of step 7; it has 100, 2000000"):
        read(folder, step=7)


def test_a_model_from_between_the_two_generations_is_refused_with_what_tells_it(tmp_path: Path) -> None:
    folder, _ = current(tmp_path, without="smear_lambda")
    with pytest.raises(NanochatError, match=r"E409.*it has `resid_lambdas` and no `smear_lambda`"):
        read(folder)


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("transformer.h.3.attn.ve_gate.weight", (2, 32), r"value_gate.weight` of shape \[2, 32\]"),
        ("transformer.h.0.attn.ve_gate.weight", (2, 12), "a weight that its model does not: `blocks.0.attn.value_gate"),
        ("transformer.extra.weight", (2, 2), "a weight that its model does not: `transformer.extra.weight`"),
    ],
)
def test_weights_that_do_not_fit_are_named(name: str, shape: tuple[int, int], said: str, tmp_path: Path) -> None:
    folder, _ = current(tmp_path)
    path = folder / "model_000300.pt"
    torch.save(torch.load(path, weights_only=True) | {name: torch.zeros(shape)}, path)
    with pytest.raises(NanochatError, match=f"E409.*{said}"):
        read(folder)


@pytest.mark.parametrize(
    "meta", ["", "[]", "{}", '{"model_config": 3}', '{"model_config": {"n_layer": 1}}', '{"model_config": null}']
)
def test_a_meta_file_that_describes_no_model_is_refused(meta: str, tmp_path: Path) -> None:
    folder, _ = current(tmp_path)
    (folder / "meta_000300.json").write_text(meta)
    with pytest.raises(NanochatError, match=r"E409.*meta_000300\.json does not describe a model"):
        read(folder)


def test_a_meta_file_that_is_missing_is_told_once(tmp_path: Path) -> None:
    folder, _ = current(tmp_path)
    (folder / "meta_000300.json").unlink()
    with pytest.raises(NanochatError, match=r"meta_000300\.json cannot be read \(No such file or directory\)\n"):
        read(folder)


def test_heads_that_do_not_fill_the_width_are_refused(tmp_path: Path) -> None:
    folder, _ = current(tmp_path)
    path = folder / "meta_000300.json"
    path.write_text(path.read_text().replace('"n_head": 4', '"n_head": 5'))
    with pytest.raises(NanochatError, match=r"E409.*does not fit together: n_head × head_dim is 5 × 9 = 45"):
        read(folder)


def test_another_tokenizer_can_be_named_and_must_have_the_models_ids(tmp_path: Path) -> None:
    folder, _ = current(tmp_path)
    (tmp_path / "tokenizer/tokenizer.pkl").rename(tmp_path / "moved.pkl")
    with pytest.raises(NanochatError, match=r"E409.*no tokenizer\.pkl beside it"):
        read(folder)
    assert read(folder, tokenizer_file=tmp_path / "moved.pkl").tokenizer.digest == tiny_tokenizer().digest
    Tokenizer.train(["the cat sat on the mat"], vocab_size=270).save(tmp_path / "small")
    with pytest.raises(NanochatError, match=r"E409.*300 ids, and its tokenizer, with the nine specials, has 270"):
        read(folder, tokenizer_file=tmp_path / "small/tokenizer.json")


# The pickled tokenizer


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_encoding_gives_the_same_ids_as_tiktoken(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.pkl"
    path.write_bytes(pickle.dumps(encoding(), protocol=protocol))
    vocabulary = read_pickled_encoding(path)
    assert vocabulary == tiny_tokenizer().vocabulary
    text = "The 49 small birds; é—ü\n\n sat"
    assert Tokenizer(vocabulary).encode(text) == encoding().encode_ordinary(text)


class Harm:
    """Unpickled, it calls something."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def by_name(module: str, name: str, *arguments: str) -> bytes:
    """A pickle of protocol 4 that calls module.name, which may be a dotted path, with texts."""
    text = [b"\x8c" + struct.pack("<B", len(part)) + part.encode() for part in (module, name, *arguments)]
    return b"\x80\x04" + text[0] + text[1] + b"\x93(" + b"".join(text[2:]) + b"tR."


def harmful(mark: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles that would make the folder `mark`, or reach for what could; and why each is refused."""
    state = encoding().__getstate__() | {"pat_str": Harm(os.mkdir, str(mark))}
    with mock.patch.object(tiktoken.Encoding, "__getstate__", return_value=state):
        inside = pickle.dumps(encoding())
    evaluated = f"__import__('os').mkdir({str(mark)!r})"
    return {
        "os": (pickle.dumps(Harm(os.mkdir, str(mark))), "asks for posix.mkdir"),
        "ancient": (pickle.dumps(Harm(os.mkdir, str(mark)), protocol=0), "asks for posix.mkdir"),
        "eval": (pickle.dumps(Harm(eval, evaluated)), "asks for builtins.eval"),
        "inside": (inside, "asks for posix.mkdir"),
        "dotted": (by_name("tiktoken.core", "os.mkdir", str(mark)), "asks for tiktoken.core.os.mkdir"),
        "of the class": (by_name("tiktoken.core", "Encoding.__init__.__globals__"), "asks for tiktoken.core.Encoding."),
        "import": (by_name("antigravity", "fly"), "asks for antigravity.fly"),
        "extension": (b"\x80\x02\x82\x01.", "is no pickle"),
        "persistent": (b"\x80\x02U\x01xQ.", "is no pickle"),
        "state of the class": (b"\x80\x02ctiktoken.core\nEncoding\n}(U\x01aU\x01bub.", "is no pickle"),
        "called": (b"\x80\x02ctiktoken.core\nEncoding\n(U\x01atR.", "is no pickle"),
    }


NAMES = list(harmful(Path("mark")))


def test_the_harmful_pickles_are_harmful(tmp_path: Path) -> None:
    for name in ("os", "ancient", "eval", "inside"):
        with contextlib.suppress(TypeError):  # tiktoken then misses its pattern
            pickle.loads(harmful(tmp_path / name)[name][0])
        assert (tmp_path / name).is_dir()
    pickle.loads(by_name("os", "path.os.mkdir", str(tmp_path / "dotted")))
    assert (tmp_path / "dotted").is_dir()


@pytest.mark.parametrize("name", NAMES)
def test_a_malicious_pickle_executes_nothing(name: str, tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "tokenizer.pkl"
    content, said = harmful(mark)[name]
    path.write_bytes(content)
    before = set(sys.modules)
    with pytest.raises(NanochatError, match=f"E307.*{said}"):
        read_pickled_encoding(path)
    assert not mark.exists()
    assert set(sys.modules) == before, "nothing was imported"


@pytest.mark.parametrize("content", [b"", b"\x80\x04", pickle.dumps({"pat_str": "x"}), b"not a pickle", b"\x80\x63."])
def test_what_is_no_pickled_encoding_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.pkl"
    path.write_bytes(content)
    with pytest.raises(NanochatError, match="E307"):
        read_pickled_encoding(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_pickle_is_read_or_refused_and_fails_in_no_other_way(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = pickle.dumps(encoding())
    place = data.draw(st.integers(0, len(whole) - 1))
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(whole[:place] + data.draw(st.binary(max_size=4)) + whole[place + data.draw(st.integers(0, 4)) :])
    refused = None
    try:
        read_pickled_encoding(path)
    except NanochatError as fault:
        refused = fault
    assert refused is None or refused.diagnostics[0].code == "E307"


# The pickled weights

LEGACY = {"_use_new_zipfile_serialization": False}
"""As torch saved before 1.6."""


def said_of(content: bytes, folder: Path) -> str:
    """How the import of a folder is refused, all of it, with this in its model file."""
    (folder / "model_000300.pt").write_bytes(content)
    with warnings.catch_warnings(record=True) as warned, pytest.raises(NanochatError) as refused:
        read(folder)
    assert (refused.value.diagnostics[0].code, warned) == ("E409", [])
    said = str(refused.value)
    assert not [word for word in ("weights_only", "torch.load", "safe_globals", "PyTorch") if word in said], said
    return said


def saved(content: object, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def test_a_model_file_that_would_run_something_is_refused_by_what_it_asks_for_and_runs_nothing(tmp_path: Path) -> None:
    folder, _ = current(tmp_path)
    mark = tmp_path / "mark"
    harm = Harm(os.mkdir, str(mark))
    for content in (
        saved({"transformer.wte.weight": harm}),
        saved({"transformer.wte.weight": harm}, **LEGACY),
        pickle.dumps(harm, protocol=2),
    ):
        assert "it asks for posix.mkdir, which no weights need" in said_of(content, folder)
    a_module = saved(torch.nn.Linear(2, 2))
    assert "it asks for torch.nn.modules.linear.Linear, which no weights need" in said_of(a_module, folder)
    assert "holds no tensors that can be read safely" in said_of(pickle.dumps(harm, protocol=4), folder)
    assert not mark.exists()


def test_a_model_file_that_is_cut_off_or_holds_other_things_is_refused(tmp_path: Path) -> None:
    folder, _ = current(tmp_path)
    whole = (folder / "model_000300.pt").read_bytes()
    for content in (b"", b"garbage", b"PK", saved({"a": torch.zeros(3)}, **LEGACY)[:200]):
        assert "it is no file of torch's, or was cut off" in said_of(content, folder)
    altered = whole.replace(b"ctorch\n", b"\xf9torch\n")
    for content in (whole[:5000], whole[: len(whole) // 2], b"PK\x03\x04garbage", altered):
        assert "it was cut off or damaged" in said_of(content, folder)
    assert "is no table of tensors" in said_of(saved({"a": 3}), folder)
    (folder / "model_000300.pt").unlink()
    (folder / "model_000300.pt").mkdir()
    with pytest.raises(NanochatError, match=r"E409.*it cannot be opened \(Is a directory\)"):
        read(folder)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_model_file_is_read_or_refused_and_fails_in_no_other_way(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = saved({"wte": torch.zeros(2, 3)}, **data.draw(st.sampled_from([{}, LEGACY])))
    place = data.draw(st.integers(0, len(whole) - 1))
    path = tmp_path_factory.getbasetemp() / "model_000001.pt"
    path.write_bytes(whole[:place] + data.draw(st.binary(max_size=4)) + whole[place + data.draw(st.integers(0, 4)) :])
    with pytest.raises(NanochatError) as refused:  # at the latest for its meta file, which is not there
        public_layout.read(path.parent)
    assert refused.value.diagnostics[0].code == "E409"
    assert "torch.load" not in str(refused.value) and "weights_only" not in str(refused.value)
