"""A GGUF file with a real model in it, two layers of random numbers: half a megabyte of gibberish.

Its vocabulary is the 256 bytes and the printable characters; it has a chat template with tools. It
never ends by itself, but where a grammar allows nothing else. An eager one begins a call wherever
it may, and ends after it: told that it has to call, it does. Another one says how it makes vectors,
as models do that are made for that."""

from pathlib import Path
from typing import Final

import numpy as np
from gguf import GGUFWriter, PoolingType, TokenType

#: Tokens that it was "trained" for.
CONTEXT: Final = 16_384
_SPECIAL: Final = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
#: Words of an eager one: how its template begins a call, and how it ends it.
_CALL: Final = ("<tool_call>\n", "</tool_call>")
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


def write_model(path: Path, *, eager: bool = False, vectors: bool = False) -> None:
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
    if vectors:
        writer.add_pooling_type(PoolingType.MEAN)
    tokens = _tokens(eager=eager)
    _add_vocabulary(writer, tokens)
    _add_tensors(writer, len(tokens), eager=eager)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tokens(*, eager: bool) -> list[tuple[str, TokenType]]:
    tokens = [(name, TokenType.CONTROL) for name in _SPECIAL]
    tokens += [(f"<0x{byte:02X}>", TokenType.BYTE) for byte in range(256)]
    tokens += [(letter, TokenType.NORMAL) for letter in ("▁", *map(chr, range(33, 127)))]
    if eager:
        tokens += [(text, TokenType.USER_DEFINED) for text in _CALL]
    return tokens


def _add_vocabulary(writer: GGUFWriter, tokens: list[tuple[str, TokenType]]) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text.encode() for text, _ in tokens])
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_add_space_prefix(False)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(4)
    writer.add_chat_template(_TEMPLATE)


def _add_tensors(writer: GGUFWriter, words: int, *, eager: bool) -> None:
    random = np.random.default_rng(7)
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
        if eager and name == "token_embd":
            values[-1, 1] = 5.0
        if eager and name == "output":
            values[-2:, 0] = 10.0, 8.0
            values[_SPECIAL.index("<|im_end|>"), 1] = 10.0
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))
