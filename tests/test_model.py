"""The model against a float64 reference written from the equations, and its layout against the module."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nanochat.model.gpt import GPT
from nanochat.model.gpt_config import GPTConfig
from nanochat.model.sizes import flops_per_token, matrix_parameters

SWITCHES = ("value_embeddings", "residual_lambdas", "smear", "backout", "tied")


def tiny(**changes: object) -> GPTConfig:
    settings = {"depth": 3, "dim": 48, "head_dim": 12, "n_head": 4, "n_kv_head": 2, "vocab_size": 300}
    return GPTConfig(**(settings | {"sequence_len": 160, "short_window": 0.1} | changes))  # type: ignore[arg-type]


def randomised(config: GPTConfig) -> GPT:
    """A model whose every parameter matters: what starts at zero gets small random values."""
    torch.manual_seed(0)
    model = GPT(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def rms(x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt()


def reference_logits(model: GPT, ids: list[int]) -> Tensor:
    """One row, one position and one head at a time, in float64."""
    c = model.config
    w = {name: p.detach().double() for name, p in model.named_parameters()}
    T = len(ids)
    embedded = rms(w["wte.weight"][ids])
    x = embedded.clone()
    if c.smear:
        for t in range(1, T):
            gate = torch.sigmoid(w["smear_gate.weight"][0] @ embedded[t, :24])
            x[t] = embedded[t] + w["smear_lambda"] * gate * embedded[t - 1]
    x0, middle = x.clone(), x
    for i, window in enumerate(c.windows()):
        if c.residual_lambdas:
            x = w["resid_lambdas"][i] * x + w["x0_lambdas"][i] * x0
        h = rms(x)
        q = (h @ w[f"blocks.{i}.attn.q.weight"].T).view(T, c.n_head, c.head_dim)
        k = (h @ w[f"blocks.{i}.attn.k.weight"].T).view(T, c.n_kv_head, c.head_dim)
        v = (h @ w[f"blocks.{i}.attn.v.weight"].T).view(T, c.n_kv_head, c.head_dim).clone()
        if c.has_value_embedding(i):
            gates = 3 * torch.sigmoid(h[:, :12] @ w[f"blocks.{i}.attn.value_gate.weight"].T)
            v += gates[..., None] * w[f"value_embeds.{i}.weight"][ids].view_as(v)
        q, k = (rms(turn(y, c.rotary_base)) * c.qk_scale for y in (q, k))
        mixed = torch.zeros(T, c.n_head, c.head_dim, dtype=torch.float64)
        for t in range(T):
            for head in range(c.n_head):
                shared = head // (c.n_head // c.n_kv_head)
                seen = slice(max(0, t - window), t + 1)
                scores = k[seen, shared] @ q[t, head] / math.sqrt(c.head_dim)
                mixed[t, head] = scores.softmax(0) @ v[seen, shared]
        x = x + mixed.reshape(T, -1) @ w[f"blocks.{i}.attn.out.weight"].T
        up = (rms(x) @ w[f"blocks.{i}.mlp.up.weight"].T).clamp(min=0) ** 2
        x = x + up @ w[f"blocks.{i}.mlp.down.weight"].T
        if i == c.depth // 2:
            middle = x
    if c.backout:
        x = x - w["backout_lambda"] * middle
    head_weight = w["wte.weight"] if c.tied else w["head.weight"]
    out = (rms(x) @ head_weight.T)[:, : c.vocab_size]
    return c.logit_softcap * torch.tanh(out / c.logit_softcap) if c.logit_softcap else out


def turn(x: Tensor, base: float) -> Tensor:
    """Rotate pair (i, i + D/2) of position t by −t·base^(−2i/D), as a complex product."""
    T, _, D = x.shape
    pairs = torch.complex(x[..., : D // 2], x[..., D // 2 :])
    angles = torch.tensor([[-t * base ** (-2 * i / D) for i in range(D // 2)] for t in range(T)], dtype=torch.float64)
    turned = pairs * torch.polar(torch.ones_like(angles), angles)[:, None]
    return torch.cat((turned.real, turned.imag), dim=-1)


@pytest.mark.parametrize("off", [*SWITCHES[:4], "nothing", "tied on", "everything", "one kv head a head", "no softcap"])
def test_logits_equal_a_float64_reference_with_each_switch_off(off: str) -> None:
    changes: dict[str, object] = {
        "nothing": {},
        "tied on": {"tied": True},
        "everything": dict.fromkeys(SWITCHES[:4], False) | {"qk_scale": 1.0, "window_pattern": "L"},
        "one kv head a head": {"n_kv_head": 4},
        "no softcap": {"logit_softcap": 0.0},
    }.get(off, {off: False})
    model = randomised(tiny(**changes))
    # Longer than the short window of 128, so that the window's edge is crossed.
    ids = torch.randint(0, 300, (150,), generator=torch.Generator().manual_seed(1)).tolist()
    expected = reference_logits(model, ids)
    found = model(torch.tensor([ids]))[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=2e-4, rtol=1e-4)


@given(
    depth=st.integers(1, 5),
    heads=st.sampled_from([(4, 1), (4, 2), (4, 4)]),
    switches=st.fixed_dictionaries({name: st.booleans() for name in SWITCHES}),
    init=st.sampled_from(["current", "classic"]),
)
@settings(max_examples=25, deadline=None)
def test_the_layout_is_the_modules_own(
    depth: int, heads: tuple[int, int], switches: dict[str, bool], init: str
) -> None:
    config = tiny(depth=depth, n_head=heads[0], n_kv_head=heads[1], init=init, **switches)
    found = {name: tuple(p.shape) for name, p in GPT(config).named_parameters()}
    assert found == config.layout()
    assert list(found) == list(config.layout())


def test_the_last_block_always_sees_the_whole_sequence() -> None:
    assert tiny(depth=5, sequence_len=2048, short_window=0.25, window_pattern="SSSL").windows() == [
        512,
        512,
        512,
        2048,
        2048,
    ]


@pytest.mark.parametrize("cuts", [[0, 150], [0, 1, 20, 149, 150], [0, 135, 150]])
def test_told_of_documents_a_row_gives_the_logits_of_each_document_alone(cuts: list[int]) -> None:
    model = randomised(tiny())
    ids = torch.randint(0, 300, (150,), generator=torch.Generator().manual_seed(1))
    numbers = torch.cat([torch.full((stop - start,), n) for n, (start, stop) in enumerate(pairwise(cuts))])
    alone = torch.cat([reference_logits(model, ids[start:stop].tolist()) for start, stop in pairwise(cuts)])
    logits = model.logits(model.hidden(ids[None], documents=numbers[None]))[0]
    torch.testing.assert_close(logits.double(), alone, atol=2e-4, rtol=1e-4)
    loss = model(ids[None], ids[None], documents=numbers[None])
    torch.testing.assert_close(loss.double(), torch.nn.functional.cross_entropy(alone, ids), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("backout", [True, False])
def test_hidden_states_of_some_places_are_those_of_all(depth: int, backout: bool) -> None:
    model = randomised(tiny(depth=depth, backout=backout))
    ids = torch.randint(0, 300, (3, 40), generator=torch.Generator().manual_seed(1))
    places = torch.tensor([2, 0, 0, 2]), torch.tensor([39, 0, 17, 39])
    torch.testing.assert_close(model.hidden(ids, places=places), model.hidden(ids)[places], atol=1e-5, rtol=1e-5)


def test_a_fresh_current_model_predicts_the_uniform_distribution() -> None:
    config = tiny()
    ids = torch.randint(0, 300, (4, 64))
    assert GPT(config)(ids, ids).item() == pytest.approx(math.log(300), abs=0.02)


@pytest.mark.parametrize("scheme", ["current", "classic"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fresh_model_of_one_matrix_for_embedding_and_head_does_too(scheme: str, dtype: torch.dtype) -> None:
    ids = torch.randint(0, 300, (4, 64))
    model = GPT(tiny(tied=True, init=scheme), dtype)
    others = torch.randint(0, 300, (4, 64))
    assert model(ids, others).item() == pytest.approx(math.log(300), abs=0.05)
    for other in (ids, others):  # its tokens count for as much as those of a model of two matrices
        assert model.hidden(other).float().square().mean().item() == pytest.approx(1.0, abs=0.2)


# REFERENCE: name → (kind, deviation or largest absolute value), of the current and of the classic model, dim 256.
UNIFORM, NORMAL, CONSTANT = "uniform", "normal", "constant"
BOUND = math.sqrt(3) / math.sqrt(256)
INITIAL = {
    "current": {
        "wte.weight": (NORMAL, 0.8),
        "head.weight": (NORMAL, 0.001),
        "blocks.1.attn.q.weight": (UNIFORM, BOUND),
        "blocks.1.attn.k.weight": (UNIFORM, BOUND),
        "blocks.1.attn.v.weight": (UNIFORM, BOUND),
        "blocks.1.attn.out.weight": (CONSTANT, 0.0),
        "blocks.1.attn.value_gate.weight": (UNIFORM, 0.02),
        "blocks.1.mlp.up.weight": (UNIFORM, 0.4 * BOUND),
        "blocks.1.mlp.down.weight": (CONSTANT, 0.0),
        "value_embeds.1.weight": (UNIFORM, BOUND),
        "smear_gate.weight": (UNIFORM, 0.02),
        "smear_lambda": (CONSTANT, 0.0),
        "backout_lambda": (CONSTANT, 0.2),
    },
    "classic": {
        "wte.weight": (NORMAL, 1.0),
        "head.weight": (CONSTANT, 0.0),
        "blocks.1.attn.q.weight": (NORMAL, 1 / 16),
        "blocks.1.attn.k.weight": (NORMAL, 1 / 16 * math.sqrt(128 / 256)),  # two kv heads: half as many rows as columns
        "blocks.1.attn.v.weight": (NORMAL, 1 / 16 * math.sqrt(128 / 256)),
        "blocks.1.attn.out.weight": (CONSTANT, 0.0),
        "blocks.1.mlp.up.weight": (NORMAL, 1 / 16),
        "blocks.1.mlp.down.weight": (CONSTANT, 0.0),
    },
}


@pytest.mark.parametrize("scheme, name", [(scheme, name) for scheme, names in INITIAL.items() for name in names])
def test_weights_begin_as_the_reference_says(scheme: str, name: str) -> None:
    kind, size = INITIAL[scheme][name]
    torch.manual_seed(0)
    config = tiny(depth=2, dim=256, head_dim=64, n_head=4, n_kv_head=2, vocab_size=2048, init=scheme)
    values = dict(GPT(config).named_parameters())[name].detach().double().flatten()
    match kind:
        case "constant":
            torch.testing.assert_close(values, torch.full_like(values, size))
        case "normal":
            deviation = size
            assert values.abs().max() > 3 * size  # of thousands of normal numbers, some are; of uniform ones none
        case _:
            low = 0.0 if "gate" in name else -size
            assert low <= values.min() and values.max() <= size
            deviation = (size - low) / math.sqrt(12)
    if kind != "constant":
        few = values.numel() < 1000
        assert values.std().item() == pytest.approx(deviation, rel=0.4 if few else 0.03)


def test_tables_kept_in_bfloat16_are_rounded_and_nothing_else_is() -> None:
    full, half = randomised(tiny()), GPT(tiny(embedding_dtype="bfloat16"))
    half.load_state_dict(full.state_dict())
    kinds = {name: parameter.dtype for name, parameter in half.named_parameters()}
    assert {name for name, kind in kinds.items() if kind == torch.bfloat16} == {
        "wte.weight",
        "value_embeds.0.weight",
        "value_embeds.2.weight",
    }
    with torch.no_grad():
        for name, parameter in full.named_parameters():
            if kinds[name] == torch.bfloat16:
                parameter.copy_(parameter.bfloat16())
    ids = torch.randint(0, 300, (2, 40))
    assert torch.equal(half(ids), full(ids))
    half(ids, ids).backward()
    assert half.wte.weight.grad is not None and half.wte.weight.grad.dtype == torch.bfloat16


def test_the_learnt_scales_of_the_residual_stream_begin_falling_from_block_to_block() -> None:
    model = GPT(tiny(depth=4))
    torch.testing.assert_close(model.resid_lambdas.detach(), torch.tensor([1.15, 1.15 - 0.1 / 3, 1.05 + 0.1 / 3, 1.05]))
    torch.testing.assert_close(model.x0_lambdas.detach(), torch.tensor([0.20, 0.15, 0.10, 0.05]))


@pytest.mark.slow  # a minute and more of compiling
def test_model_and_loss_compile_into_one_graph_and_give_the_same() -> None:
    shape = {"depth": 1, "sequence_len": 512, "short_window": 0.2}
    plain, compiled = randomised(tiny(**shape)), randomised(tiny(**shape))
    ids = torch.randint(0, 300, (2, 256), generator=torch.Generator().manual_seed(1))
    expected, found = plain(ids, ids), torch.compile(compiled, fullgraph=True)(ids, ids)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    expected.backward()
    found.backward()
    for (name, p), q in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_masked_targets_do_not_count_in_the_loss() -> None:
    model = randomised(tiny())
    ids = torch.randint(0, 300, (2, 32))
    targets = ids.clone()
    targets[:, 10:] = -1
    each = model(ids, targets, reduction="none")
    assert each[:, 10:].abs().max() == 0
    torch.testing.assert_close(model(ids, targets), each[:, :10].mean())
    torch.testing.assert_close(model(ids, targets, reduction="sum"), each.sum())


def test_counts_of_the_d20_and_d24_are_those_of_the_published_models() -> None:
    classic = GPTConfig(
        depth=20, dim=1280, n_head=10, n_kv_head=10, vocab_size=65_536, window_pattern="L", value_embeddings=False,
        residual_lambdas=False, smear=False, backout=False,
    )  # fmt: skip
    # REFERENCE: "all parameters; d20 is 561M".
    assert sum(math.prod(shape) for shape in classic.layout().values()) == 560_988_160
    assert matrix_parameters(classic.layout()) == 12 * 20 * 1280**2 + 65_536 * 1280
    assert flops_per_token(classic) == 6 * (12 * 20 * 1280**2 + 65_536 * 1280) + 20 * 12 * 1280 * 2048
