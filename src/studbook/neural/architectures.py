"""OPT, GPT-2, BLOOM and Llama as transformers stores them, to and from the generic decoder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from studbook.errors import CheckpointError
from studbook.neural.decoder import Activation, Decoder, DecoderConfig

_ACTIVATIONS: Mapping[str, Activation] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}
# What some files hold beside the weights: causal masks and tables that follow from the config.
_NO_WEIGHTS = re.compile(r"(?:^|\.)(?:attn|attention|self_attention)\.(?:bias|masked_bias)$|rotary_emb\.inv_freq$")


@dataclass(frozen=True, slots=True)
class Architecture:
    """Where transformers keeps the parts of a decoder.

    Attributes:
        prefix: Before every name but the head's; some files leave its first part out.
        layers: Name of the list of blocks.
        top: Our modules outside the blocks, and theirs.
        layer: Our modules of a block, and theirs, whose rows follow each other in ours.
        transposed: Matrices of the blocks are stored ``(in, out)``.
        interleaved: Rows of ``qkv`` go head by head: its query, its key, its value.
        decoder: The decoder for one of their configs and a number of predicted tokens; ``None`` where it can't be expressed.
    """

    prefix: str
    layers: str
    top: Mapping[str, str]
    layer: Mapping[str, tuple[str, ...]]
    decoder: Callable[[Any, int], DecoderConfig | None]
    transposed: bool = False
    interleaved: bool = False


def decoder_config(config: Any, vocabulary: int, dropout: float = 0.0) -> DecoderConfig | None:
    """The generic decoder that computes what transformers' model of this config computes, or ``None`` if none does.

    Args:
        config: Of transformers.
        vocabulary: Tokens that can be predicted; the rest of the model's can only be read.
        dropout: See ``DecoderConfig``.
    """
    architecture = ARCHITECTURES.get(str(config.model_type))
    found = architecture.decoder(config, vocabulary) if architecture else None
    return found.with_dropout(dropout) if found else None


def to_decoder(tensors: Mapping[str, Tensor], config: Any, decoder: DecoderConfig, where: str) -> dict[str, Tensor]:
    """Weights in transformers' names as weights of the generic decoder, in fp32 (fp64 stays).

    Raises:
        CheckpointError: A tensor is missing, too many, or of another shape; the message names it.
    """
    architecture = ARCHITECTURES[str(config.model_type)]
    theirs = _normalised(tensors, architecture)
    ours: dict[str, Tensor] = {}
    used: set[str] = set()
    for name, wanted in _shapes(decoder).items():
        names = _their_names(name, architecture)
        for source in names:
            if source not in theirs:
                message = f"{where} is of another architecture: it lacks {source!r} of a {config.model_type}"
                raise CheckpointError(message, hint="config.json and the weights don't belong together")
        used.update(names)
        ours[name] = _checked(_read(name, [theirs[source] for source in names], architecture, decoder), wanted, names[0], where)
    surplus = sorted(set(theirs) - used - {"lm_head.weight"})
    if surplus:
        message = f"{where} is of another architecture: it holds {surplus[0]!r}, which a {config.model_type} doesn't have"
        raise CheckpointError(message, hint="config.json and the weights don't belong together")
    return ours


def from_decoder(ours: Mapping[str, Tensor], config: Any, decoder: DecoderConfig, rest: Tensor | None = None) -> dict[str, Tensor]:
    """The generic decoder's weights in transformers' names.

    Args:
        ours: The decoder's state.
        config: Of transformers.
        decoder: The decoder's config.
        rest: Rows of an untied head for the tokens that aren't predicted, ``(special, width)``; zeros where there are none.
    """
    architecture = ARCHITECTURES[str(config.model_type)]
    theirs: dict[str, Tensor] = {}
    for name, value in ours.items():
        names = _their_names(name, architecture)
        if name == "head.weight":
            surplus = value.new_zeros((decoder.special, decoder.width)) if rest is None else rest.to(value)
            theirs[names[0]] = torch.cat((value, surplus))
            continue
        for target, part in zip(names, _write(name, value, len(names), architecture, decoder), strict=True):
            theirs[target] = part.contiguous()
    return theirs


def surplus_head(tensors: Mapping[str, Tensor], decoder: DecoderConfig) -> Tensor | None:
    """Rows of an untied head for the tokens that aren't predicted, or ``None`` where there are none."""
    if decoder.tied or not decoder.special or "lm_head.weight" not in tensors:
        return None
    return tensors["lm_head.weight"][decoder.vocabulary :].clone()


