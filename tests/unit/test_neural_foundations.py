"""Training loop, devices, checkpoints, cache, whole-folder writes: what every neural family stands on."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from studbook.errors import CheckpointError, ConfigError, DeviceError, DeviceMemoryError
from studbook.files import replacing_folder
from studbook.neural.options import Decoding, Training
from studbook.parameters import build

torch = pytest.importorskip("torch", reason="needs the extra 'neural'")

from studbook.neural import checkpoints  # noqa: E402
from studbook.neural.cache import cache_folder, cached  # noqa: E402
from studbook.neural.device import choose_device, session  # noqa: E402
from studbook.neural.training import Average, Rows, Stepper, epoch_batches, fit_module  # noqa: E402


def _line(options: Training, *, seed: int = 0, n: int = 200, spoil: int | None = None):
    """Fit y = x0 + x1 by a linear network; with ``spoil`` the loss is NaN from that step on."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(n, 2)).astype(np.float32))
    calls = [0]
    with session(options, rng=rng, doing="a test", batch=options.batch, lower="nothing") as device:
        net = torch.nn.Linear(2, 1)

        def loss(rows):
            calls[0] += 1
            value = ((net(x[rows])[:, 0] - x[rows].sum(1)) ** 2).mean()
            return value * float("nan") if spoil is not None and calls[0] >= spoil else value

        report = fit_module(net, n, loss, options, device=device, rng=rng)
    return net, report


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_the_loop_finds_the_line(optimizer):
    net, report = _line(Training(epochs=60, batch=20, rate=0.05, weight_decay=0.0, optimizer=optimizer))
    assert report.failure is None and report.steps == 600 and report.epochs == 60
    assert np.allclose(net.weight.detach().numpy(), 1.0, atol=1e-2)


def test_equal_seeds_give_equal_weights_and_leave_torch_alone():
    torch.manual_seed(5)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    first, second = (_line(Training(epochs=3))[0].weight for _ in range(2))
    other = _line(Training(epochs=3), seed=1)[0].weight
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state()) and torch.get_num_threads() == threads


def test_early_stop_takes_the_best_weights():
    net, report = _line(Training(epochs=500, batch=20, rate=0.3, schedule="constant", validation=0.2, patience=3, optimizer="sgd"))
    assert report.stopped_early and report.epochs < 500
    assert report.validation is not None and report.validation < 1e-3
    assert net.weight.isfinite().all()


def test_a_loss_that_is_nan_is_reported_and_the_weights_stay_sound():
    net, report = _line(Training(epochs=5, batch=20), spoil=13)
    assert report.failure == "the loss was nan in step 13" and report.steps == 12
    assert net.weight.isfinite().all()


def test_a_stop_without_a_sound_validation_loss_is_a_failure():
    net, report = _line(Training(epochs=5, batch=20, validation=0.1, patience=1), spoil=10)  # nine steps an epoch
    assert report.failure == "the validation loss was nan after epoch 1" and not report.stopped_early
    assert report.validation is None and net.weight.isfinite().all()


def test_rows_are_divided_and_met_once_an_epoch():
    rows = Rows.divide(100, 0.1, rng=np.random.default_rng(0))
    assert len(rows.validation) == 10 and sorted([*rows.training, *rows.validation]) == list(range(100))
    batches = list(epoch_batches(rows.training, 32, rng=np.random.default_rng(0)))
    assert [len(b) for b in batches] == [32, 32, 26] and sorted(np.concatenate(batches)) == rows.training.tolist()
    assert len(Rows.divide(1, 0.5, rng=np.random.default_rng(0)).validation) == 0


@pytest.mark.parametrize(("schedule", "last"), [("constant", 1.0), ("linear", 1 / 90), ("cosine", 0.0003)])
def test_rates_rise_and_fall(schedule, last):
    net = torch.nn.Linear(1, 1)
    stepper = Stepper(net, Training(schedule=schedule, warmup=0.1, rate=1.0, optimizer="sgd"), 100)
    shares = []
    for _ in range(100):
        shares.append(stepper._share())
        stepper.steps += 1
    assert shares[0] < shares[5] < shares[9] < 1.0 and shares[10] == pytest.approx(1.0)
    assert shares[-1] == pytest.approx(last, rel=0.1)


def test_clipping_bounds_the_gradient():
    net = torch.nn.Linear(1, 1, bias=False)
    start = net.weight.item()
    Stepper(net, Training(clip=0.5, rate=1.0, optimizer="sgd", warmup=0.0, weight_decay=0.0), 1).step((net.weight * 1000.0).sum())
    assert abs(net.weight.item() - start) == pytest.approx(0.5, rel=1e-4)


def test_the_average_follows_the_weights():
    net = torch.nn.Linear(1, 1)
    average = Average(net, 0.9)
    torch.nn.init.constant_(net.weight, 7.0)
    for _ in range(200):
        average.update(net)
    assert float(average.module.weight.detach()) == pytest.approx(7.0, abs=1e-3)
    assert not any(p.requires_grad for p in average.module.parameters())


def test_cuda_that_is_not_there_is_one_clear_line():
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(DeviceError, match=r'training\.device is "cuda"'):
        choose_device("cuda")
    assert choose_device("auto").type == "cpu"


def test_out_of_memory_names_the_batch_and_what_to_lower():
    with (
        pytest.raises(
            DeviceMemoryError, match=r"training x with batches of 64 needs more memory.*lower learner.training.batch or the model's size"
        ),
        session(Training(), rng=np.random.default_rng(0), doing="training x", batch=64, lower="learner.training.batch"),
    ):
        torch.empty(2**62, dtype=torch.uint8)


