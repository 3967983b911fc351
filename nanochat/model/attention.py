"""What attention is: causal over a window, with grouped heads, rotary positions and an optional cache.

In: queries, keys, values of one layer. Out: the attended values, by torch's own kernels and a mask. Not here: ways that
need no mask of all positions, which are `attention_backends`; projections and norms, which are the block's.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class CacheView(Protocol):
    """One forward pass's view of a key-value cache; made by the inference room."""

    positions: Tensor  # (B, T) int64: position of each id in its row
    previous_ids: Tensor  # (B,) int64: the id before ids[:, 0], -1 at a row's start

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
        """Store k, v (B, T, Hkv, D); `attend` of q (B, T, H, D) to all that the window reaches, (B, T, H, D)."""
        ...


def rotary_tables(positions: int, head_dim: int, base: float) -> tuple[Tensor, Tensor]:
    """cos and sin of θ = position · base^(−2i/head_dim), each (positions, head_dim / 2), float32."""
    frequencies = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = torch.outer(torch.arange(positions, dtype=torch.float64), frequencies)
    return angles.cos().float(), angles.sin().float()


def visible(positions: int, window: int, device: torch.device, documents: Tensor | None = None) -> Tensor:
    """The mask of causal attention over a window, True where position t sees s, that is t − window … t.

    (T, T); with documents (B, T), a number for each document of a row, (B, 1, T, T): no token sees another document's.
    """
    place = torch.arange(positions, device=device)
    distance = place[:, None] - place[None, :]
    near = (distance >= 0) & (distance <= window)
    if documents is None:
        return near
    return (near & (documents[:, :, None] == documents[:, None, :])).unsqueeze(1)


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """A bool mask as what is added to scores: 0 where it is True, else −∞. Attention makes it so in each layer else."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention. q (B, T, H, D); k, v (B, S, Hkv, D) → (B, T, H, D).

    mask: True means attend, or a number is added to the score; it broadcasts to (B, H, T, S). Without one S = T and
    every position sees all before it, or T = 1 and it sees all.
    """
    y = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        is_causal=mask is None and q.size(1) > 1,
        enable_gqa=q.size(2) != k.size(2),
    )
    return y.transpose(1, 2)
