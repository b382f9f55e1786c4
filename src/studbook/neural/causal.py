"""Causal language models as transformers stores them: opened, made anew with random weights, and written."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor, nn

from studbook.arrays import AnyArray
from studbook.errors import CheckpointError, ConfigError, MissingExtraError
from studbook.files import replacing_folder
from studbook.neural.architectures import decoder_config, from_decoder, surplus_head, to_decoder
from studbook.neural.checkpoints import (
    FORMAT,
    WEIGHTS,
    digest_of_tensors,
    load_into,
    read_shapes,
    read_tensors,
    refusals_of_the_disk,
    write_tensors,
)
from studbook.neural.decoder import Decoder, DecoderConfig
from studbook.neural.foreign import Foreign, read_foreign
from studbook.neural.pretrained import require_weights
from studbook.neural.tokens import FILES as TOKENIZER_FILES
from studbook.neural.tokens import MAX_BYTES

FAMILY = "causal_lm"
CONFIG = "config.json"
PROMPTS = "prompts.safetensors"
MAX_CONFIG_BYTES = 4 << 20
MAX_CONTEXT = 1 << 22
# So many tokens that can't be generated are named to transformers' generate.
MAX_SUPPRESSED = 1024

RandomName: TypeAlias = Literal["opt-tiny", "gpt2-tiny", "bloom-tiny", "llama-tiny"]
RANDOM_NAMES: tuple[str, ...] = get_args(RandomName)
"""Small models with random weights, by name."""


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A causal language model, and what it takes to store it as transformers does.

    Attributes:
        module: The generic decoder, or transformers' own module.
        config: Of transformers.
        begin: The token that stands for the beginning of a text.
        rest: Rows of an untied head for tokens that aren't predicted.
        tokenizer: The files of its tokenizer by name: the folder that they come from may go, as a run's work does.
    """

    module: Decoder | Foreign
    config: Any
    begin: int
    rest: Tensor | None = None
    tokenizer: Mapping[str, bytes] = field(default_factory=dict, repr=False)


def random_network(name: str, sizes: tuple[int, int, int], vocabulary: int, *, context: int, dropout: float = 0.0) -> Network:
    """A small model with random weights from PyTorch's generator, and an embedding of its own for the beginning of a text.

    Args:
        name: One of ``RANDOM_NAMES``.
        sizes: Layers, width and heads.
        vocabulary: Tokens of the data.
        context: Largest number of tokens in a row.
        dropout: See ``DecoderConfig``.

    Raises:
        ConfigError: The width isn't a multiple of the heads.
    """
    config = _random_config(name, sizes, vocabulary, context)
    decoder = decoder_config(config, vocabulary, dropout)
    assert decoder is not None  # all four can be expressed
    return Network(Decoder(decoder), config, vocabulary)


def random_shape(name: str, sizes: tuple[int, int, int], vocabulary: int, context: int, dropout: float) -> DecoderConfig | None:
    """The decoder that ``random_network`` makes."""
    return decoder_config(_random_config(name, sizes, vocabulary, context), vocabulary, dropout)


def random_like(folder: Path, vocabulary: int, *, dropout: float = 0.0) -> Network:
    """The architecture of the model in a folder, with random weights from PyTorch's generator.

    Raises:
        CheckpointError: Its config can't be read.
    """
    config = read_config(folder)
    decoder = _as_decoder(folder, config, vocabulary, dropout)
    module: Decoder | Foreign
    if decoder is None:
        from transformers import AutoModelForCausalLM

        with quiet_transformers():
            module = Foreign(AutoModelForCausalLM.from_config(config, trust_remote_code=False).float(), vocabulary)
    else:
        module = Decoder(decoder)
    return Network(module, config, _begin(config, folder), None, _tokenizer_files(folder))


def copy_of(network: Network) -> Network:
    """A network with weights of its own, to be trained."""
    return replace(network, module=copy.deepcopy(network.module))


