"""The contract of a learner, kept by language models of transformers: random weights and a pretrained folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from studbook.arrays import Batch, text  # noqa: E402
from studbook.learners import CausalLM  # noqa: E402
from studbook.neural.options import Decoding, Training  # noqa: E402
from studbook.testing import learners as contract  # noqa: E402

RNG = np.random.default_rng(7)
BLOCKS = text(RNG.choice(9, p=np.arange(1, 10) / 45, size=(120, 6)).astype(np.int32), tuple("abcdefghi"))
TRAINING = Training(epochs=2, batch=32, rate=1e-2)
SIZES: dict[str, Any] = {"layers": 1, "width": 8, "heads": 2, "training": TRAINING}
LEARNERS = [
    *(CausalLM(name, **SIZES) for name in ("opt-tiny", "gpt2-tiny", "bloom-tiny", "llama-tiny")),
    CausalLM("opt-tiny", **SIZES, decoding=Decoding(prompt=3, top_p=0.95), dropout=0.1),
]


@pytest.mark.parametrize(
    ("learner", "check"),
    [
        pytest.param(learner, check, id=f"{learner.model}-{learner.decoding.prompt}-{check.__name__}")
        for learner in LEARNERS
        for check in contract.learner_checks(learner)
    ],
)
def test_causal_lm_keeps_the_contract(learner: CausalLM, check: contract.Check) -> None:
    check(learner, BLOCKS)


@pytest.fixture(scope="module", params=["gpt2", "gpt_neox"])
def pretrained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that transformers wrote; the second one runs in its own module."""
    marks = {"vocab_size": 11, "bos_token_id": 9, "eos_token_id": 10}
    config = (
        transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, n_positions=12, **marks)
        if request.param == "gpt2"
        else transformers.GPTNeoXConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, **marks)
    )
    folder = tmp_path_factory.mktemp(request.param)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize("check", contract.SAMPLE_CHECKS)
def test_a_pretrained_model_keeps_the_contract(pretrained: Path, check: contract.Check) -> None:
    learner = CausalLM(str(pretrained), training=TRAINING)
    check(learner, _few(BLOCKS))


def _few(batch: Batch) -> Batch:
    return batch.take(np.arange(60))
