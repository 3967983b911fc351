"""The transformer: a GPT with rotary positions, QK norm, relu² and the switches of `GPTConfig`.

In: ids (B, T). Out: logits (B, T, V) in float32, or the mean loss where targets are given. Parameters are float32, but
for embedding tables where the config asks for less; activations and matrix products are computed in the runtime's
dtype. Not here: optimization, caching, sampling.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanochat.model.attention import CacheView, rotary_tables
from nanochat.model.attention_backends import Backend, Heads, choose
from nanochat.model.banded import Banded
from nanochat.model.gpt_config import SMEAR_CHANNELS, VALUE_GATE_CHANNELS, GPTConfig
from nanochat.model.head_loss import Head, head_loss, softcapped
from nanochat.model.pointwise import norm, relu_squared, rotate
from nanochat.runtime import Runtime

Places = tuple[Tensor, Tensor]
"""Rows and positions, (N,) int64 each."""


class Linear(nn.Linear):
    """A linear layer without bias whose float32 weight is used in the input's dtype."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__(fan_in, fan_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (…, fan_in) → (…, fan_out)."""
        return F.linear(x, self.weight.to(x.dtype))


class Attention(nn.Module):
    """Grouped-query attention of one block."""

    def __init__(self, config: GPTConfig, layer: int, backend: Backend) -> None:
        super().__init__()
        self.backend = backend
        self.layer, self.window = layer, config.windows()[layer]
        self.head_dim, self.qk_scale = config.head_dim, config.qk_scale
        kv_dim = config.n_kv_head * config.head_dim
        self.q = Linear(config.dim, config.dim)
        self.k = Linear(config.dim, kv_dim)
        self.v = Linear(config.dim, kv_dim)
        self.qkv: nn.Module | None = None
        """One product in place of q's, k's and v's, where inference has merged them."""
        self.widths = (config.dim, kv_dim, kv_dim)
        self.out = Linear(config.dim, config.dim)
        if config.has_value_embedding(layer):
            self.value_gate = Linear(VALUE_GATE_CHANNELS, config.n_kv_head)

    def forward(
        self,
        x: Tensor,
        value_embedding: Tensor | None,
        rotary: tuple[Tensor, Tensor],
        mask: Any,
        cache: CacheView | None,
    ) -> Tensor:
        """x (B, T, C) normed; value_embedding (B, T, Hkv·D); mask: the backend's for this window → (B, T, C)."""
        B, T, _ = x.shape
        together = (self.q(x), self.k(x), self.v(x)) if self.qkv is None else self.qkv(x).split(self.widths, dim=-1)
        q, k, v = (each.view(B, T, -1, self.head_dim) for each in together)  # (B, T, H or Hkv, D)
        if value_embedding is not None:
            gate = 3 * torch.sigmoid(self.value_gate(x[..., :VALUE_GATE_CHANNELS]))  # (B, T, Hkv), in (0, 3)
            v = v + gate.unsqueeze(-1) * value_embedding.view_as(v)
        if cache is None or x.size(1) > 1:
            q, k = norm(rotate(q, *rotary)), norm(rotate(k, *rotary))
        else:  # as one: of few ids, what an operator costs is the call
            q, k = norm(rotate(torch.cat((q, k), dim=2), *rotary)).split((q.size(2), k.size(2)), dim=2)
        # One factor on q stands for one on q and one on k: their product is what attention sees. The cached k stay
        # unscaled, which is the same to the last bit of q·k only up to rounding, and half the work.
        q = q * self.qk_scale**2
        if cache is None:
            y = self.backend.attend(q, k, v, self.window, mask)
        else:
            y = cache.attend(self.layer, q, k, v, self.window)
        projected: Tensor = self.out(y.reshape(B, T, -1))
        return projected


class MLP(nn.Module):
    """Two linears with relu² between them."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.up = Linear(config.dim, config.mlp_ratio * config.dim)
        self.down = Linear(config.mlp_ratio * config.dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) → (B, T, C)."""
        y: Tensor = self.down(relu_squared(self.up(x)))
        return y


class Block(nn.Module):
    """Attention and MLP, each on the normed residual stream."""

    def __init__(self, config: GPTConfig, layer: int, backend: Backend) -> None:
        super().__init__()
        self.attn = Attention(config, layer, backend)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        value_embedding: Tensor | None,
        rotary: tuple[Tensor, Tensor],
        mask: Any,
        cache: CacheView | None,
        places: Places | None = None,
    ) -> Tensor:
        """x (B, T, C) → (B, T, C), or (N, C) where only N places are asked for."""
        x = x + self.attn(norm(x), value_embedding, rotary, mask, cache)
        if places is not None:
            x = x[places]
        x = x + self.mlp(norm(x))
        return x


