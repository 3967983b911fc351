"""What a `gpt` costs: parameters, FLOPs a token, and the bytes that a training step holds, by formula.

In: a GPTConfig, or the names and shapes that it gives. Out: plain numbers; no torch, no model is built. What autograd
saves was read off `torch.autograd.graph.saved_tensors_hooks` over `nanochat.model.gpt`, term by term, without
compilation (which saves less); `tests/test_estimate_memory.py` measures real steps and holds the formulas to them.
Not here: the optimizers' state and workspace, which their own configs know.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from nanochat.model.gpt_config import GPTConfig  # whose methods call this module

WEIGHT_BYTES = 4
"""Parameters and their gradients are float32, whatever is computed in; embedding tables where nothing else is asked."""
STATISTIC_BYTES = 4
"""What norms and attention keep for each row and head, a reciprocal root or a log-sum, is float32."""
LOGIT_BYTES = 4
CACHED_LOGITS = 2**18
"""Logits that a CPU turns into gradients at once, 1 MB: of 16, 32, 64 and 512 rows of 8,192, where the second cache has
1 MB, 32 and 64 were the best."""
CPU_BAND = 64
"""Queries of a band of attention on a CPU: of 64, 128 and 256 the best or near it."""
CPU_LONGEST_ROW = 2048
"""Up to here whole rows go by bands as well. Beyond it the attention weights that are kept for the backward pass, which
grow with T², would be too many, and torch's causal kernel computes them again."""

Layout = Mapping[str, tuple[int, ...]]


@attrs.frozen(kw_only=True)
class Moment:
    """What a forward and backward pass holds at one moment beside weights and optimizer state."""

    name: str
    activations: int
    """Bytes: saved for the backward pass, and temporary."""
    logits: int = 0
    """Bytes: the logits that stand at once, the loss's copies and gradients of them, what they are made from."""
    gradients: int
    """Bytes: of this pass."""
    largest_gradient: int = 0
    """Bytes: where gradients are accumulated, what one more needs beside those that are there already."""


@attrs.frozen(kw_only=True)
class Changes:
    """What transforms make of a step."""

    recomputes: Callable[[int], bool]
    """Of a block's number, whether the backward pass computes it again, until when only its input is kept."""
    streams: Callable[[int], int]
    """Of a block's number, the tokens of its MLP whose hidden activations stand at once; 0: all are kept."""
    columns: Callable[[str], int]
    """Of a parameter's name, those of its gradient in factors, (rows + columns, k) numbers; 0: it is dense."""


def parameters(shapes: Layout) -> int:
    """How many numbers the shapes hold."""
    return sum(math.prod(shape) for shape in shapes.values())


def matrix_parameters(layout: Layout) -> int:
    """Parameters in a matrix product for every token: the blocks' and the head's (N of the scaling rules)."""
    blocks = {name: shape for name, shape in layout.items() if name.startswith("blocks.")}
    return parameters(blocks) + math.prod(layout.get("head.weight", layout["wte.weight"]))


def table_bytes(gpt: "GPTConfig") -> int:
    """Bytes of a number in the embedding tables and their gradients."""
    return 2 if gpt.embedding_dtype == "bfloat16" else WEIGHT_BYTES


def weight_bytes(gpt: "GPTConfig") -> int:
    """Bytes of all parameters, and of all their gradients."""
    layout = gpt.layout()
    tables = {name: shape for name, shape in layout.items() if name.startswith(("wte.", "value_embeds."))}
    return WEIGHT_BYTES * (parameters(layout) - parameters(tables)) + table_bytes(gpt) * parameters(tables)


def flops_per_token(gpt: "GPTConfig") -> int:
    """Training FLOPs a token: 6·(matmul parameters) + Σ_layers 12·heads·head_dim·min(window, sequence)."""
    attention = sum(12 * gpt.n_head * gpt.head_dim * window for window in gpt.windows())
    return 6 * matrix_parameters(gpt.layout()) + attention


def decode_bytes(gpt: "GPTConfig", context: int, *, element_bytes: int) -> tuple[int, int]:
    """What is read to decode one more token: weights, once for all rows together, and keys and values of each row.

    context: ids in the row, the new one included. Tokens/s are at most rows · bandwidth / (weights + rows · keys and
    values). Embedding tables are one-row lookups and do not count.
    """
    layout, kv = gpt.layout(), gpt.n_kv_head * gpt.head_dim
    weights = matrix_parameters(layout) + math.prod(layout.get("smear_gate.weight", (0,)))
    positions = sum(min(window + 1, context) for window in gpt.windows())
    return weights * element_bytes, 2 * positions * kv * element_bytes


