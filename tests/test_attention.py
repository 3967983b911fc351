"""Every way to compute attention that this machine has against a float64 reference written position by position."""

import math
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nanochat.errors import StageError
from nanochat.inference.kv import KVCache
from nanochat.model.attention import attend
from nanochat.model.attention_backends import Backend, Dense, Flex, Heads, choose, disagreement, made
from nanochat.model.banded import CPU_BAND, Banded
from nanochat.model.gpt import GPT
from nanochat.testing.tiny import tiny_model

CPU = torch.device("cpu")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""bfloat16 keeps 8 bits: values about 1 are rounded by up to 4e-3, once as weights and once as results."""
SHAPES = st.fixed_dictionaries(
    {
        "positions": st.integers(1, 210),
        "window": st.sampled_from([0, 1, 7, 63, 64, 65, 100, 128, 500]),
        "heads": st.sampled_from([(1, 1), (4, 4), (4, 2), (4, 1)]),
        "documents": st.one_of(st.none(), st.lists(st.integers(1, 209), max_size=6)),
        "dtype": st.sampled_from([torch.float32, torch.bfloat16]),
    }
)


class BandedByKernel(Banded):
    """On a CPU what Banded is on every other device."""

    name = "banded by torch's kernel"

    def by_hand(self, device: torch.device) -> bool:
        return False


def present() -> list[Backend]:
    """The backends of this machine that have gradients."""
    found: list[Backend] = [Dense(), Banded(), BandedByKernel()]
    for name in ("flex", "flash3", "flash4") if DEVICE.type == "cuda" else ():
        try:
            backend = made(name, DEVICE)
            if not disagreement(backend, Heads(4, 2, 64), DEVICE, torch.bfloat16):
                found.append(backend)
        except Exception as fault:
            print(f"without {name}: {fault}")
    return found


BACKENDS = present()


def reference(q: Tensor, k: Tensor, v: Tensor, window: int, documents: Tensor | None) -> Tensor:
    """In float64, for each row, head and position alone, over the keys that it may see."""
    q, k, v = q.double(), k.double(), v.double()
    B, T, H, D = q.shape
    groups = H // k.size(2)
    rows = []
    for b in range(B):
        for t in range(T):
            seen = [
                s for s in range(max(0, t - window), t + 1) if documents is None or documents[b, s] == documents[b, t]
            ]
            for h in range(H):
                weights = (k[b, seen, h // groups] @ q[b, t, h] / math.sqrt(D)).softmax(0)
                rows.append(weights @ v[b, seen, h // groups])
    return torch.stack(rows).view(B, T, H, D)


def drawn(shape: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """q, k, v and the documents of two rows, cut at different places."""
    torch.manual_seed(0)
    T, (H, Hkv) = shape["positions"], shape["heads"]
    q, k, v = (torch.randn(2, T, h, 16).to(shape["dtype"]) for h in (H, Hkv, Hkv))
    if shape["documents"] is None:
        return q, k, v, None
    starts = torch.zeros(2, T, dtype=torch.long)
    for n, place in enumerate(shape["documents"]):
        if place < T:
            starts[n % 2, place] = 1
    return q, k, v, starts.cumsum(1)


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
@given(shape=SHAPES)
@settings(max_examples=25, deadline=None)
def test_every_backend_gives_the_references_values_for_any_length_window_grouping_and_documents(
    backend: Backend, shape: dict[str, Any]
) -> None:
    q, k, v, documents = drawn(shape)
    expected = reference(q, k, v, shape["window"], documents)
    on_device = None if documents is None else documents.to(DEVICE)
    mask = backend.mask(shape["positions"], shape["window"], DEVICE, on_device)
    found = backend.attend(q.to(DEVICE), k.to(DEVICE), v.to(DEVICE), shape["window"], mask)
    assert (found.shape, found.dtype) == (q.shape, q.dtype)
    torch.testing.assert_close(found.cpu().double(), expected, atol=TOLERANCE[q.dtype], rtol=TOLERANCE[q.dtype])


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
@pytest.mark.parametrize("window, cuts", [(64, None), (70, None), (70, [30, 100]), (500, None), (500, [30, 100])])
def test_every_backend_gives_the_references_gradients(backend: Backend, window: int, cuts: list[int] | None) -> None:
    q, k, v, documents = drawn({"positions": 150, "heads": (4, 2), "documents": cuts, "dtype": torch.float32})
    upstream = torch.randn(q.shape)
    exact = [x.double().requires_grad_() for x in (q, k, v)]
    expected = torch.autograd.grad(reference(*exact, window, documents), exact, upstream.double())
    given = [x.to(DEVICE).requires_grad_() for x in (q, k, v)]
    mask = backend.mask(150, window, DEVICE, None if documents is None else documents.to(DEVICE))
    found = torch.autograd.grad(backend.attend(*given, window, mask), given, upstream.to(DEVICE))
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x.cpu().double(), y, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")  # which on a CPU is meant
@pytest.mark.parametrize(
    "positions, window, heads, cuts",
    [
        (1, 0, (4, 4), None),
        (31, 5, (4, 1), [0, 1, 30]),
        (127, 64, (4, 1), None),
        (128, 127, (1, 1), None),
        (129, 128, (4, 2), [64, 128]),
        (150, 0, (4, 2), None),
        (150, 70, (4, 2), [30, 100]),
        (150, 500, (4, 2), None),
        (150, 500, (4, 2), [30, 100]),
        (257, 129, (2, 1), [128, 200, 256]),
    ],
)
def test_flex_attention_masks_as_the_reference_does(
    positions: int, window: int, heads: tuple[int, int], cuts: list[int] | None
) -> None:
    q, k, v, documents = drawn({"positions": positions, "heads": heads, "documents": cuts, "dtype": torch.float32})
    flex = Flex(CPU)
    with torch.no_grad():
        found = flex.attend(q, k, v, window, flex.mask(positions, window, CPU, documents))
    torch.testing.assert_close(found.double(), reference(q, k, v, window, documents), atol=1e-5, rtol=1e-5)


def test_flex_attention_is_refused_on_a_cpu_for_it_has_no_gradients_there() -> None:
    with pytest.raises(StageError, match=r"E115.*FlexAttention does not support backward on CPU"):
        choose("flex", Heads(4, 2, 32), CPU, torch.float32)


@pytest.mark.parametrize("window", [0, 5, 64, 100, 200])
@pytest.mark.parametrize("heads", [(4, 4), (4, 1)])
@pytest.mark.parametrize("slots", [[3, 4], [1, 3], [0, 8]], ids=["side by side", "with one between", "far apart"])
def test_through_a_cache_fed_in_parts_the_values_are_the_references(
    window: int, heads: tuple[int, int], slots: list[int]
) -> None:
    q, k, v, _ = drawn({"positions": 131, "heads": heads, "documents": None, "dtype": torch.float32})
    expected = reference(q, k, v, window, None)
    shape = SimpleNamespace(depth=1, n_kv_head=heads[1], head_dim=16)
    model = cast(GPT, SimpleNamespace(config=shape, dtype=torch.float32))
    cache, done = KVCache(model, slots=9, positions=131, device=CPU), 0
    for held in (*cache.k, *cache.v):
        held.normal_()  # what others have left
    for count in (1, 66, 1, 1, 62):
        part = slice(done, done + count)
        view = cache.view(slots, [done, done], [-1, -1], count)
        found = view.attend(0, q[:, part], k[:, part], v[:, part], window)
        torch.testing.assert_close(found.double(), expected[:, part], atol=1e-5, rtol=1e-5)
        done += count
    assert done == 131


@pytest.mark.parametrize("backend", [Dense(), Banded(), BandedByKernel()], ids=lambda backend: backend.name)
def test_a_window_of_w_means_w_previous_keys_and_the_token_itself(backend: Backend) -> None:
    T, window = 200, 65
    values = torch.eye(T).view(1, T, 1, T)
    flat = torch.zeros(1, T, 1, T)
    seen = backend.attend(flat, flat, values, window, backend.mask(T, window, CPU, None))[0, :, 0] > 0
    assert seen.tolist() == [[t - window <= s <= t for s in range(T)] for t in range(T)]


def test_the_masks_of_bands_grow_with_the_window_and_not_with_the_square_of_the_row() -> None:
    T, window = 65_536, 128  # a dense mask would take 4 GiB a row
    documents = (torch.arange(T) // 300).unsqueeze(0)
    near, told = Banded().mask(T, window, CPU, documents)
    assert near.shape == (CPU_BAND, window + CPU_BAND)
    assert told is documents
    x = torch.randn(1, T, 1, 8)
    found = Banded().attend(x, x, x, window, (near, told))
    place = 300 * 50 + 7  # 7 before it in its document
    expected = reference(x[:, place - 7 : place + 1], x[:, place - 7 : place + 1], x[:, place - 7 : place + 1], 7, None)
    torch.testing.assert_close(found[:, place].double(), expected[:, -1], atol=1e-5, rtol=1e-5)


def test_a_model_computes_the_same_whatever_its_attention() -> None:
    shape = {"sequence_len": 400, "short_window": 0.3, "n_kv_head": 1, "depth": 3}
    ids = torch.randint(300, (2, 331), generator=torch.Generator().manual_seed(1))
    documents = (torch.arange(331) // 100).expand(2, -1)
    banded = tiny_model(**shape)
    dense = GPT(banded.config, attention=Dense())
    dense.load_state_dict(banded.state_dict())
    assert banded.config.windows() == [128, 128, 400]
    for told in (None, documents):
        one, other = banded(ids, ids, documents=told), dense(ids, ids, documents=told)
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


# The trial of a kernel that somebody installed


def installed(monkeypatch: pytest.MonkeyPatch, kernel: Any) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn_interface", cast(Any, SimpleNamespace(flash_attn_func=kernel)))


def right(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, window_size: tuple[int, int] = (-1, -1)) -> Any:
    """FlashAttention 3 as its documentation has it: left and right neighbours, −1 without end; the log-sums beside."""
    assert causal
    left = window_size[0] if window_size[0] >= 0 else q.size(1)
    return attend(q, k, v, Dense().mask(q.size(1), left, q.device, None)), None


def test_an_installed_kernel_that_agrees_with_float64_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, right)
    assert choose("flash3", Heads(4, 2, 32), CPU, torch.float32).backend.name == "flash3"


@pytest.mark.parametrize(
    "kernel, said",
    [
        (lambda q, k, v, **_: right(q, k, v, causal=True), "its output is off by"),
        (lambda q, k, v, causal, window_size=(-1, -1): right(q, k, v.detach(), causal=causal, window_size=window_size),
         "RuntimeError: The differentiated Tensor"),
        (lambda *_, **__: 1 / 0, "ZeroDivisionError"),
        (lambda q, k, v: q, "TypeError"),
    ],
    ids=["deaf to windows", "without a gradient", "raises", "another signature"],
)  # fmt: skip
def test_an_installed_kernel_that_does_not_work_is_refused_with_what_it_did(
    monkeypatch: pytest.MonkeyPatch, kernel: Any, said: str
) -> None:
    installed(monkeypatch, kernel)
    with pytest.raises(StageError, match=said) as caught:
        choose("flash3", Heads(4, 2, 32), CPU, torch.float32)
    assert 'attention = "flash3" does not work here' in caught.value.diagnostics[0].message
    assert 'set attention = "auto"' in caught.value.diagnostics[0].help


def test_a_kernel_that_is_not_installed_is_refused_by_its_modules_name() -> None:
    with pytest.raises(StageError, match="No module named 'flash_attn'"):
        choose("flash4", Heads(4, 2, 32), CPU, torch.float32)


def test_on_a_cpu_the_choice_is_bands_without_a_trial() -> None:
    chosen = choose("auto", Heads(4, 2, 32), CPU, torch.float32)
    assert (chosen.backend.name, chosen.reason) == ("banded", "")