def _normalised(tensors: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """The weights under full names; buffers of older files left out."""
    first = architecture.prefix.split(".", maxsplit=1)[0] + "."
    whole = any(name.startswith(first) for name in tensors)
    kept = {name: value for name, value in tensors.items() if not _NO_WEIGHTS.search(name)}
    return {name if whole or name.startswith("lm_head.") else first + name: value for name, value in kept.items()}


def _shapes(decoder: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a decoder's weights, without making it."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in Decoder(decoder).state_dict().items()}


def _their_names(name: str, architecture: Architecture) -> list[str]:
    """``blocks.3.qkv.weight`` in their words: one name, or several whose rows follow each other."""
    parts = name.split(".")
    if parts[0] == "blocks":
        sources = architecture.layer[parts[2]]
        return [f"{architecture.prefix}{architecture.layers}.{parts[1]}.{source}.{parts[3]}" for source in sources]
    return ["lm_head.weight"] if parts[0] == "head" else [f"{architecture.prefix}{architecture.top[parts[0]]}.{parts[1]}"]


def _read(name: str, parts: list[Tensor], architecture: Architecture, decoder: DecoderConfig) -> Tensor:
    if architecture.transposed and name.startswith("blocks.") and parts[0].ndim == 2:
        parts = [part.T for part in parts]
    value = torch.cat(parts) if len(parts) > 1 else parts[0]
    if architecture.interleaved and ".qkv." in name and len(value) % (3 * decoder.heads) == 0:
        value = value.reshape(decoder.heads, 3, -1, *value.shape[1:]).transpose(0, 1).reshape(value.shape)
    if name == "head.weight":
        value = value[: decoder.vocabulary]
    return value.to(torch.float64 if value.dtype == torch.float64 else torch.float32).contiguous()


def _write(name: str, value: Tensor, n_parts: int, architecture: Architecture, decoder: DecoderConfig) -> Iterator[Tensor]:
    if architecture.interleaved and ".qkv." in name:
        value = value.reshape(3, decoder.heads, -1, *value.shape[1:]).transpose(0, 1).reshape(value.shape)
    _, kv_heads, head_width = decoder.sizes()
    if n_parts == 3:
        sizes = [decoder.heads * head_width, kv_heads * head_width, kv_heads * head_width]
    else:
        sizes = [len(value) // n_parts] * n_parts
    for part in torch.split(value, sizes):
        yield part.T if architecture.transposed and name.startswith("blocks.") and part.ndim == 2 else part


def _checked(value: Tensor, wanted: tuple[int, ...], name: str, where: str) -> Tensor:
    if tuple(value.shape) != wanted:
        message = f"{where} is of another architecture: {name!r} has shape {tuple(value.shape)}, expected {wanted}"
        raise CheckpointError(message, hint="config.json and the weights don't belong together")
    return value


def _same(**parts: str) -> Mapping[str, tuple[str, ...]]:
    return MappingProxyType({ours: tuple(theirs.split()) for ours, theirs in parts.items()})


def _opt(config: Any, vocabulary: int) -> DecoderConfig | None:
    activation = _ACTIVATIONS.get(str(config.activation_function))
    plain = config.do_layer_norm_before and config.layer_norm_elementwise_affine and not config._remove_final_layer_norm
    if activation is None or not plain or config.word_embed_proj_dim != config.hidden_size:
        return None
    return DecoderConfig(
        vocabulary, config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.max_position_embeddings,
        inner=config.ffn_dim, special=config.vocab_size - vocabulary, position_offset=2, activation=activation,
        attention_bias=bool(config.enable_bias), mlp_bias=bool(config.enable_bias), tied=bool(config.tie_word_embeddings),
    )  # fmt: skip


def _gpt2(config: Any, vocabulary: int) -> DecoderConfig | None:
    activation = _ACTIVATIONS.get(str(config.activation_function))
    odd = config.scale_attn_by_inverse_layer_idx or not config.scale_attn_weights or config.add_cross_attention
    if activation is None or odd:
        return None
    return DecoderConfig(
        vocabulary, config.n_embd, config.n_layer, config.n_head, config.n_positions,
        inner=config.n_inner or 0, special=config.vocab_size - vocabulary, norm_epsilon=config.layer_norm_epsilon,
        activation=activation, tied=bool(config.tie_word_embeddings),
    )  # fmt: skip


def _bloom(config: Any, vocabulary: int) -> DecoderConfig | None:
    if config.apply_residual_connection_post_layernorm:
        return None
    # ALiBi has no longest context; the config's is that of its training, where it says one.
    context = int(getattr(config, "seq_length", 0) or 2048)
    return DecoderConfig(
        vocabulary, config.hidden_size, config.n_layer, config.n_head, context,
        special=config.vocab_size - vocabulary, positions="alibi", norm_epsilon=config.layer_norm_epsilon,
        embedding_norm=True, activation="gelu_tanh", tied=bool(config.tie_word_embeddings),
    )  # fmt: skip


def _llama(config: Any, vocabulary: int) -> DecoderConfig | None:
    activation = _ACTIVATIONS.get(str(config.hidden_act))
    rotary: dict[str, Any] = dict(getattr(config, "rope_parameters", None) or {})
    if activation is None or rotary.get("rope_type", "default") != "default" or rotary.get("partial_rotary_factor", 1.0) != 1.0:
        return None
    return DecoderConfig(
        vocabulary, config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.max_position_embeddings,
        inner=config.intermediate_size, kv_heads=config.num_key_value_heads, head_width=config.head_dim,
        special=config.vocab_size - vocabulary, positions="rotary", rotary_base=float(rotary.get("rope_theta", 10000.0)),
        norm="rms", norm_epsilon=config.rms_norm_eps, activation=activation, gated=True,
        attention_bias=bool(config.attention_bias), mlp_bias=bool(config.mlp_bias), tied=bool(config.tie_word_embeddings),
    )  # fmt: skip


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "opt": Architecture(
            "model.decoder.",
            "layers",
            {"embedding": "embed_tokens", "positions": "embed_positions", "norm": "final_layer_norm"},
            _same(
                attention_norm="self_attn_layer_norm", qkv="self_attn.q_proj self_attn.k_proj self_attn.v_proj",
                out="self_attn.out_proj", mlp_norm="final_layer_norm", up="fc1", down="fc2",
            ),
            _opt,
        ),
        "gpt2": Architecture(
            "transformer.",
            "h",
            {"embedding": "wte", "positions": "wpe", "norm": "ln_f"},
            _same(
                attention_norm="ln_1", qkv="attn.c_attn", out="attn.c_proj", mlp_norm="ln_2", up="mlp.c_fc", down="mlp.c_proj"
            ),
            _gpt2,
            transposed=True,
        ),
        "bloom": Architecture(
            "transformer.",
            "h",
            {"embedding": "word_embeddings", "embedding_norm": "word_embeddings_layernorm", "norm": "ln_f"},
            _same(
                attention_norm="input_layernorm", qkv="self_attention.query_key_value", out="self_attention.dense",
                mlp_norm="post_attention_layernorm", up="mlp.dense_h_to_4h", down="mlp.dense_4h_to_h",
            ),
            _bloom,
            interleaved=True,
        ),
        "llama": Architecture(
            "model.",
            "layers",
            {"embedding": "embed_tokens", "norm": "norm"},
            _same(
                attention_norm="input_layernorm", qkv="self_attn.q_proj self_attn.k_proj self_attn.v_proj", out="self_attn.o_proj",
                mlp_norm="post_attention_layernorm", up="mlp.gate_proj mlp.up_proj", down="mlp.down_proj",
            ),
            _llama,
        ),
    }
)  # fmt: skip
"""Where transformers keeps what the generic decoder has, by its ``model_type``."""
