"""The small decoder as a model family: probabilities, prompts, packing, warm starts, weights, storage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from studbook.arrays import Batch, text
from studbook.errors import CheckpointError, ConfigError, DataError, FitError
from studbook.learners import Gpt
from studbook.learners.prompted import Prompted
from studbook.neural.options import Decoding, Training
from studbook.rng import stream

pytest.importorskip("torch")

WORDS = tuple("abcdef")
TRAINING = Training(epochs=30, batch=16, rate=1e-2)
SMALL = Gpt(layers=1, width=16, heads=2, training=TRAINING)


def cycle(n: int = 64, length: int = 8, start: int | None = None) -> Batch:
    """Blocks that count round a cycle of six words from a random (or a given) word."""
    first = np.random.default_rng(0).integers(6, size=n) if start is None else np.full(n, start)
    return text((first[:, None] + np.arange(length)) % 6, WORDS)


@pytest.fixture(scope="module")
def model():
    return SMALL.fit(cycle(), rng=stream(0))


def test_it_learns_the_rule(model):
    sample = model.sample(200, rng=stream(1)).values
    assert ((sample[:, 1:] - sample[:, :-1]) % 6 == 1).mean() > 0.95
    assert model.fit_report.loss < 0.4  # ln 6 / 8 = 0.22 is the best
    assert sample.dtype == np.int32


def test_probabilities_of_all_blocks_sum_to_one():
    blocks = text(np.array([[i // 4 % 2, i // 2 % 2, i % 2] for i in range(8)]), ("x", "y"))
    fitted = replace(SMALL, training=replace(TRAINING, epochs=3)).fit(blocks.take(np.array([0, 1, 5])), rng=stream(0))
    assert np.exp(fitted.log_prob(blocks)).sum() == pytest.approx(1.0, abs=1e-5)


def test_long_measurements_are_cut_into_parts(model, monkeypatch):
    from studbook.neural import language

    whole = model.log_prob(cycle(40))
    monkeypatch.setattr(language, "NUMBER_BYTES", {"cpu": 1})
    assert np.allclose(model.log_prob(cycle(40)), whole, atol=1e-4)


def test_blocks_continue_their_own_prompts():
    original = cycle(30)
    learner = replace(SMALL, context=16, decoding=Decoding(prompt=3, temperature=0.0)).condition_on(original)
    assert isinstance(learner, Prompted)
    fitted = learner.fit(cycle(64), rng=stream(0))
    sample = fitted.sample(30, rng=stream(1))
    assert (sample.values[:, 0] == (original.values[:, -1] + 1) % 6).mean() > 0.9
    shown = fitted.shown_prompts(30)
    assert shown is not None and np.array_equal(shown.values, original.values[:6, -3:])


@pytest.mark.parametrize(("n", "rows"), [(3, [0, 3, 6]), (10, list(range(10))), (12, [*range(10), 0, 1])])
def test_prompts_are_spread_over_the_original(n, rows):
    from studbook.neural.language import prompt_rows

    assert prompt_rows(n, 10).tolist() == rows


def test_short_continuations_are_put_end_to_end():
    learner = replace(SMALL, decoding=Decoding(prompt=2, max_new=3, temperature=0.0)).condition_on(cycle(30, start=0))
    sample = learner.fit(cycle(64), rng=stream(0)).sample(6, rng=stream(1)).values
    assert sample.shape == (6, 8)
    flat = sample.ravel()[:45].reshape(15, 3)  # every continuation of "b c" begins with "d"… here the prompts end in "b" (index 1)
    assert (flat == flat[0]).all()
    assert learner.fit(cycle(64), rng=stream(0)).shown_prompts(6) is None  # block i doesn't begin after prompt i


def test_a_continuation_ends_at_its_end_token():
    learner = replace(SMALL, context=16, decoding=Decoding(end="f", max_new=8, temperature=0.0, prompt=1)).condition_on(cycle(20, start=4))
    sample = learner.fit(cycle(64), rng=stream(0)).sample(5, rng=stream(1)).values.ravel()
    after = sample[1:][sample[:-1] == 5]
    # Prompts end in word 5 - after eight tokens from 4 -, so each continuation starts with 0 and stops at 5.
    assert (after == 0).all() and (sample == 5).sum() >= 5


def test_another_decoding_must_fit_the_context(model):
    with pytest.raises(ConfigError, match="don't fit into the model's context of 8"):
        model.with_decoding(Decoding(max_new=9)).sample(2, rng=stream(1))


def test_lone_surrogates_are_words_too(tmp_path):
    batch = text(np.tile([0, 1], (20, 4)), ("a", "\ud800"))
    learner = replace(SMALL, training=replace(TRAINING, epochs=1))
    learner.fit(batch, rng=stream(0)).save(tmp_path / "model")
    assert learner.load(tmp_path / "model", batch.space).space == batch.space


def test_weights_are_honoured():
    first, second = cycle(40, start=0), cycle(40, start=3)
    both = Batch(np.concatenate([first.values, second.values]), first.space, np.repeat([1.0, 0.05], 40))
    fitted = SMALL.fit(both, rng=stream(0))
    starts = fitted.sample(400, rng=stream(1)).values[:, 0]
    assert (starts == 0).mean() > 0.8  # unweighted it would be 0.5; twenty to one is 0.95


def test_a_warm_start_starts_there(model):
    idle = replace(SMALL, training=replace(TRAINING, epochs=1, rate=1e-12, weight_decay=0.0))
    again = idle.fit_from(model, cycle(), rng=stream(5))
    assert np.allclose(again.log_prob(cycle()), model.log_prob(cycle()), atol=1e-4)
    other = text(np.zeros((20, 8)), tuple("abcdeg"))
    with pytest.raises(FitError, match="another vocabulary"):
        idle.fit_from(model, other, rng=stream(0))


def test_storage_is_exact_and_checked(model, tmp_path):
    model.save(tmp_path / "m")
    again = SMALL.load(tmp_path / "m", model.space)
    assert np.array_equal(again.sample(9, rng=stream(3)).values, model.sample(9, rng=stream(3)).values)
    assert again.fit_report == model.fit_report
    with pytest.raises(CheckpointError, match="another architecture: its width is 16, expected 32"):
        replace(SMALL, width=32).load(tmp_path / "m", model.space)
    with pytest.raises(CheckpointError, match="another vocabulary"):
        SMALL.load(tmp_path / "m", replace(model.space, vocabulary=tuple("abcdez")))
    base = replace(SMALL, training=replace(TRAINING, base=str(tmp_path / "m")))
    assert base.own_base(model.space) is not None and SMALL.own_base(model.space) is None
    with pytest.raises(CheckpointError, match=r"there is no folder"):
        replace(SMALL, training=replace(TRAINING, base=str(tmp_path / "no"))).own_base(model.space)


def test_plain_takes_the_decoding_away(model):
    assert model.plain() is model
    sharp = model.with_decoding(Decoding(temperature=0.5, top_k=2))
    assert sharp.plain().learner.decoding == Decoding()


def test_a_failed_training_is_reported():
    wild = replace(SMALL, training=replace(TRAINING, rate=1e30, clip=0.0, optimizer="sgd", warmup=0.0))
    fitted = wild.fit(cycle(), rng=stream(0))
    assert fitted.fit_report.failure is not None
    assert fitted.sample(3, rng=stream(0)).values.shape == (3, 8)


@pytest.mark.parametrize(
    ("learner", "error", "message"),
    [
        (
            replace(SMALL, decoding=Decoding(prompt=3)),
            ConfigError,
            "3 tokens and 8 new ones don't fit into the model's context of 8",
        ),
        (replace(SMALL, decoding=Decoding(prompt=9)), ConfigError, "decoding.prompt is 9, the data's blocks have 8 tokens"),
        (replace(SMALL, decoding=Decoding(end="zebra")), ConfigError, "'zebra', which isn't in the vocabulary"),
        (replace(SMALL, context=4), ConfigError, "learner.context is 4"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(learner, error, message):
    with pytest.raises(error, match=message):
        learner.check_original(cycle())


def test_foreign_tokens_are_refused(model):
    with pytest.raises(DataError, match="token id 6"):
        model.log_prob(text(np.full((1, 8), 6), WORDS))
    with pytest.raises(DataError, match="the model sees 8 tokens"):
        model.log_prob(text(np.zeros((1, 9)), WORDS))
    with pytest.raises(FitError, match="needs text"):
        from studbook.arrays import numbers

        SMALL.check_original(numbers(np.zeros(3)))


def test_sizes_are_checked():
    with pytest.raises(ConfigError, match=r"not a multiple of learner\.heads"):
        Gpt(width=10, heads=4)
    with pytest.raises(ConfigError, match=r"learner\.layers is 0"):
        Gpt(layers=0)


def test_a_context_beyond_the_training_set_costs_no_more_than_the_training_set(monkeypatch):
    from studbook.neural import language

    seen = []
    plain = language.Windows.of
    monkeypatch.setattr(
        language.Windows, "of", lambda *args, context, **rest: seen.append(context) or plain(*args, context=context, **rest)
    )
    blocks = cycle()
    replace(SMALL, context=1 << 14, training=replace(TRAINING, epochs=1)).fit(blocks, rng=stream(0))
    assert seen == [blocks.values.size]