def open_network(folder: Path, vocabulary: int, *, dropout: float = 0.0) -> tuple[Network, dict[str, Any]]:
    """The model in a folder, in evaluation mode, and what studbook noted with it (empty for others' folders).

    Args:
        folder: As transformers' ``save_pretrained`` writes it; safetensors only.
        vocabulary: Tokens of the data: those that are predicted.
        dropout: See ``DecoderConfig``; other architectures than its keep their own.

    Raises:
        CheckpointError: It can't be read, was changed, is of another architecture, or has fewer tokens.
    """
    config = read_config(folder)
    tensors, about = _read_weights(folder)
    if vocabulary > config.vocab_size:
        message = f"{folder} holds a model of {config.vocab_size:,} tokens, the data have {vocabulary:,}"
        raise CheckpointError(message, hint="choose the data that it was trained on, or another model")
    decoder = _expressed(folder, config, tensors, vocabulary, dropout)
    rest = None
    if decoder is None:
        with quiet_transformers():
            module: Decoder | Foreign = read_foreign(folder, config, vocabulary)
    else:
        module = Decoder(decoder)
        load_into(module, to_decoder(tensors, config, decoder, str(folder)), str(folder))
        rest = surplus_head(tensors, decoder)
    return Network(module.eval(), config, _begin(config, folder), rest, _tokenizer_files(folder)), about


def _tokenizer_files(folder: Path) -> dict[str, bytes]:
    """The files of a folder's tokenizer by name.

    Raises:
        CheckpointError: One is too large, or can't be read.
    """
    found = {}
    for path in (folder / name for name in TOKENIZER_FILES if (folder / name).is_file()):
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointError(f"{path} has {path.stat().st_size:,} bytes, expected at most {MAX_BYTES:,}", hint="this is no tokenizer")
        try:
            found[path.name] = path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{path} can't be read: {error}") from error
    return found