def test_other_errors_pass_through():
    with (
        pytest.raises(RuntimeError, match="mat1 and mat2"),
        session(Training(), rng=np.random.default_rng(0), doing="x", batch=1, lower="y"),
    ):
        torch.ones(2, 3) @ torch.ones(2, 3)


class TestCheckpoints:
    def saved(self, folder):
        tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([True, False])}
        checkpoints.save_checkpoint(folder / "m", "vae", tensors, {"latents": 2})
        return folder / "m" / checkpoints.WEIGHTS, tensors

    def test_round_trip(self, tmp_path):
        file, tensors = self.saved(tmp_path)
        loaded, about = checkpoints.load_checkpoint(file.parent, "vae")
        assert about == {"latents": 2} and all(torch.equal(loaded[k], v) for k, v in tensors.items())
        assert [p.name for p in tmp_path.iterdir()] == ["m"]

    def test_every_cut_is_found(self, tmp_path):
        file, _ = self.saved(tmp_path)
        whole = file.read_bytes()
        for length in range(0, len(whole), 7):
            file.write_bytes(whole[:length])
            with pytest.raises(CheckpointError):
                checkpoints.load_checkpoint(file.parent, "vae")

    def test_every_changed_byte_of_the_weights_is_found(self, tmp_path):
        file, _ = self.saved(tmp_path)
        whole = bytearray(file.read_bytes())
        start = 8 + int.from_bytes(whole[:8], "little")
        for position in range(start, len(whole)):
            changed = whole.copy()
            changed[position] ^= 1
            file.write_bytes(changed)
            with pytest.raises(CheckpointError, match="digest differs"):
                checkpoints.load_checkpoint(file.parent, "vae")

    def test_a_huge_header_is_refused_before_it_is_read(self, tmp_path):
        file, _ = self.saved(tmp_path)
        file.write_bytes((2**62).to_bytes(8, "little") + b"{}")
        with pytest.raises(CheckpointError, match="isn't a safetensors file"):
            checkpoints.load_checkpoint(file.parent, "vae")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"family": "gan"}, "holds a gan, expected a vae"),
            ({"format": 99}, "has format 99"),
            ({"about": 3}, "doesn't say how its network is built"),
        ],
    )
    def test_other_notes(self, tmp_path, change, message):
        from safetensors.torch import save_file

        file, tensors = self.saved(tmp_path)
        note = {"format": 1, "family": "vae", "about": {}, "digest": checkpoints.digest_of_tensors(tensors)} | change
        save_file(tensors, str(file), metadata={"studbook": json.dumps(note)})
        with pytest.raises(CheckpointError, match=message):
            checkpoints.load_checkpoint(file.parent, "vae")

    def test_a_foreign_file_and_a_missing_one(self, tmp_path):
        from safetensors.torch import save_file

        save_file({"a": torch.ones(1)}, str(tmp_path / checkpoints.WEIGHTS))
        with pytest.raises(CheckpointError, match="wasn't written by studbook"):
            checkpoints.load_checkpoint(tmp_path, "vae")
        with pytest.raises(CheckpointError, match=r"there is no folder .*nowhere"):
            checkpoints.load_checkpoint(tmp_path / "nowhere", "vae")

    def test_tensors_that_do_not_fit_are_named(self):
        net = torch.nn.Linear(2, 3)
        with pytest.raises(CheckpointError, match="'weight' has shape"):
            checkpoints.load_into(net, {"weight": torch.ones(2, 2), "bias": torch.ones(3)}, "m")
        with pytest.raises(CheckpointError, match="lacks 'bias'"):
            checkpoints.load_into(net, {"weight": torch.ones(3, 2)}, "m")
        with pytest.raises(CheckpointError, match="holds 'x'"):
            checkpoints.load_into(net, {"weight": torch.ones(3, 2), "bias": torch.ones(3), "x": torch.ones(1)}, "m")


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "t"
    with replacing_folder(target) as folder:
        (folder / "a").write_text("1")
    with pytest.raises(ZeroDivisionError), replacing_folder(target) as folder:
        (folder / "a").write_text("2")
        raise ZeroDivisionError
    assert (target / "a").read_text() == "1" and [p.name for p in tmp_path.iterdir()] == ["t"]


def test_the_cache_makes_a_thing_once(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDBOOK_CACHE", str(tmp_path / "c"))
    made = []

    def make(folder):
        made.append(folder)
        (folder / "x").write_text("1")

    first, second = cached("kind", "abc", make), cached("kind", "abc", make)
    assert first == second == cache_folder() / "kind" / "abc" and len(made) == 1 and (first / "x").read_text() == "1"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"epochs": 0}, "training.epochs is 0"),
        ({"rate": 0.0}, "training.rate is 0.0"),
        ({"rate": float("nan")}, "training.rate is nan"),
        ({"patience": 2}, "needs a validation part"),
        ({"start": "scratch", "base": "x"}, "training.base is given"),
        ({"threads": 0}, "training.threads is 0"),
        ({"epochs": "many"}, "expected an integer"),
        ({"epoch": 3}, "did you mean 'epochs'"),
    ],
)
def test_training_refuses(table, message):
    with pytest.raises(ConfigError, match=message):
        build(Training, table, where="learner.training")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"beams": 0}, "decoding.beams is 0"),
        ({"beams": 5, "top_k": 3}, "set beams = 1 to sample"),
        ({"max_new": 3, "min_new": 4}, "above decoding.max_new"),
        ({"top_p": 0.0}, "decoding.top_p is 0.0"),
        ({"temperature": -1.0}, "decoding.temperature is -1.0"),
        ({"repetition_penalty": 0.0}, "decoding.repetition_penalty"),
    ],
)
def test_decoding_refuses(table, message):
    with pytest.raises(ConfigError, match=message):
        build(Decoding, table, where="learner.decoding")


def test_options_load_without_torch():
    code = "import sys; import studbook.neural.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0
