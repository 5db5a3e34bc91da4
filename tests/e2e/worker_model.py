"""A llama-architecture GGUF with random weights, written in a moment: a real file for a real engine.

Its replies mean nothing, but they are repeatable, they hold every kind of byte, and with enough layers they take long
enough to be interrupted. Its vocabulary can spell the end token from pieces, as TinyLlama's can.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType

PIECES = ["▁", "<", "/", "s", ">", "</", "</s", "▁<", *"abcdefghijklmnopqrtuvwxyz", "|", "\n"]


def write_model(path: Path, *, dim: int = 64, layers: int = 2, context: int = 512, leave_out: str = "") -> Path:
    """Writes the file; `leave_out` names a tensor or a metadata field to omit."""
    rng = np.random.default_rng(1)
    writer = GGUFWriter(str(path), "llama")
    heads = dim // 32
    writer.add_name("random")
    writer.add_context_length(context)
    writer.add_embedding_length(dim)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * dim)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(32)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES]
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
    kinds += [TokenType.BYTE] * 256 + [TokenType.NORMAL] * len(PIECES)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    if leave_out != "scores":
        writer.add_token_scores([0.0] * 259 + [float(len(piece)) for piece in PIECES])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)

    def add(name: str, *shape: int) -> None:
        if name != leave_out:
            ones = len(shape) == 1
            data = np.ones(shape) if ones else rng.normal(0, 0.5, shape)
            writer.add_tensor(name, data.astype(np.float32))

    add("token_embd.weight", len(tokens), dim)
    for layer in range(layers):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{part}.weight", dim, dim)
        add(f"blk.{layer}.ffn_gate.weight", 2 * dim, dim)
        add(f"blk.{layer}.ffn_up.weight", 2 * dim, dim)
        add(f"blk.{layer}.ffn_down.weight", dim, 2 * dim)
        add(f"blk.{layer}.attn_norm.weight", dim)
        add(f"blk.{layer}.ffn_norm.weight", dim)
    add("output_norm.weight", dim)
    add("output.weight", len(tokens), dim)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
