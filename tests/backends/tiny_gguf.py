"""A GGUF file with a real model in it, two layers of random numbers: half a megabyte of gibberish.

Its vocabulary is the 256 bytes and the printable characters; it has a chat template with tools. It
never ends by itself, but where a grammar allows nothing else."""

from pathlib import Path
from typing import Final

import numpy as np
from gguf import GGUFWriter, TokenType

#: Tokens that it was "trained" for.
CONTEXT: Final = 16_384
_SPECIAL: Final = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
_WIDTH: Final = 64
_INNER: Final = 128
_HEADS: Final = 4
_LAYERS: Final = 2
_TEMPLATE: Final = """\
{%- if tools %}<|im_start|>system
Tools: {{ tools | tojson }}<|im_end|>
{% endif %}{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}
{{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson }}{{- '}\n</tool_call>' }}
{%- endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def write_model(path: Path) -> None:
    """The model; the same one each time."""
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_INNER)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_file_type(0)
    _add_vocabulary(writer)
    _add_tensors(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tokens() -> list[tuple[str, TokenType]]:
    tokens = [(name, TokenType.CONTROL) for name in _SPECIAL]
    tokens += [(f"<0x{byte:02X}>", TokenType.BYTE) for byte in range(256)]
    tokens += [(letter, TokenType.NORMAL) for letter in ("▁", *map(chr, range(33, 127)))]
    return tokens


def _add_vocabulary(writer: GGUFWriter) -> None:
    tokens = _tokens()
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text.encode() for text, _ in tokens])
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_add_space_prefix(False)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(4)
    writer.add_chat_template(_TEMPLATE)


def _add_tensors(writer: GGUFWriter) -> None:
    random = np.random.default_rng(7)
    words = len(_tokens())
    shapes = {"token_embd": (words, _WIDTH), "output": (words, _WIDTH), "output_norm": (_WIDTH,)}
    for layer in range(_LAYERS):
        block = f"blk.{layer}"
        shapes |= {f"{block}.{name}_norm": (_WIDTH,) for name in ("attn", "ffn")}
        shapes |= {f"{block}.attn_{name}": (_WIDTH, _WIDTH) for name in ("q", "k", "v", "output")}
        shapes |= {f"{block}.ffn_{name}": (_INNER, _WIDTH) for name in ("gate", "up")}
        shapes[f"{block}.ffn_down"] = (_WIDTH, _INNER)
    for name, shape in shapes.items():
        values = random.normal(0, 0.1, shape) if len(shape) == 2 else np.ones(shape)
        # All that it thinks has one large number, and against that stands its end.
        if name == "token_embd":
            values[:, 0] = 1.0
        if name == "output":
            values[: len(_SPECIAL), 0] = -10.0
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))