def rotary_bytes(gpt: "GPTConfig", *, element_bytes: int) -> int:
    """The tables of cosines and sines, half a head wide each."""
    return 2 * gpt.rotary_margin * gpt.sequence_len * (gpt.head_dim // 2) * element_bytes


def moments(gpt: "GPTConfig", rows: int, *, element_bytes: int, device: str, changes: Changes) -> list[Moment]:
    """The moments of a step at which memory may peak: the loss, each block, the embedding.

    rows: of sequence_len tokens, computed at once. Activations go and gradients come from the last block to the first,
    so the peak is at the loss where activations dominate, and at the embedding where weights do.
    """
    recomputes = changes.recomputes
    full, outside = _saved(gpt, rows, element_bytes, device, changes)
    kept = [_input_of_block(gpt, i, rows, element_bytes) if recomputes(i) else saved for i, saved in enumerate(full)]
    again = [saved if recomputes(i) else 0 for i, saved in enumerate(full)]
    return [
        _at_the_loss(gpt, rows, sum(kept) + outside, element_bytes, device),
        *_on_the_way_back(gpt, rows, kept, again, outside, element_bytes, changes),
    ]


def _saved(gpt: "GPTConfig", rows: int, e: int, device: str, changes: Changes) -> tuple[list[int], int]:
    """Bytes that the forward pass leaves for the backward pass: of each block, and outside them, logits apart."""
    counts = _block_parameters(gpt)
    blocks = [_saved_in_block(gpt, i, rows, e, device) + counts[i] * _cast_bytes(e) for i in range(gpt.depth)]
    hidden = _hidden_bytes(gpt, rows * gpt.sequence_len, e)
    blocks = [saved - hidden if changes.streams(i) else saved for i, saved in enumerate(blocks)]
    return blocks, _saved_outside(gpt, rows * gpt.sequence_len, e, device)


def _at_the_loss(gpt: "GPTConfig", rows: int, saved: int, e: int, device: str) -> Moment:
    """When all that the forward pass saves is there, and a chunk of logits is turned into gradients."""
    tokens = rows * gpt.sequence_len
    table = gpt.padded_vocab_size * gpt.dim
    chunk = min(tokens, gpt.loss_tokens(device)) * gpt.vocab_size * LOGIT_BYTES
    return Moment(
        name="loss",
        activations=saved,
        # Beside the logits, the head's input, beside whose gradient it stands, and the head as it is computed with.
        logits=_logit_bytes(gpt, chunk, e, device) + tokens * gpt.dim * e + table * _cast_bytes(e),
        gradients=table * WEIGHT_BYTES,
        largest_gradient=table * WEIGHT_BYTES,
    )


def _logit_bytes(gpt: "GPTConfig", chunk: int, e: int, device: str) -> int:
    """Bytes of a chunk of logits, `chunk` of them in float32, and beside it its softcap, or it in the compute dtype."""
    cached = min(chunk, CACHED_LOGITS * LOGIT_BYTES) if device == "cpu" else chunk
    return chunk + max(cached if gpt.logit_softcap else 0, chunk // LOGIT_BYTES * _cast_bytes(e))


def _on_the_way_back(
    gpt: "GPTConfig",
    rows: int,
    saved: Sequence[int],
    again: Sequence[int],
    outside: int,
    e: int,
    changes: Changes,
) -> list[Moment]:
    """Each block from the last to the first, then the embedding: what was saved goes, gradients come.

    again: what each block saves when it is computed again.
    """
    tokens, d = rows * gpt.sequence_len, gpt.dim
    head, table = gpt.padded_vocab_size * d * WEIGHT_BYTES, gpt.padded_vocab_size * d * table_bytes(gpt)
    left, gradients = sum(saved), 0 if gpt.tied else head
    found = []
    for i, count in reversed(list(enumerate(_block_gradients(gpt, changes)))):
        # The gradient of the residual stream, that of the first embedding; of relu's square, and of what went into
        # relu, which are those of a chunk where the MLP is streamed, beside the weights as they are computed with.
        at_once = min(tokens, changes.streams(i) or tokens)
        passing = tokens * e * 2 * d + (
            _hidden_bytes(gpt, at_once, e) if changes.streams(i) else 2 * gpt.mlp_ratio * d * tokens * e
        )
        own = WEIGHT_BYTES * count + table_bytes(gpt) * _value_embedding(gpt, i)
        gradients += own
        found.append(
            Moment(
                name=f"block {i}",
                activations=left + again[i] + outside + passing,
                gradients=gradients,
                largest_gradient=own,
            )
        )
        left -= saved[i]
    embedding = Moment(
        name="embedding",
        activations=outside + 2 * tokens * d * e,
        gradients=gradients + table,
        largest_gradient=table,
    )
    return [*found, embedding]


def _saved_in_block(gpt: "GPTConfig", block: int, rows: int, e: int, device: str) -> int:
    """Bytes that the forward pass of one block leaves for the backward pass, of `e` a number in the compute dtype."""
    d, kv = gpt.dim, gpt.n_kv_head * gpt.head_dim
    value_embedding = gpt.has_value_embedding(block)
    # Widths of what is saved for each token in the compute dtype:
    wide = d * gpt.residual_lambdas  # the residual stream, multiplied by its learnt scale
    wide += 2 * d  # the normed inputs of q, k, v and of up
    wide += d + 2 * kv  # q, k, v as attention takes them
    wide += d  # attention's output
    wide += 2 * gpt.mlp_ratio * d  # relu and its square
    wide += (kv + 2 * gpt.n_kv_head) * value_embedding  # the value embedding, its gate and the sigmoid of that
    # and what the norms of q and k, after their rotation, and of the residual stream, twice, keep. On a CPU that is
    # what comes out of them; what comes of the residual stream is counted already.
    wide += d + kv + 2 * d * (device != "cpu")
    statistics = (2 + gpt.n_head + gpt.n_kv_head) + gpt.n_head  # of the norms, and of attention's softmax
    token = wide * e + statistics * STATISTIC_BYTES
    weights = _attention_weights(gpt, gpt.windows()[block]) if device == "cpu" else 0
    return rows * (gpt.sequence_len * token + weights * e)


def _attention_weights(gpt: "GPTConfig", window: int) -> int:
    """The weights of one row's attention that a CPU keeps: of every band, those of all keys that it reaches."""
    T = gpt.sequence_len
    if window >= T > CPU_LONGEST_ROW:
        return 0
    bands = ((start, min(T, start + CPU_BAND)) for start in range(0, T, CPU_BAND))
    return gpt.n_head * sum((end - start) * (end - max(0, start - window)) for start, end in bands)


def _input_of_block(gpt: "GPTConfig", block: int, rows: int, e: int) -> int:
    """Bytes that stay of a block that is computed again: the residual stream at its door, and before its scale."""
    kv = gpt.n_kv_head * gpt.head_dim * gpt.has_value_embedding(block)
    return rows * gpt.sequence_len * (gpt.dim * (1 + gpt.residual_lambdas) + kv) * e


def _saved_outside(gpt: "GPTConfig", tokens: int, e: int, device: str) -> int:
    """Bytes that the forward pass leaves outside the blocks, logits apart."""
    d = gpt.dim
    token = 2 * 8  # ids and targets, int64
    first_is_saved = device == "cpu" and (gpt.smear or gpt.residual_lambdas)  # as what comes out of it
    token += d * e * (2 - first_is_saved) + 2 * STATISTIC_BYTES  # of the norms, at both ends
    token += d * e  # the gradient of the head's input
    token += (2 * d + 2) * e * gpt.smear  # the normed embedding, the one before it, the gate and its sigmoid
    middle_is_saved = gpt.residual_lambdas and gpt.depth // 2 < gpt.depth - 1  # as the input of the block after it
    token += d * e * (gpt.backout and not middle_is_saved)
    return tokens * token


def _cast_bytes(element_bytes: int) -> int:
    """A weight that is not computed with as it is stands beside itself in the compute dtype."""
    return element_bytes if element_bytes != WEIGHT_BYTES else 0


def _hidden_bytes(gpt: "GPTConfig", tokens: int, e: int) -> int:
    """What an MLP keeps of so many tokens but its input: relu, its square, its weights where they are cast."""
    return 2 * gpt.mlp_ratio * gpt.dim * (tokens * e + gpt.dim * _cast_bytes(e))


def _block_gradients(gpt: "GPTConfig", changes: Changes) -> list[int]:
    """The numbers in the gradients of each block's parameters."""
    found = _block_parameters(gpt)
    for name, shape in gpt.layout().items():
        if columns := changes.columns(name):
            found[int(name.split(".")[1])] += columns * sum(shape) - math.prod(shape)
    return found


def _block_parameters(gpt: "GPTConfig") -> list[int]:
    """The parameters of each block; blocks with a value embedding have its gate as well."""
    found = [0] * gpt.depth
    for name, shape in gpt.layout().items():
        if name.startswith("blocks."):
            found[int(name.split(".")[1])] += math.prod(shape)
    return found


def _value_embedding(gpt: "GPTConfig", block: int) -> int:
    """The parameters of a block's value embedding, if it has one."""
    return gpt.padded_vocab_size * gpt.n_kv_head * gpt.head_dim * gpt.has_value_embedding(block)
