"""Causal self-attention over a window, with grouped heads, rotary positions and an optional cache.

In: queries, keys, values of one layer. Out: the attended values. Not here: projections and norms, which are
the block's.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class CacheView(Protocol):
    """One forward pass's view of a key-value cache; made by the inference room."""

    positions: Tensor  # (B, T) int64: position of each id in its row
    previous_ids: Tensor  # (B,) int64: the id before ids[:, 0], -1 at a row's start

    def extend(self, layer: int, k: Tensor, v: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
        """Store k, v (B, T, Hkv, D); return all keys and values (B, S, Hkv, D) and a bool mask (B, 1, T, S)."""
        ...


def rotary_tables(positions: int, head_dim: int, base: float) -> tuple[Tensor, Tensor]:
    """cos and sin of θ = position · base^(−2i/head_dim), each (positions, head_dim / 2), float32."""
    frequencies = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = torch.outer(torch.arange(positions, dtype=torch.float64), frequencies)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (x[i], x[i + D/2]) by −θ. x (B, T, H, D); cos, sin broadcast to (B, T, H, D/2)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)


def within_documents(documents: Tensor, window: int) -> Tensor:
    """The mask (B, 1, T, T) of causal attention over a window that stays in one document.

    documents (B, T): a number for each document of a row, the same for all of its tokens.
    """
    same = documents[:, :, None] == documents[:, None, :]  # (B, T, T)
    return (same & _window_mask(documents.size(1), window, documents.device)).unsqueeze(1)


def _window_mask(positions: int, window: int, device: torch.device) -> Tensor:
    """(T, T): whether position t sees s, that is t − window … t."""
    place = torch.arange(positions, device=device)
    distance = place[:, None] - place[None, :]
    return (distance >= 0) & (distance <= window)


def attend(q: Tensor, k: Tensor, v: Tensor, *, window: int, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention. q (B, T, H, D); k, v (B, S, Hkv, D) → (B, T, H, D).

    Without a mask S = T and position t sees t − window … t. With one (B, 1, T, S), True means attend.
    """
    T = q.size(1)
    grouped = q.size(2) != k.size(2)
    causal = mask is None and window >= T
    if mask is None and not causal:
        mask = _window_mask(T, window, q.device)
    y = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        is_causal=causal,
        enable_gqa=grouped,
    )
    return y.transpose(1, 2)
