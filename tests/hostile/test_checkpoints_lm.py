"""Folders of language models that are missing, damaged, forged, or of another kind: one clear line each, and nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

import studbook  # noqa: E402
from studbook.api import resume_study  # noqa: E402
from studbook.errors import CheckpointError, StorageError  # noqa: E402
from studbook.neural import causal  # noqa: E402
from studbook.neural.checkpoints import save_checkpoint, write_tensors  # noqa: E402
from studbook.neural.foreign import Foreign  # noqa: E402
from studbook.neural.pretrained import find_folder, require_weights  # noqa: E402

N = 20


@pytest.fixture
def saved(tmp_path):
    """A small model as studbook writes it."""
    torch.manual_seed(0)
    folder = tmp_path / "model"
    causal.save_network(folder, causal.random_network("gpt2-tiny", (2, 16, 2), N, context=12), {})
    return folder


def opened(folder, vocabulary=N):
    return causal.open_network(folder, vocabulary)


def edit_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def without_note(folder):
    """As another program would have written it: no digest."""
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return tensors


def refused(folder, said, vocabulary=N):
    with pytest.raises(CheckpointError) as caught:
        opened(folder, vocabulary)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_a_missing_folder(tmp_path):
    refused(tmp_path / "nowhere", "there is no folder")


def test_a_folder_without_config(saved):
    (saved / "config.json").unlink()
    refused(saved, "has no config.json")


def test_a_folder_without_weights(saved):
    (saved / "model.safetensors").unlink()
    refused(saved, "has no model.safetensors")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickles_are_not_read(saved, name):
    (saved / "model.safetensors").rename(saved / name)
    refused(saved, "a pickle, which can run code")
    with pytest.raises(CheckpointError, match="convert it once: python -c"):
        require_weights(saved)


@pytest.mark.parametrize("keep", [0, 4, 200, -100])
def test_weights_that_are_cut_off(saved, keep):
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    refused(saved, "model.safetensors")


def test_a_changed_weight(saved):
    file = saved / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    refused(saved, "was changed after it was written: its digest differs")


def test_a_changed_config(saved):
    edit_config(saved, layer_norm_epsilon=0.1)
    refused(saved, "config.json was changed after it was written")


def test_a_header_that_promises_the_memory(saved):
    (saved / "model.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    refused(saved, "isn't a safetensors file, or is cut off")


def test_a_checkpoint_of_another_family(saved, tmp_path):
    save_checkpoint(tmp_path / "vae", "vae", {"w": torch.zeros(2)}, {})
    refused(tmp_path / "vae", "has no config.json")
    (tmp_path / "vae" / "config.json").write_bytes((saved / "config.json").read_bytes())
    refused(tmp_path / "vae", "holds a vae, expected a causal_lm")


def test_the_config_of_another_architecture(saved, tmp_path):
    causal.save_network(tmp_path / "other", causal.random_network("llama-tiny", (2, 16, 2), N, context=12), {})
    without_note(saved)
    (saved / "config.json").write_bytes((tmp_path / "other" / "config.json").read_bytes())
    refused(saved, "is of another architecture: it lacks 'model.")


def test_the_config_of_another_size(saved):
    without_note(saved)
    edit_config(saved, n_embd=32)
    refused(saved, "is of another architecture: 'transformer.wte.weight' has shape (21, 16), expected (21, 32)")


def test_a_tensor_too_few_and_one_too_many(saved):
    tensors = without_note(saved)
    bias = tensors.pop("transformer.h.1.mlp.c_fc.bias")
    save_file(tensors, saved / "model.safetensors")
    refused(saved, "it lacks 'transformer.h.1.mlp.c_fc.bias'")
    save_file({**tensors, "transformer.h.1.mlp.c_fc.bias": bias, "transformer.h.7.extra": bias.clone()}, saved / "model.safetensors")
    refused(saved, "it holds 'transformer.h.7.extra'")


@pytest.mark.parametrize(
    "forged",
    [
        {"n_layer": 10**9},
        {"n_embd": 2**40, "n_head": 2**40},
        {"n_positions": 2**40},
        {"vocab_size": 2**40},
        {"n_inner": 2**40},
    ],
)
def test_a_forged_config_does_not_take_the_memory(saved, forged):
    without_note(saved)
    edit_config(saved, **forged)
    refused(saved, "its config has more numbers than its weights")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_head": 3}, "sizes that don't fit each other"),
        ({"n_layer": 0}, "sizes that don't fit each other"),
        ({"model_type": "no-such-model"}, "isn't the config of a causal language model"),
        ({"vocab_size": 0}, "has the vocab_size 0"),
        ({"bos_token_id": None, "eos_token_id": None}, "neither a bos_token_id nor an eos_token_id"),
        ({"bos_token_id": 10**6, "eos_token_id": -4}, "neither a bos_token_id nor an eos_token_id"),
        ({"model_type": "vit"}, "can't be loaded as a causal language model (vit)"),
    ],
)
def test_configs_that_can_not_be_meant(saved, changes, said):
    without_note(saved)
    edit_config(saved, **changes)
    refused(saved, said)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"model_type": 7}'])
def test_a_config_that_is_no_config(saved, content):
    (saved / "config.json").write_text(content)
    refused(saved, "isn't the config of a causal language model")


def test_an_oversized_config_is_not_read(saved, monkeypatch):
    monkeypatch.setattr(causal, "MAX_CONFIG_BYTES", 10)
    refused(saved, "expected at most 10")


def test_code_that_comes_with_a_model_is_not_run(saved):
    without_note(saved)
    (saved / "mine.py").write_text("raise SystemExit('ran')")
    edit_config(saved, model_type="mine", auto_map={"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"})
    refused(saved, "isn't the config of a causal language model")


def test_more_tokens_than_the_model_has(saved):
    refused(saved, "holds a model of 21 tokens, the data have 22", vocabulary=22)


def test_other_architectures_whose_weights_do_not_fit(tmp_path):
    config = transformers.GPTNeoXConfig(
        vocab_size=N, hidden_size=16, num_hidden_layers=1, intermediate_size=16, num_attention_heads=2, bos_token_id=0, eos_token_id=0
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(str(tmp_path))
    tensors = load_file(tmp_path / "model.safetensors")
    name = sorted(tensors)[-1]
    save_file({key: value for key, value in tensors.items() if key != name}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    refused(tmp_path, "is of another architecture: it lacks")


@pytest.mark.parametrize("forged", [{"num_hidden_layers": 10**9}, {"hidden_size": 2**40}, {"intermediate_size": 2**40}])
def test_a_forged_config_of_another_architecture(saved, forged):
    without_note(saved)
    (saved / "config.json").write_text(json.dumps({"model_type": "mistral", "vocab_size": N + 1, **forged}))
    refused(saved, "its config has more numbers than its weights")


@pytest.mark.parametrize("name", ["", "no\0name", "./nowhere", "/nowhere/at/all", "a/b/c", "owner//name", "~nobody-of-that-name/x"])
def test_names_of_no_model(name):
    with pytest.raises(CheckpointError) as caught:
        find_folder(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nobody/nothing", "nothing", "nobody/nothing@refs/pr/3"])
def test_a_hub_id_without_a_network(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="and the hub can't be reached for a model of that name") as caught:
        find_folder(name)
    assert "\n" not in str(caught.value)


@pytest.fixture
def disk(tmp_path):
    """A disk of 400 kB; skips where mounting isn't allowed."""
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "studbook-test", str(folder)]
    if reason := subprocess.run(command, capture_output=True, text=True, check=False).stderr:
        pytest.skip(f"can't mount a temporary file system: {reason}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def own_network():
    return causal.random_network("gpt2-tiny", (2, 128, 2), N, context=12)


def foreign_network():
    config = transformers.GPTNeoXConfig(
        vocab_size=N, hidden_size=128, num_hidden_layers=2, intermediate_size=512, num_attention_heads=2, bos_token_id=0, eos_token_id=0
    )
    return causal.Network(Foreign(transformers.AutoModelForCausalLM.from_config(config), N), config, 0)


@pytest.mark.mount
@pytest.mark.parametrize(
    "save",
    [
        lambda folder: causal.save_network(folder, own_network(), {}),
        lambda folder: causal.save_network(folder, foreign_network(), {}),
        lambda folder: save_checkpoint(folder, "vae", {"w": torch.zeros(200_000)}, {}),
    ],
)
def test_a_full_disk_is_one_line_and_nothing_is_left(disk, save):
    with pytest.raises(StorageError, match=r"can't write .*model: the disk is full"):
        save(disk / "model")
    assert not list(disk.iterdir())


@pytest.mark.mount
def test_a_full_disk_keeps_the_finished_generations(disk):
    table = {
        "study": {"name": "small", "generations": 8, "models": "all"},
        "data": {"source": "python-docs", "tokens": "bytes", "block": 16, "limit": 20},
        "learner": {"kind": "causal_lm", "model": "opt-tiny", "layers": 1, "width": 32, "heads": 2, "training": {"epochs": 1}},
        "mix": {"kind": "replace"},
        "metrics": {"names": ["types_share"]},
    }
    with pytest.raises(StorageError, match=r"the disk is full; generations up to [1-7] are finished and kept"):
        studbook.create_study(table).run(disk / "run")
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    assert resume_study(disk / "run").run(disk / "run").manifest["status"] == "finished"


def test_what_the_system_says_of_a_file_stays_its_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_tensors(tmp_path / "nowhere" / "model.safetensors", {"w": torch.zeros(2)}, {})


SAVE = """
import sys, torch
from pathlib import Path
from studbook.neural import causal

torch.manual_seed(0)
network = causal.random_network("gpt2-tiny", (1, 8, 2), 5, context=4)
for name in sys.argv[2:]:
    causal.save_network(Path(sys.argv[1], name), network, {"note": "ä"})
"""


def test_equal_models_are_equal_files_in_every_process(tmp_path):
    names = [f"{i}" for i in range(6)]
    for process in ("one", "two"):
        subprocess.run([sys.executable, "-c", SAVE, tmp_path / process, *names], check=True)
    digests = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.glob("*/*/model.safetensors")}
    assert len(digests) == 12
    assert len(set(digests.values())) == 1
    assert opened(tmp_path / "one" / "0", 5)[1] == {"note": "ä"}