def check_network(folder: Path, vocabulary: int) -> None:
    """Refuse what ``open_network`` would, as far as the config and the headers of the weights tell: their numbers aren't read.

    Raises:
        CheckpointError: No safetensors, cut off, of another architecture, or no causal language model.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = read_config(folder)
    tensors: dict[str, Tensor] = {}
    for file in require_weights(folder):
        tensors |= read_shapes(file)
    decoder = _expressed(folder, config, tensors, vocabulary, 0.0)
    if decoder is not None:
        to_decoder(tensors, config, decoder, str(folder))
    elif config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        message = f"{folder} holds a {config.model_type}, expected a causal language model"
        raise CheckpointError(message, hint="choose a folder with a model that transformers' AutoModelForCausalLM loads")
    _begin(config, folder)


def save_network(folder: Path, network: Network, about: Mapping[str, Any], prompts: AnyArray | None = None) -> None:
    """Write ``folder``, whole or not at all, so that transformers' ``from_pretrained`` loads it: weights, config, tokenizer, and a digest.

    Args:
        folder: Is replaced if it is there.
        network: What is stored.
        about: Noted with it; JSON.
        prompts: ``(m, p)`` token ids that its text continues; stored in a file of their own.

    Raises:
        StorageError: The disk refused.
    """
    with replacing_folder(folder) as temporary, quiet_transformers():
        if isinstance(network.module, Decoder):
            state = {name: value.detach().cpu() for name, value in network.module.state_dict().items()}
            tensors = from_decoder(state, network.config, network.module.config, network.rest)
            _write_config(temporary, network.config)
        else:
            with refusals_of_the_disk():
                network.module.model.save_pretrained(str(temporary), max_shard_size="1000GB")
            tensors, _ = read_tensors(temporary / WEIGHTS)
        _write_generation(temporary, network)
        noted = dict(about)
        if prompts is not None:
            kept = {"prompts": torch.from_numpy(np.ascontiguousarray(prompts, np.int32))}
            write_tensors(temporary / PROMPTS, kept, {})
            noted["prompts"] = digest_of_tensors(kept)
        note = {
            "format": FORMAT,
            "family": FAMILY,
            "about": noted,
            "digest": digest_of_tensors(tensors),
            "config": _digest_of_file(temporary / CONFIG),
        }
        plain = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
        write_tensors(temporary / WEIGHTS, plain, {"format": "pt", "studbook": json.dumps(note, sort_keys=True)})
        for name, content in network.tokenizer.items():
            (temporary / name).write_bytes(content)


def read_prompts(folder: Path, about: Mapping[str, Any], vocabulary: int) -> AnyArray:
    """The prompts that were stored with a network, ``(m, p)``; ``(1, 0)`` where there were none.

    Raises:
        CheckpointError: They are missing, were changed, or are no token ids.
    """
    if "prompts" not in about:
        return np.empty((1, 0), np.int32)
    tensors, _ = read_tensors(folder / PROMPTS)
    if digest_of_tensors(tensors) != about["prompts"]:
        raise CheckpointError(f"{folder / PROMPTS} was changed after it was written: its digest differs", hint="train or copy it again")
    prompts: AnyArray = tensors["prompts"].numpy()
    if prompts.ndim != 2 or not prompts.size or prompts.min() < 0 or prompts.max() >= vocabulary:
        raise CheckpointError(f"{folder / PROMPTS} holds no prompts over {vocabulary:,} tokens", hint="use the data that it was trained on")
    return prompts


def read_config(folder: Path) -> Any:
    """Transformers' config of a folder.

    Raises:
        CheckpointError: There is no such folder or config, or it is damaged, of an unknown kind or of no causal language model.
        MissingExtraError: transformers isn't installed.
    """
    require_transformers()
    file = folder / CONFIG
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}", hint="choose a folder with a saved model")
    if not file.is_file():
        raise CheckpointError(f"{folder} has no {CONFIG}, so it is no language model of transformers", hint="choose another folder")
    if file.stat().st_size > MAX_CONFIG_BYTES:
        raise CheckpointError(f"{file} has {file.stat().st_size:,} bytes, expected at most {MAX_CONFIG_BYTES:,}", hint="this is no config")
    from transformers import AutoConfig

    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        size = config.vocab_size
    except Exception as error:  # anything, from damaged files
        reason = (str(error).strip().splitlines() or [repr(error)])[0][:300]
        message = f"{file} isn't the config of a causal language model: {reason}"
        raise CheckpointError(message, hint="it is damaged, or of an architecture that transformers doesn't know") from error
    if not isinstance(size, int) or size < 1:
        raise CheckpointError(f"{file} has the vocab_size {size!r}, expected a number of tokens", hint="it is damaged")
    return config


def longest_context(folder: Path) -> int:
    """The largest number of tokens in a row that a folder's model reads, from its config alone."""
    config = read_config(folder)
    decoder = _as_decoder(folder, config, config.vocab_size, 0.0)
    return Foreign(_Configured(config), 1).context if decoder is None else decoder.context


def require_transformers() -> None:
    """Refuse to go on without transformers."""
    if importlib.util.find_spec("transformers") is None:
        message = "causal_lm needs the package transformers, which isn't installed"
        raise MissingExtraError(message, hint="pip install 'studbook[neural]'")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' progress bars and advice; errors are raised all the same."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


class _Configured(nn.Module):
    """A module that has a config and nothing else."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config


def _read_weights(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of a folder; where studbook wrote it, checked against its digests, with what it noted."""
    tensors: dict[str, Tensor] = {}
    note: dict[str, Any] | None = None
    for file in require_weights(folder):
        part, noted = read_tensors(file)
        tensors |= part
        note = noted or note
    if note is None:
        return tensors, {}
    if not isinstance(note.get("format"), int) or note["format"] > FORMAT:
        message = f"{folder} has format {note.get('format')!r}; this studbook reads up to {FORMAT}"
        raise CheckpointError(message, hint="pip install --upgrade studbook")
    if note.get("family") != FAMILY:
        raise CheckpointError(f"{folder} holds a {note.get('family')}, expected a {FAMILY}", hint="choose a checkpoint of the same family")
    for what, digest in (("digest", digest_of_tensors(tensors)), ("config", _digest_of_file(folder / CONFIG))):
        if note.get(what) != digest:
            name = WEIGHTS if what == "digest" else CONFIG
            message = f"{folder / name} was changed after it was written: its digest differs"
            raise CheckpointError(message, hint="train or copy it again")
    about = note.get("about")
    return tensors, about if isinstance(about, dict) else {}


