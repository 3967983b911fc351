"""Configuration of `gpt`: every switch of the current model, and what follows from it without building it.

In: a recipe's [stages.X.model]. Out: parameter names and shapes, window sizes, the rules that fill dim and heads.
Imports no torch. The current model is the default; the classic one (2025-10) is the same class with the switches off.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from nanochat.config import Derivation, Problem, config, option
from nanochat.model import sizes


@config
class GPTConfig:
    """The transformer of nanochat. `depth` is all that must be said: width, heads and vocabulary follow from it; the
    other switches are there to be ablated, each alone.
    """

    BEFORE: ClassVar[Mapping[str, Any]] = {
        "vocab_multiple": 1,
        "rotary_base": 10_000.0,
        "qk_scale": 1.0,
        "window_pattern": "L",
        "short_window": 0.5,
        "value_embeddings": False,
        "residual_lambdas": False,
        "smear": False,
        "backout": False,
        "init": "classic",
    }
    """What a checkpoint that does not record the option was made with: the classic model, into which each came later.
    The options that are not here always had today's default, or must be recorded."""

    depth: int = option(minimum=1, maximum=1024, doc="transformer blocks")
    aspect_ratio: int = option(
        64, minimum=1, maximum=2**16, doc="width per block: dim = aspect_ratio × depth, rounded up"
    )
    head_dim: int = option(128, minimum=2, maximum=2**14, doc="width of an attention head; even, for the rotation")
    dim: int = option(derive="gpt.dim", minimum=2, maximum=2**20, doc="width of the residual stream")
    n_head: int = option(derive="gpt.n_head", minimum=1, maximum=2**16, doc="query heads")
    n_kv_head: int = option(
        derive="gpt.n_kv_head", minimum=1, maximum=2**16, doc="key and value heads; fewer than n_head is GQA"
    )
    sequence_len: int = option(2048, minimum=8, maximum=2**24, doc="tokens in a training row")
    vocab_size: int = option(derive="gpt.vocab_size", minimum=265, maximum=2**24, doc="ids, specials included")
    vocab_multiple: int = option(
        64, minimum=1, maximum=2**20, doc="embedding tables are padded to a multiple of this; logits are not"
    )
    mlp_ratio: int = option(4, minimum=1, maximum=1024, doc="hidden width of the MLP over dim")
    rotary_base: float = option(
        100_000.0, minimum=1.0, maximum=1e15, doc="pair i of a head turns by base^(−2i/head_dim) a position"
    )
    rotary_margin: int = option(
        10, minimum=1, maximum=10_000, execution=True, doc="positions prepared, over sequence_len"
    )
    qk_scale: float = option(
        1.2, minimum=0.01, maximum=100.0, doc="factor on q and on k after their norm; 1 switches it off"
    )
    logit_softcap: float = option(
        15.0, minimum=0.0, maximum=1e6, doc="logits = cap·tanh(logits/cap); 0 switches it off"
    )
    loss_chunk: int = option(
        0,
        minimum=0,
        maximum=2**30,
        execution=True,
        doc="tokens whose logits stand in memory at once in training; 0: as many as suit the device",
    )
    window_pattern: str = option("SSSL", doc="S short, L long, tiled over the blocks; the last is always L")
    short_window: float = option(0.25, minimum=0.0, maximum=1.0, doc="S as a share of sequence_len, up to 128s")
    embedding_dtype: str = option(
        "float32",
        choices=("float32", "bfloat16"),
        doc="of the embedding tables; bfloat16 halves them and their gradients, and AdamW's state of them",
    )
    tied: bool = option(False, doc="one matrix for embedding and head")
    value_embeddings: bool = option(True, doc="token embeddings added to the values of every second block")
    residual_lambdas: bool = option(True, doc="learnt scales of the residual stream and of the first embedding")
    smear: bool = option(True, doc="a learnt share of the previous token's embedding")
    backout: bool = option(True, doc="subtract a learnt share of the middle block's output before the head")
    init: str = option("current", choices=("current", "classic"), doc="initialisation of the weights")

    def problems(self) -> list[Problem]:
        """What does not fit together, each as a sentence that says how to mend it."""
        found: list[Problem] = []
        if self.n_head * self.head_dim != self.dim:
            product = f"{self.n_head} × {self.head_dim} = {self.n_head * self.head_dim}"
            found.append(
                ("dim n_head head_dim", f"n_head × head_dim is {product}, but dim is {self.dim}: make them equal")
            )
        if self.n_head % self.n_kv_head:
            found.append(
                ("n_kv_head n_head", f"n_head ({self.n_head}) must be a multiple of n_kv_head ({self.n_kv_head})")
            )
        if self.head_dim % 2:
            found.append(("head_dim", f"head_dim ({self.head_dim}) must be even: rotary embeddings turn pairs"))
        if 0 < self.logit_softcap < 1:
            message = f"logit_softcap ({self.logit_softcap:g}) must be 0 (off) or at least 1: no word would be likely"
            found.append(("logit_softcap", message))
        if self.tied and self.embedding_dtype != "float32":
            message = (
                f'embedding_dtype "{self.embedding_dtype}" would round the head, which is tied to it: leave one out'
            )
            found.append(("embedding_dtype tied", message))
        if not self.window_pattern or set(self.window_pattern) - set("SL"):
            found.append(("window_pattern", f"window_pattern {self.window_pattern!r} may hold only S and L"))
        if (self.smear and self.dim < SMEAR_CHANNELS) or (self.value_embeddings and self.dim < VALUE_GATE_CHANNELS):
            message = f"dim {self.dim} is too small for the smear's and value embeddings' gates: at least 24"
            found.append(("dim depth aspect_ratio", message))
        return found

    def tag(self) -> str:
        """What checkpoints of this shape are called."""
        return f"d{self.depth}_w{self.dim}_h{self.n_head}"

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding tables."""
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple

    def windows(self) -> list[int]:
        """Per block, how many previous tokens a position sees beside itself."""
        short = math.ceil(self.short_window * self.sequence_len / 128) * 128
        kinds = [self.window_pattern[i % len(self.window_pattern)] for i in range(self.depth)]
        kinds[-1] = "L"
        return [min(short, self.sequence_len) if kind == "S" else self.sequence_len for kind in kinds]

    def has_value_embedding(self, block: int) -> bool:
        """Every second block, the last included."""
        return self.value_embeddings and block % 2 == (self.depth - 1) % 2

    def layout(self) -> dict[str, tuple[int, ...]]:
        """Every parameter's name and shape, in the order of the module's own."""
        d, kv, hidden = self.dim, self.n_kv_head * self.head_dim, self.mlp_ratio * self.dim
        shapes: dict[str, tuple[int, ...]] = {}
        if self.residual_lambdas:
            shapes |= {"resid_lambdas": (self.depth,), "x0_lambdas": (self.depth,)}
        if self.smear:
            shapes["smear_lambda"] = (1,)
        if self.backout:
            shapes["backout_lambda"] = (1,)
        shapes["wte.weight"] = (self.padded_vocab_size, d)
        for i in range(self.depth):
            shapes[f"blocks.{i}.attn.q.weight"] = (d, d)
            shapes[f"blocks.{i}.attn.k.weight"] = (kv, d)
            shapes[f"blocks.{i}.attn.v.weight"] = (kv, d)
            shapes[f"blocks.{i}.attn.out.weight"] = (d, d)
            if self.has_value_embedding(i):
                shapes[f"blocks.{i}.attn.value_gate.weight"] = (self.n_kv_head, VALUE_GATE_CHANNELS)
            shapes[f"blocks.{i}.mlp.up.weight"] = (hidden, d)
            shapes[f"blocks.{i}.mlp.down.weight"] = (d, hidden)
        for i in range(self.depth):
            if self.has_value_embedding(i):
                shapes[f"value_embeds.{i}.weight"] = (self.padded_vocab_size, kv)
        if self.smear:
            shapes["smear_gate.weight"] = (1, SMEAR_CHANNELS)
        if not self.tied:
            shapes["head.weight"] = (self.padded_vocab_size, d)
        return shapes

    def weight_bytes(self) -> int:
        """All parameters."""
        return sizes.weight_bytes(self)

    def flops_per_token(self) -> int:
        """Training FLOPs a token, forward and backward."""
        return sizes.flops_per_token(self)

    def moments(
        self,
        rows: int,
        *,
        element_bytes: int,
        device: str,
        recomputes: Callable[[int], bool] = lambda _: False,
        streams: Callable[[int], int] = lambda _: 0,
        columns: Callable[[str], int] = lambda _: 0,
    ) -> Sequence[sizes.Moment]:
        """The moments of a training step at which memory may peak."""
        changes = sizes.Changes(recomputes=recomputes, streams=streams, columns=columns)
        return sizes.moments(self, rows, element_bytes=element_bytes, device=device, changes=changes)

    def loss_tokens(self, device: str) -> int:
        """Tokens whose logits stand at once on a kind of device, where nothing else is said.

        A CPU's caches hold a few hundred; a GPU's matrix units want thousands.
        """
        return self.loss_chunk or (512 if device == "cpu" else 4096)

    def decode_bytes(self, context: int, *, element_bytes: int) -> tuple[int, int]:
        """What one more token reads: weights, and of each row keys and values."""
        return sizes.decode_bytes(self, context, element_bytes=element_bytes)

    def buffer_bytes(self, *, element_bytes: int) -> int:
        """What the model keeps beside its parameters: the rotary tables."""
        return sizes.rotary_bytes(self, element_bytes=element_bytes)


SMEAR_CHANNELS = 24
VALUE_GATE_CHANNELS = 12


def _dim(depth: int, aspect_ratio: int, head_dim: int) -> int:
    return -(-depth * aspect_ratio // head_dim) * head_dim


def _upstream_vocab(vocab_size: int) -> int:
    return vocab_size


DIM = Derivation(
    inputs={"depth": "depth", "aspect_ratio": "aspect_ratio", "head_dim": "head_dim"},
    compute=_dim,
    sentence="aspect_ratio × depth, rounded up to a multiple of head_dim",
)
N_HEAD = Derivation(
    inputs={"dim": "dim", "head_dim": "head_dim"},
    compute=lambda dim, head_dim: max(1, dim // head_dim),
    sentence="dim / head_dim",
)
N_KV_HEAD = Derivation(
    inputs={"n_head": "n_head"}, compute=lambda n_head: n_head, sentence="as many as query heads: no grouping"
)
VOCAB_SIZE = Derivation(
    inputs={"vocab_size": "stage.tokenizer.vocab_size"},
    compute=_upstream_vocab,
    sentence="the tokenizer's vocabulary",
)
