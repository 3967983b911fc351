"""Models to and from Hugging Face, whose own NanoChatForCausalLM is the judge. No test asks the network."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, NanoChatConfig, NanoChatForCausalLM
from transformers.convert_slow_tokenizer import TikTokenConverter

from nanochat.errors import NanochatError
from nanochat.exchange import huggingface, source
from nanochat.exchange.checkpoint_folder import write_model
from nanochat.exchange.weights import Weights
from nanochat.model.gpt import GPT
from nanochat.model.gpt_config import GPTConfig
from nanochat.registry import load_registry
from nanochat.runtime import local_runtime
from nanochat.testing.tiny import tiny_conversation, tiny_model, tiny_tokenizer
from nanochat.text.conversation import render_conversation, render_prompt
from nanochat.text.formats import read_huggingface, write_tiktoken
from nanochat.text.tokenizer import Tokenizer
from nanochat.training.checkpoint import load_checkpoint

CLASSIC: dict[str, Any] = {
    "depth": 3,
    "dim": 48,
    "head_dim": 12,
    "n_head": 4,
    "n_kv_head": 4,
    "sequence_len": 64,
    **GPTConfig.BEFORE,
    "vocab_multiple": 64,
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def classic(**changes: Any) -> GPT:
    """The first release's model, small; its weights are noise."""
    return tiny_model(**{**CLASSIC, **changes})


def weights_of(model: GPT) -> Weights:
    return Weights(config=model.config, tensors=model.state_dict(), tokenizer=tiny_tokenizer())