def _expressed(folder: Path, config: Any, tensors: Mapping[str, Tensor], vocabulary: int, dropout: float) -> DecoderConfig | None:
    """The generic decoder, once its sizes are no larger than what the weights hold: a forged config mustn't take the memory."""
    decoder = _as_decoder(folder, config, vocabulary, dropout)
    most = sum(tensor.numel() for tensor in tensors.values())
    layers, context = getattr(config, "num_hidden_layers", 0), getattr(config, "max_position_embeddings", 0)
    sizes = [getattr(config, name, 0) for name in ("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size")]
    if decoder is not None:
        layers, context = decoder.layers, decoder.context
        sizes += [decoder.width, decoder.heads, *decoder.sizes()]
    if _number(layers) > len(tensors) or max(map(_number, sizes)) > most or _number(context) > max(most, MAX_CONTEXT):
        message = f"{folder} is of another architecture: its config has more numbers than its weights"
        raise CheckpointError(message, hint="config.json and the weights don't belong together")
    return decoder


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _as_decoder(folder: Path, config: Any, vocabulary: int, dropout: float) -> DecoderConfig | None:
    try:
        return decoder_config(config, vocabulary, dropout)
    except (ConfigError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG} has sizes that don't fit each other: {error}", hint="it is damaged") from error


def _begin(config: Any, folder: Path) -> int:
    """The token that stands for the beginning of a text: the config's begin token, else its end token."""
    for name in ("bos_token_id", "eos_token_id"):
        value = getattr(config, name, None)
        value = value[0] if isinstance(value, list) and value else value
        if isinstance(value, int) and 0 <= value < config.vocab_size:
            return value
    message = f"{folder / CONFIG} has neither a bos_token_id nor an eos_token_id within its vocabulary"
    raise CheckpointError(message, hint="add a bos_token_id: the token that stands for the beginning of a text")


def _random_config(name: str, sizes: tuple[int, int, int], vocabulary: int, context: int) -> Any:
    require_transformers()
    layers, width, heads = sizes
    if width % heads:
        raise ConfigError(f"learner.width is {width}, which isn't divisible by {heads} heads", hint="set width to a multiple of heads")
    tokens = {"vocab_size": vocabulary + 1, "bos_token_id": vocabulary, "eos_token_id": None, "pad_token_id": None}
    with quiet_transformers():
        from transformers import BloomConfig, GPT2Config, LlamaConfig, OPTConfig

        if name == "opt-tiny":
            return OPTConfig(
                hidden_size=width, word_embed_proj_dim=width, num_hidden_layers=layers, ffn_dim=4 * width, num_attention_heads=heads,
                max_position_embeddings=context, **tokens,
            )  # fmt: skip
        if name == "gpt2-tiny":
            return GPT2Config(n_embd=width, n_layer=layers, n_head=heads, n_positions=context, **tokens)
        if name == "bloom-tiny":
            return BloomConfig(hidden_size=width, n_layer=layers, n_head=heads, seq_length=context, **tokens)
        # A gated MLP of 8 / 3 of the width has as many numbers as a plain one of four times the width.
        inner = -(-width * 8 // 24) * 8
        return LlamaConfig(
            hidden_size=width, num_hidden_layers=layers, intermediate_size=inner, num_attention_heads=heads, num_key_value_heads=heads,
            max_position_embeddings=context, tie_word_embeddings=True, **tokens,
        )  # fmt: skip


def _write_config(folder: Path, config: Any) -> None:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kept = AutoConfig.for_model(**{**config.to_dict(), "dtype": "float32"})
    kept.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config.model_type]]
    kept.save_pretrained(str(folder))


def _write_generation(folder: Path, network: Network) -> None:
    """For transformers' ``generate``: which tokens no text of the data holds."""
    surplus = list(range(network.module.vocabulary, network.config.vocab_size))
    if surplus and len(surplus) <= MAX_SUPPRESSED:
        about = {"bos_token_id": network.begin, "eos_token_id": network.config.eos_token_id, "suppress_tokens": surplus}
        (folder / "generation_config.json").write_text(json.dumps(about))


def _digest_of_file(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