class GPT(nn.Module):
    """The whole model. Parameter names and shapes are those of `GPTConfig.layout`."""

    rotary_cos: Tensor
    rotary_sin: Tensor

    def __init__(self, config: GPTConfig, dtype: torch.dtype = torch.float32, attention: Backend | None = None) -> None:
        super().__init__()
        self.config, self.dtype = config, dtype
        self.attention: Backend = attention or Banded()
        depth, rows = config.depth, config.padded_vocab_size
        if config.residual_lambdas:
            self.resid_lambdas = nn.Parameter(torch.empty(depth))
            self.x0_lambdas = nn.Parameter(torch.empty(depth))
        if config.smear:
            self.smear_lambda = nn.Parameter(torch.empty(1))
        if config.backout:
            self.backout_lambda = nn.Parameter(torch.empty(1))
        kept = getattr(torch, config.embedding_dtype)
        self.wte = nn.Embedding(rows, config.dim, dtype=kept)
        self.blocks = nn.ModuleList(Block(config, i, self.attention) for i in range(depth))
        self.value_embeds = nn.ModuleDict(
            {
                str(i): nn.Embedding(rows, config.n_kv_head * config.head_dim, dtype=kept)
                for i in range(depth)
                if config.has_value_embedding(i)
            }
        )
        if config.smear:
            self.smear_gate = Linear(SMEAR_CHANNELS, 1)
        if not config.tied:
            self.head = Linear(config.dim, rows)
        cos, sin = rotary_tables(config.rotary_margin * config.sequence_len, config.head_dim, config.rotary_base)
        self.register_buffer("rotary_cos", cos.to(dtype), persistent=False)
        self.register_buffer("rotary_sin", sin.to(dtype), persistent=False)
        self.initialize()

    @torch.no_grad()
    def initialize(self) -> None:
        """Draw every weight, by the recipe's choice of the current or the classic scheme (REFERENCE figures)."""
        current = self.config.init == "current"
        share = torch.linspace(0, 1, self.config.depth)
        for name, weight in self.named_parameters():
            match name.split(".")[-2:]:
                case ["resid_lambdas"]:
                    weight.copy_(1.15 - 0.10 * share)
                case ["x0_lambdas"]:
                    weight.copy_(0.20 - 0.15 * share)
                case ["backout_lambda"]:
                    nn.init.constant_(weight, 0.2)
                case ["smear_lambda"] | ["out" | "down", _]:
                    nn.init.zeros_(weight)
                case ["smear_gate" | "value_gate", _]:
                    nn.init.uniform_(weight, 0.0, 0.02)
                case ["wte", _] if self.config.tied:  # as small as a head's: x is normed, so that it asks for no scale
                    nn.init.normal_(weight, std=0.001)
                case ["wte", _]:
                    nn.init.normal_(weight, std=0.8 if current else 1.0)
                case ["head", _]:
                    nn.init.normal_(weight, std=0.001 if current else 0.0)
                case ["up", _]:
                    _draw(weight, current=current, dim=self.config.dim, scale=0.4)
                case _:  # q, k, v and the value embeddings
                    _draw(weight, current=current, dim=self.config.dim)

    def hidden(
        self,
        ids: Tensor,
        cache: CacheView | None = None,
        documents: Tensor | None = None,
        places: Places | None = None,
    ) -> Tensor:
        """ids (B, T) int64 → the residual stream after the last norm, (B, T, C) in the compute dtype.

        documents (B, T), in training only: numbers of the documents of each row; no token sees another document's.
        places: rows and positions of the N hidden states that are wanted, (N, C) then; the last MLP computes no others.
        """
        config = self.config
        _, T = ids.shape
        if cache is None:
            cos, sin = self.rotary_cos[None, :T], self.rotary_sin[None, :T]
        else:
            cos, sin = self.rotary_cos[cache.positions], self.rotary_sin[cache.positions]
        rotary = (cos.unsqueeze(2), sin.unsqueeze(2))  # (B or 1, T, 1, D/2)
        x = self._embedded(ids)  # (B, T, C)
        if config.smear:
            x = self._smear(x, cache, documents)
        windows = config.windows()
        masks: dict[int, Any] = {}  # the blocks of one window share theirs
        if cache is None:
            masks = {window: self.attention.mask(T, window, ids.device, documents) for window in set(windows)}
        x0, middle, last = x, x, config.depth - 1
        # The learnt scales enter as zero-dimensional float32 tensors: they do not promote x, and are not rounded to its
        # dtype, in which steps of their learning rate would be lost.
        for i, block in enumerate(self.blocks):
            if config.residual_lambdas:
                x = self.resid_lambdas[i] * x + self.x0_lambdas[i] * x0
            value = self.value_embeds[str(i)](ids).to(x.dtype) if config.has_value_embedding(i) else None
            x = block(x, value, rotary, masks.get(windows[i]), cache, places if i == last else None)
            if i == config.depth // 2:
                middle = x
        if config.backout:
            if places is not None and config.depth // 2 != last:
                middle = middle[places]
            x = x - self.backout_lambda[0] * middle
        return norm(x)

    def _embedded(self, ids: Tensor) -> Tensor:
        """Rows of the table, normed in the wider of its dtype and the computation's: bfloat16's ε hides small rows."""
        rows = self.wte(ids)
        return norm(rows.to(torch.promote_types(rows.dtype, self.dtype))).to(self.dtype)

    def _smear(self, x: Tensor, cache: CacheView | None, documents: Tensor | None) -> Tensor:
        """x[t] += λ·σ(W·x[t][:24])·x[t−1]: a pure function of the previous id, so that a cache needs no other state."""
        if cache is None:
            previous = F.pad(x[:, :-1], (0, 0, 1, 0))
            if documents is not None:
                same = F.pad(documents[:, 1:] == documents[:, :-1], (1, 0))  # (B, T)
                previous = previous * same.unsqueeze(-1)
        else:
            known = (cache.previous_ids >= 0).to(x.dtype)[:, None]  # (B, 1)
            first = self._embedded(cache.previous_ids.clamp(min=0)) * known  # (B, C)
            previous = torch.cat((first.unsqueeze(1), x[:, :-1]), dim=1)
        gate = self.smear_lambda[0] * torch.sigmoid(self.smear_gate(x[..., :SMEAR_CHANNELS]))  # (B, T, 1)
        return x + gate * previous

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden (…, C) → (…, V) float32: softcapped, the padding rows of the vocabulary left out."""
        out: Tensor = F.linear(hidden, self.wte.weight.to(hidden.dtype)) if self.config.tied else self.head(hidden)
        return softcapped(out[..., : self.config.vocab_size].float(), self.config.logit_softcap)

    def _head_weight(self) -> Tensor:
        return self.wte.weight if self.config.tied else self.head.weight

    def forward(
        self,
        ids: Tensor,
        targets: Tensor | None = None,
        reduction: str = "mean",
        documents: Tensor | None = None,
    ) -> Tensor:
        """ids (B, T) → logits (B, T, V); with targets (B, T), -1 where there is none, the loss in nats a token.

        reduction: "mean" and "sum" over the targets, or "none" for (B, T) with 0 where there is no target.
        documents: as in `hidden`.
        """
        hidden = self.hidden(ids, documents=documents)
        if targets is None:
            return self.logits(hidden)
        config = self.config
        chunk = config.loss_tokens(ids.device.type)
        head = Head(vocabulary=config.vocab_size, softcap=config.logit_softcap, chunk=chunk)
        loss = head_loss(hidden.flatten(0, 1), self._head_weight(), targets.flatten(), head, reduction=reduction)
        return loss.view_as(targets) if reduction == "none" else loss


def build(config: GPTConfig, runtime: Runtime) -> GPT:
    """A freshly initialised model on the runtime's device. StageError E115 where its attention cannot be had."""
    heads = Heads(query=config.n_head, key=config.n_kv_head, dim=config.head_dim)
    chosen = choose(runtime.attention, heads, runtime.device, runtime.dtype)
    if chosen.reason:
        runtime.note(f"attention is computed by {chosen.backend.name}: {chosen.reason}")
    return GPT(config, runtime.dtype, chosen.backend).to(runtime.device)


def _draw(weight: Tensor, *, current: bool, dim: int, scale: float = 1.0) -> None:
    """Uniform of deviation 1/√dim (current), or N(0, 1/√fan_in · min(1, √(fan_out/fan_in))) (classic)."""
    if current:
        bound = scale * math.sqrt(3) / math.sqrt(dim)
        nn.init.uniform_(weight, -bound, bound)
    else:
        fan_out, fan_in = weight.shape
        nn.init.normal_(weight, std=min(1.0, math.sqrt(fan_out / fan_in)) / math.sqrt(fan_in))