def logits(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Ours give the logits, theirs an output that holds them."""
    with torch.no_grad():
        given = model(ids)
    found: torch.Tensor = getattr(given, "logits", given)
    return found


def some_ids() -> torch.Tensor:
    return torch.randint(300, (2, 50), generator=torch.Generator().manual_seed(1))


VARIANTS = [
    pytest.param({}, id="as it was"),
    pytest.param({"n_kv_head": 2}, id="grouped heads"),
    pytest.param({"n_kv_head": 1}, id="one head for keys and values"),
    pytest.param({"tied": True}, id="tied"),
    pytest.param({"logit_softcap": 0.0}, id="no softcap"),
    pytest.param({"logit_softcap": 30.0, "rotary_base": 100_000.0, "mlp_ratio": 2}, id="other constants"),
    pytest.param({"window_pattern": "SL", "short_window": 1.0}, id="windows that are no shorter than a row"),
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_transformers_gives_the_same_logits(changes: dict[str, Any], tmp_path: Path) -> None:
    ours = classic(**changes)
    huggingface.write(weights_of(ours), tmp_path / "hf")
    theirs, loading = NanoChatForCausalLM.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    assert theirs.dtype == torch.float32
    expected = logits(ours, some_ids())
    assert expected.abs().max() > 1, "noise that says something"
    torch.testing.assert_close(logits(theirs, some_ids()), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("changes", VARIANTS)
def test_what_went_out_comes_back_to_the_last_bit(changes: dict[str, Any], tmp_path: Path) -> None:
    ours = classic(**changes)
    huggingface.write(weights_of(ours), tmp_path / "hf")
    back = source.read(tmp_path / "hf", load_registry())
    assert back.tokenizer.digest == tiny_tokenizer().digest
    assert back.notes == []
    write_model(back, tmp_path / "ours", load_registry())
    loaded = load_checkpoint(tmp_path / "ours", local_runtime(), load_registry()).model
    assert torch.equal(logits(loaded, some_ids()), logits(ours, some_ids()))
    sent, came = ours.state_dict(), loaded.state_dict()
    assert set(came) == set(sent)
    for name, tensor in sent.items():
        assert came[name].shape == tensor.shape
        assert torch.equal(came[name][:300], tensor[:300]), name
    assert not came["wte.weight"][300:].any(), "padding rows, which no id has, stay behind and come back as zeros"
    huggingface.write(back, tmp_path / "again")
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "hf" / name).read_bytes()


def test_a_model_that_transformers_saved_gives_the_same_logits_here(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"vocab_size": 300, "hidden_size": 48, "intermediate_size": 192, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    theirs = NanoChatForCausalLM(NanoChatConfig(**shape, **heads, initializer_range=0.3))
    theirs.save_pretrained(tmp_path / "hf", max_shard_size="50KB")
    assert (tmp_path / "hf/model.safetensors.index.json").is_file(), "several files and an index"
    tiny_tokenizer().save(tmp_path / "tokenizer")
    found = source.read(tmp_path / "hf", load_registry(), tokenizer_file=tmp_path / "tokenizer/tokenizer.json")
    assert found.notes == ["its norms add 1e-06, ours 1.19e-07 in float32: logits differ a little"]
    ours = GPT(found.config)
    ours.load_state_dict(dict(found.tensors))
    torch.testing.assert_close(logits(ours, some_ids()), logits(theirs, some_ids()), atol=1e-4, rtol=0)


def test_rows_of_ids_without_a_token_are_left_out(tmp_path: Path) -> None:
    huggingface.write(weights_of(classic()), tmp_path / "hf")
    tensors = load_file(tmp_path / "hf/model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = torch.cat((tensors[name], torch.ones(84, 48)))
    save_file(tensors, tmp_path / "hf/model.safetensors")
    change(tmp_path / "hf/config.json", vocab_size=384)
    found = source.read(tmp_path / "hf", load_registry())
    assert found.notes == ["left out the rows of 84 ids that have no token"]
    assert found.config.vocab_size == 300
    assert found.tensors["wte.weight"].shape == (320, 48)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"smear": True}, "smear"),
        ({"backout": True}, "backout"),
        ({"value_embeddings": True}, "value_embeddings"),
        ({"residual_lambdas": True}, "residual_lambdas"),
        ({"qk_scale": 1.2}, "qk_scale = 1.2"),
        (
            {"window_pattern": "SSSL", "sequence_len": 512, "short_window": 0.25},
            'window_pattern = "SSSL"',
        ),
    ],
)
def test_what_transformers_cannot_compute_is_refused_by_name(
    changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    with pytest.raises(NanochatError) as refused:
        huggingface.write(weights_of(classic(**changes)), tmp_path / "hf")
    (said,) = refused.value.diagnostics
    assert said.code == "E408"
    assert said.message.endswith(f"what this model uses: {named}")
    assert not (tmp_path / "hf").exists()


def test_the_current_model_names_all_that_stands_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(NanochatError, match="value_embeddings, residual_lambdas, smear, backout, qk_scale"):
        huggingface.write(weights_of(tiny_model()), tmp_path / "hf")


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model_type": "llama"}, "`model_type` = 'llama'"),
        ({"hidden_act": "gelu"}, "`hidden_act` = 'gelu'"),
        ({"attention_bias": True}, "`attention_bias` = True"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "`rope_parameters`"),
        ({"intermediate_size": 100}, "`intermediate_size` = 100"),
        ({"num_hidden_layers": 4}, r"lacks the weight `blocks.3.attn.q.weight` and 5 more"),
        ({"num_hidden_layers": 2}, r"has a weight that its model does not: `blocks.2"),
        ({"num_key_value_heads": 2}, r"`blocks.0.attn.k.weight` of shape \[48, 48\], where its config says \[24, 48\]"),
        ({"hidden_size": None}, "does not describe a NanoChatForCausalLM"),
        ({"vocab_size": 301}, r"`lm_head.weight` of shape \[300, 48\], not \[301, 48\]"),
        ({"rms_norm_eps": None}, "does not describe a NanoChatForCausalLM"),
        ({"rope_parameters": [1]}, "does not describe a NanoChatForCausalLM"),
        ({"num_attention_heads": 5}, "`head_dim`"),
        ({"num_key_value_heads": 3}, "does not fit together: n_head .4. must be a multiple of n_kv_head .3."),
        ({"vocab_size": 290}, r"`lm_head.weight` of shape \[300, 48\], not \[290, 48\]"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_with_what_was_found(
    values: dict[str, Any], said: str, tmp_path: Path
) -> None:
    huggingface.write(weights_of(classic()), tmp_path / "hf")
    change(tmp_path / "hf/config.json", **values)
    with pytest.raises(NanochatError, match=rf"(?s)E409.*{said}"):
        source.read(tmp_path / "hf", load_registry())


def test_a_tokenizer_with_ids_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    huggingface.write(weights_of(classic()), tmp_path / "hf")
    Tokenizer.train([Path(__file__).read_text()], vocab_size=310).save(tmp_path / "larger")
    with pytest.raises(NanochatError, match=r"E409.*300 ids, and its tokenizer, with the nine specials, has 310"):
        source.read(tmp_path / "hf", load_registry(), tokenizer_file=tmp_path / "larger/tokenizer.json")


def test_damaged_and_foreign_files_are_refused_and_a_half_written_folder_is_not_left(tmp_path: Path) -> None:
    huggingface.write(weights_of(classic()), tmp_path / "hf")
    with pytest.raises(NanochatError, match=r"E407.*is there already"):
        huggingface.write(weights_of(classic()), tmp_path / "hf")
    (tmp_path / "hf/model.safetensors").write_bytes(b"no weights")
    with pytest.raises(NanochatError, match=r"E409.*model\.safetensors is no safetensors file, or was cut off"):
        source.read(tmp_path / "hf", load_registry())
    for index in ("{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'):
        (tmp_path / "hf/model.safetensors.index.json").write_text(index)
        with pytest.raises(NanochatError, match=r"E409.*does not describe a NanoChatForCausalLM"):
            source.read(tmp_path / "hf", load_registry())
    (tmp_path / "empty").mkdir()
    with pytest.raises(NanochatError, match=r"E409.*neither config\.json, nor model_NNNNNN\.pt, nor MANIFEST\.json"):
        source.read(tmp_path / "empty", load_registry())
    assert {path.name for path in tmp_path.iterdir()} == {"hf", "empty"}


def test_their_tokenizer_gives_our_ids_for_texts_and_conversations(tmp_path: Path) -> None:
    huggingface.write(weights_of(classic()), tmp_path / "hf")
    ours, theirs = tiny_tokenizer(), AutoTokenizer.from_pretrained(tmp_path / "hf")
    text = "The 49 small birds; é—ü\n\n  sat  \t12345"
    assert theirs(text)["input_ids"] == ours.encode(text)
    assert theirs.decode(ours.encode(text)) == text
    talk = tiny_conversation()["messages"]
    system = {"role": "system", "content": "Be short."}
    for messages in (talk, [system, *talk], [*talk, {"role": "user", "content": " again "}]):
        given = theirs.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
        assert given == render_conversation({"messages": messages}, ours).ids
    asked = [system, talk[0]]
    given = theirs.apply_chat_template(asked, add_generation_prompt=True, tokenize=True, return_dict=True)["input_ids"]
    assert given == render_prompt({"messages": asked}, ours)


def test_a_tokenizer_that_transformers_made_of_tiktokens_comes_in_as_it_was(tmp_path: Path) -> None:
    vocabulary = Tokenizer.train([Path(__file__).read_text()], vocab_size=700).vocabulary
    write_tiktoken(vocabulary, tmp_path / "it.tiktoken")
    made = TikTokenConverter(
        vocab_file=str(tmp_path / "it.tiktoken"),
        pattern=vocabulary.pattern,
        extra_special_tokens=list(vocabulary.specials),
    ).converted()
    merges = json.loads(made.to_str())["model"]["merges"]
    assert len(merges) > len(vocabulary.tokens) - 256, "it lists every way in which a token is two others"
    made.save(str(tmp_path / "tokenizer.json"))
    assert read_huggingface(tmp_path / "tokenizer.json") == vocabulary
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["model"]["merges"].remove(merges[-1])  # no longer every way, nor ours
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(NanochatError, match=r"E307.*merges in another order"):
        read_huggingface(tmp_path / "tokenizer.json")


def test_transformers_generates_what_our_model_says_and_ends_where_ours_does(tmp_path: Path) -> None:
    ours = classic()
    huggingface.write(weights_of(ours), tmp_path / "hf")
    theirs = NanoChatForCausalLM.from_pretrained(tmp_path / "hf")
    assert theirs.generation_config.eos_token_id == tiny_tokenizer().special_id("<|assistant_end|>")
    ids = some_ids()[:1, :7]
    made = theirs.generate(ids, max_new_tokens=12, do_sample=False)[0].tolist()
    expected = ids[0].tolist()
    while len(expected) < 19 and (len(expected) == 7 or expected[-1] != theirs.generation_config.eos_token_id):
        expected.append(int(logits(ours, torch.tensor([expected]))[0, -1].argmax()))
    assert made == expected


def test_an_export_of_ours_can_be_read_as_well(tmp_path: Path) -> None:
    model = tiny_model()
    calculator = {"use": "calculator", "config": {}}
    sent = Weights(
        config=model.config, tensors=model.state_dict(), tokenizer=tiny_tokenizer(), tools=[calculator], step=7
    )
    write_model(sent, tmp_path / "ours", load_registry())
    came = source.read(tmp_path / "ours", load_registry())
    assert (came.config, came.step, came.tools) == (model.config, 7, [calculator])
    assert all(torch.equal(came.tensors[name], tensor) for name, tensor in model.state_dict().items())
    assert came.tokenizer.digest == tiny_tokenizer().digest
