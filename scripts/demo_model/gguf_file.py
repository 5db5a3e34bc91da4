"""Writes the trained network as a GGUF file of version 2, quantized to Q8_0.

What the engine needs and doesn't say: an `output.weight` of its own (no tied embeddings), a score and a type for
every token, heads in llama's native interleaved order (so nothing is permuted), matrices in rows of 32.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import gguf
from gguf import GGMLQuantizationType, LlamaFileType

from demo_model.network import Network
from demo_model.tokenizer import BEGIN, END, UNKNOWN, Piece

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


def write(path: Path, network: Network, pieces: Sequence[Piece], *, name: str, description: str) -> None:
    """Writes the file at `path`, replacing what was there."""
    writer = gguf.GGUFWriter(str(path), "llama")
    _write_facts(writer, network, name, description)
    _write_vocabulary(writer, pieces)
    for tensor_name, tensor in network.tensors().items():
        array = tensor.detach().float().cpu().numpy()
        if array.ndim == 1:
            writer.add_tensor(tensor_name, array)
        else:
            q8 = GGMLQuantizationType.Q8_0
            writer.add_tensor(tensor_name, gguf.quants.quantize(array, q8), raw_dtype=q8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with path.open("r+b") as file:  # the same layout since version 2, which older engines read as well
        file.seek(4)
        file.write(struct.pack("<I", 2))


def _write_facts(writer: gguf.GGUFWriter, network: Network, name: str, description: str) -> None:
    shape = network.shape
    writer.add_name(name)
    writer.add_description(description)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.groups)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)


def _write_vocabulary(writer: gguf.GGUFWriter, pieces: Sequence[Piece]) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list([piece.text for piece in pieces])
    writer.add_token_scores([piece.score for piece in pieces])
    writer.add_token_types([piece.kind for piece in pieces])
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_chat_template(CHAT_TEMPLATE)
