"""Claims from end to end: made, signed, challenged, measured under a small calibration, voted on; and what cheats and liars get."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from studbook.errors import CalibrationError, CheckpointError, EvidenceError, RecordError, StudbookError, VerifierError
from studbook.provenance import SigningKey, open_signed, sign
from studbook.records import (
    Ballot,
    Calibration,
    Check,
    Claim,
    Environment,
    Evidence,
    ImageSampling,
    Opened,
    Outcome,
    Recipe,
    TextSampling,
    open_merkle,
)
from studbook.verification.calibration import Target
from studbook.verification.folder import Packet, pair
from studbook.verification.noise import TOKENS, words
from studbook.verification.quorum import Quorum, check_receipt, make_receipt
from studbook.verification.settings import Setting

pytest.importorskip("torch", reason="needs the extra 'neural'")

from studbook.arrays import text
from studbook.data import open_source
from studbook.data.python_docs import python_english
from studbook.learners import CausalLM, Diffusion
from studbook.neural.options import Training
from studbook.neural.tokens import train_bpe
from studbook.verification.calibrate import Plan, calibrate_pictures, calibrate_text, make_pictures, make_texts
from studbook.verification.claimant import (
    Made,
    answer,
    asked,
    claim_picture,
    claim_text,
    draw_pictures,
    load_states,
    save_states,
    write_texts,
)
from studbook.verification.language import TextEngine
from studbook.verification.models import ModelStore, RegisteredModel, register_model
from studbook.verification.pictures import ImageEngine
from studbook.verification.verifier import IMPOSSIBLE, Examination, Verifier

pytestmark = pytest.mark.xdist_group("claims")  # its models and calibrations are made once

OWN = Environment()
BF16 = replace(OWN, dtype="bf16")
SIDE = replace(BF16, batch=4)
HONEST = tuple(Setting(str(each), each) for each in (OWN, BF16, SIDE))
TARGET = Target(0.3, 0.8)
UNITS = 16
LENGTH = 16
TEXTS = {
    "greedy": TextSampling(max_new=LENGTH),
    "sampled": TextSampling(max_new=LENGTH, temperature=0.9),
    "truncated": TextSampling(max_new=LENGTH, temperature=1.1, top_k=20, top_p=0.9),
    "beams": TextSampling(max_new=LENGTH, beams=3),
}
PICTURES = {
    "order 1": ImageSampling(steps=8),
    "order 2": ImageSampling(steps=8, order=2),
    "eta": ImageSampling(steps=8, eta=0.7),
    "guided": ImageSampling(steps=8, guidance=1.0),
}


# Models and calibrations


def train_text(folder: Path, seed: int) -> Path:
    document = python_english()[:60_000]
    encoder = train_bpe([document], 400)
    ids = encoder.encode([document])
    blocks = text(ids[: len(ids) // 64 * 64].reshape(-1, 64), encoder.vocabulary)
    training = Training(epochs=2, batch=32, rate=3e-3)
    learner = CausalLM("llama-tiny", layers=2, width=48, heads=4, context=128, training=training)
    learner.fit(blocks, rng=np.random.default_rng(seed)).save(folder)
    encoder.tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_text(tmp_path_factory.mktemp("text") / "model", 0)


@pytest.fixture(scope="module")
def text_model(text_folder: Path) -> RegisteredModel:
    return register_model(text_folder)


@pytest.fixture(scope="module")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> RegisteredModel:
    folder = tmp_path_factory.mktemp("image") / "model"
    learner = Diffusion(conditional=True, guidance=1.0, training=Training(epochs=12))
    learner.fit(open_source("digits").load().records, rng=np.random.default_rng(0)).save(folder)
    return register_model(folder)


@pytest.fixture(scope="module")
def engine(text_model: RegisteredModel) -> TextEngine:
    return TextEngine(text_model, OWN)


@pytest.fixture(scope="module")
def requests(engine: TextEngine) -> list[str]:
    """Prompts of 12 tokens each."""
    document, found, start = python_english()[:60_000], [], 0
    while len(found) < 2 * UNITS + 8:
        start += 997
        for length in range(12, 60):
            if len(engine.encode(document[start : start + length])) == 13:
                found.append(document[start : start + length])
                break
    return found


@pytest.fixture(scope="module")
def text_calibrations(text_model: RegisteredModel, requests: list[str]) -> dict[str, Calibration]:
    plan = Plan(settings=HONEST, target=TARGET)
    return {name: calibrate_text(text_model, requests[:UNITS], sampling, plan)[0] for name, sampling in TEXTS.items()}


@pytest.fixture(scope="module")
def image_calibrations(image_model: RegisteredModel) -> dict[str, Calibration]:
    plan = Plan(settings=HONEST, target=TARGET)
    return {name: calibrate_pictures(image_model, 2 * UNITS, sampling, plan) for name, sampling in PICTURES.items()}


@pytest.fixture(scope="module")
def text_verifier(text_model: RegisteredModel, text_calibrations: dict[str, Calibration]) -> Verifier:
    return Verifier(ModelStore([text_model.folder]), text_calibrations.values())


@pytest.fixture(scope="module")
def image_verifier(image_model: RegisteredModel, image_calibrations: dict[str, Calibration]) -> Verifier:
    return Verifier(ModelStore([image_model.folder]), image_calibrations.values())


def round_of(made: Made, number: int = 0) -> str:
    """A round that is the same in every run of the tests."""
    return hashlib.sha256(f"{made.claim.commitment} {number}".encode()).hexdigest()[:32]


CLAIMANT = SigningKey.generate()


def packed(claim: Claim, evidence: Evidence) -> Packet:
    """Signed by their claimant, and opened again: as they come from outside."""
    return pair(open_signed(sign(claim, CLAIMANT), Claim, "claim.json"), open_signed(sign(evidence, CLAIMANT), Evidence, "evidence.json"))


def examination(verifier: Verifier, made: Made) -> Examination:
    """Of a claim that is answered honestly."""
    round_ = round_of(made)
    return verifier.examine(packed(made.claim, answer(made.claim, made.states, round_)), round_)


def examined(verifier: Verifier, made: Made) -> bool:
    """Whether a claim that is answered honestly is accepted, and nothing about it contradicts itself."""
    found = examination(verifier, made)
    assert not found.contradiction
    return found.ballot.accepts


def check_contradiction(found: Examination, name: str = "contradiction", *, says: str = "") -> None:
    """Return nothing where a ballot rejects what can't be, in a form that can be sent and counted, and says why."""
    ballot = found.ballot
    assert found.contradiction and says in found.contradiction
    assert not ballot.accepts and ballot.finding("execution") is False
    assert ballot.checks == (Check("execution", name, 1.0, 0.0, 1),)
    assert [ballot.finding("identity"), ballot.finding("behaviour")] == [None, None]
    assert open_signed(sign(ballot, CLAIMANT), Ballot, "ballot.json").record == ballot


def vote_on(verifier: Verifier, made: Made) -> tuple[Outcome, Claim]:
    """From the signed claim to the receipt, all of it through bytes."""
    claimant, coordinator, voters = SigningKey.generate(), SigningKey.generate(), [SigningKey.generate() for _ in range(3)]
    signed_claim, round_ = sign(made.claim, claimant), round_of(made)
    signed_evidence = sign(answer(open_signed(signed_claim, Claim, "claim").record, made.states, round_), claimant)
    claim = open_signed(signed_claim, Claim, "claim.json", keys={claimant.public})
    packet = pair(claim, open_signed(signed_evidence, Evidence, "evidence.json", keys={claimant.public}))
    quorum = Quorum(2, tuple(voter.public for voter in voters))
    ballots = [sign(verifier.examine(packet, round_, quorum.electorate).ballot, voter) for voter in voters]
    receipt = make_receipt(signed_claim, ballots, quorum, round_, coordinator, made="2026-01-31T12:00:00Z")
    opened, claimed = check_receipt(receipt, coordinators={coordinator.public}, quorum=quorum)
    assert (opened.key, claimed.key) == (coordinator.public, claimant.public)
    return opened.record.verdict.outcome, claimed.record


# Honest claims


@pytest.mark.parametrize("name", TEXTS)
def test_an_honest_text_is_accepted_from_end_to_end(name: str, engine: TextEngine, text_verifier: Verifier, requests: list[str]) -> None:
    for made in write_texts(engine, requests[UNITS : UNITS + 2], TEXTS[name], [1, 2**53 - 1]):
        outcome, claim = vote_on(text_verifier, made)
        assert outcome is Outcome.ACCEPT and claim == made.claim
        assert len(claim.tokens) == LENGTH and made.text == engine.decode(claim.tokens)


@pytest.mark.parametrize("name", PICTURES)
def test_an_honest_picture_is_accepted_from_end_to_end(
    name: str, image_model: RegisteredModel, image_verifier: Verifier, image_calibrations: dict[str, Calibration]
) -> None:
    step_only = Verifier(ModelStore([image_model.folder]), [image_calibrations[name]], whole=False)
    for made in draw_pictures(ImageEngine(image_model, OWN), ["3", "7"], PICTURES[name], [1, 2**53 - 1]):
        assert vote_on(image_verifier, made)[0] is Outcome.ACCEPT
        assert vote_on(step_only, made)[0] is Outcome.ACCEPT
        assert made.pixels is not None and made.pixels.dtype == np.uint8 and made.pixels.std() > 0


@pytest.mark.parametrize("name", ["greedy", "sampled", "beams"])
def test_honest_texts_of_other_number_types_and_batches_are_mostly_accepted(
    name: str, text_model: RegisteredModel, text_verifier: Verifier, requests: list[str]
) -> None:
    """12 fresh prompts in each of three environments.

    The promise is a false-alarm rate of at most 0.3, held with confidence 0.8; seeded: at
    most half of them may be rejected."""
    for setting in HONEST:
        made = make_texts(text_model, requests[UNITS : UNITS + 12], TEXTS[name], setting, 77)
        accepted = sum(examined(text_verifier, each) for each in made)
        assert accepted >= 6, f"{setting.name}: {accepted} of 12"


@pytest.mark.parametrize("name", PICTURES)
def test_honest_pictures_of_other_number_types_and_batches_are_mostly_accepted(
    name: str, image_model: RegisteredModel, image_verifier: Verifier
) -> None:
    """As of texts."""
    for setting in HONEST:
        accepted = sum(examined(image_verifier, each) for each in make_pictures(image_model, 12, PICTURES[name], setting, 77))
        assert accepted >= 6, f"{setting.name}: {accepted} of 12"


@pytest.mark.parametrize("name", ["sampled", "truncated"])
def test_any_position_of_a_sampled_text_is_checked_alone(
    name: str, text_model: RegisteredModel, engine: TextEngine, requests: list[str]
) -> None:
    """By transformers' own forward pass over the text before it, and the noise of that position, in NumPy; in no order."""
    import torch
    from transformers import AutoModelForCausalLM

    sampling, seed = TEXTS[name], 99
    prompt = engine.encode(requests[UNITS])
    tokens = engine.write([prompt], sampling, [seed])[0]
    network = AutoModelForCausalLM.from_pretrained(text_model.folder).eval()
    for position in np.random.default_rng(0).permutation(LENGTH):
        with torch.inference_mode():
            logits = network(torch.tensor([[*prompt, *tokens[:position]]])).logits[0, -1, : engine.vocabulary].double().numpy()
        scaled = logits / sampling.temperature
        order = np.argsort(-scaled)
        kept = order[: sampling.top_k or len(order)]
        share = np.exp(scaled[kept] - scaled[kept[0]])
        kept = kept[: 1 + int(np.searchsorted(np.cumsum(share / share.sum()), sampling.top_p - 1e-9))] if sampling.top_p < 1 else kept
        uniform = (words(seed, TOKENS, int(position), len(logits)) + 0.5) * 2.0**-32
        noisy = scaled - np.log(-np.log(uniform))
        assert tokens[position] == kept[noisy[kept].argmax()]
        # What follows a position, and what is claimed there, is nothing to it.
        junk = [*tokens[:position], (tokens[position] + 1) % engine.vocabulary]
        reading = engine.read(prompt, junk, sampling, seed)
        assert reading.drawn[position] == tokens[position] and reading.margins[position] > 0
        assert (reading.margins[:position] == 0).all()


def test_seeds_and_requests_make_the_text(engine: TextEngine, requests: list[str]) -> None:
    prompts = [engine.encode(request) for request in requests[:4]]
    alone = [engine.write([prompt], TEXTS["sampled"], [seed])[0] for seed, prompt in enumerate(prompts)]
    assert engine.write(prompts, TEXTS["sampled"], [0, 1, 2, 3]) == alone
    assert engine.write(prompts[:1], TEXTS["sampled"], [1])[0] != alone[0]


# Cheats

TEXT_CHEATS = [
    ("int4 weights", Setting("x", OWN, weight_bits=4), 9),
    ("another prompt", Setting("x", OWN, trick="prompt"), 12),
    ("another seed", Setting("x", OWN, trick="seed"), 12),
    ("half the layers", Setting("x", OWN, trick="layers"), 12),
    ("another prompt in bf16", Setting("x", SIDE, trick="prompt"), 12),
    ("one junk token", Setting("x", OWN, trick="junk"), 9),
]


@pytest.mark.parametrize("name, setting, least", TEXT_CHEATS, ids=[each[0] for each in TEXT_CHEATS])
def test_cheats_in_texts_are_caught(
    name: str, setting: Setting, least: int, text_model: RegisteredModel, text_verifier: Verifier, requests: list[str]
) -> None:
    """12 sampled texts a cheat, seeded; at least so many are rejected."""
    made = make_texts(text_model, requests[UNITS : UNITS + 12], TEXTS["sampled"], setting, 5)
    rejected = sum(not examined(text_verifier, each) for each in made)
    assert rejected >= least, f"{name}: {rejected} of 12"


IMAGE_CHEATS = [
    ("int4 weights", Setting("x", OWN, weight_bits=4), 8),
    ("another class", Setting("x", OWN, trick="prompt"), 10),
    ("another seed", Setting("x", OWN, trick="seed"), 12),
    ("half the steps", Setting("x", OWN, trick="steps"), 12),
]


@pytest.mark.parametrize("name, setting, least", IMAGE_CHEATS, ids=[each[0] for each in IMAGE_CHEATS])
@pytest.mark.parametrize("sampling", ["order 1", "eta"])
def test_cheats_in_pictures_are_caught(
    name: str, setting: Setting, least: int, sampling: str, image_model: RegisteredModel, image_verifier: Verifier
) -> None:
    """12 pictures a cheat, seeded; at least so many are rejected."""
    made = make_pictures(image_model, 12, PICTURES[sampling], setting, 5)
    rejected = sum(not examined(image_verifier, each) for each in made)
    assert rejected >= least, f"{name}: {rejected} of 12"


# What can't be judged is an error, and nobody's vote


@pytest.fixture(scope="module")
def honest(engine: TextEngine, requests: list[str]) -> Made:
    return write_texts(engine, requests[UNITS : UNITS + 1], TEXTS["sampled"], [3])[0]


@pytest.fixture(scope="module")
def drawn(image_model: RegisteredModel) -> Made:
    return draw_pictures(ImageEngine(image_model, OWN), ["3"], PICTURES["order 1"], [3])[0]


def reclaimed(made: Made, engine: TextEngine, tokens: list[int], **recipe: object) -> Made:
    """The honest way to claim other tokens: with their hidden states."""
    changed: Recipe = replace(made.claim.recipe, **recipe)
    assert isinstance(changed.sampling, TextSampling)
    reading = engine.read(engine.encode(changed.request), tokens, changed.sampling, changed.seed)
    return claim_text(engine, changed, tokens, reading.hidden)


@pytest.mark.parametrize("n", [1, 4, 7])
def test_a_text_too_short_says_how_many_more_tokens(n: int, honest: Made, engine: TextEngine, text_verifier: Verifier) -> None:
    short = reclaimed(honest, engine, list(honest.claim.tokens[:n]), sampling=replace(TEXTS["sampled"], max_new=n))
    with pytest.raises(CalibrationError, match=f"the text has {n} tokens, the calibration begins at 8") as caught:
        examined(text_verifier, short)
    assert caught.value.hint is not None and caught.value.hint.startswith(f"{8 - n} more are needed")


def test_too_few_prompts_or_pictures_say_how_many_more(
    text_model: RegisteredModel, image_model: RegisteredModel, requests: list[str]
) -> None:
    plan = Plan(settings=HONEST, target=TARGET)
    with pytest.raises(CalibrationError, match="12 units can't bound") as caught:
        calibrate_text(text_model, requests[:12], TEXTS["greedy"], plan)
    assert "1 more are needed (13 in all)" in str(caught.value)
    with pytest.raises(CalibrationError, match="1 units can't bound"):
        calibrate_pictures(image_model, 1, PICTURES["order 1"], plan)


def test_the_wrong_model_of_the_right_name_is_not_run(
    text_folder: Path, text_calibrations: dict[str, Calibration], honest: Made, tmp_path: Path
) -> None:
    impostor = train_text(tmp_path / text_folder.name, 1)
    verifier = Verifier(ModelStore([impostor]), text_calibrations.values())
    with pytest.raises(VerifierError, match="isn't registered here"):
        examined(verifier, honest)
    assert register_model(impostor).digest != honest.claim.recipe.model


def test_a_model_that_makes_something_else_is_not_run(
    text_folder: Path, image_model: RegisteredModel, image_verifier: Verifier, drawn: Made, honest: Made
) -> None:
    store = ModelStore([text_folder, image_model.folder])
    with pytest.raises(VerifierError, match="makes images"):
        store.find(image_model.digest, "text")
    swapped = replace(honest.claim, recipe=replace(honest.claim.recipe, model=image_model.digest))
    with pytest.raises(VerifierError, match="makes images"):
        image_verifier.examine(packed(swapped, answer(swapped, honest.states, round_of(honest))), round_of(honest))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "generation_config.json"])
def test_the_digest_binds_every_file_that_is_read(name: str, text_folder: Path, tmp_path: Path) -> None:
    """generation_config.json says how many tokens are suppressed: it changes what the engine draws from."""
    copy = tmp_path / "model"
    shutil.copytree(text_folder, copy)
    assert register_model(copy).digest == register_model(text_folder).digest
    data = bytearray((copy / name).read_bytes())
    data[-2] ^= 1
    (copy / name).write_bytes(bytes(data))
    assert register_model(copy).digest != register_model(text_folder).digest


def replace_model(how: str, copy: Path, tmp_path: Path) -> None:
    if how == "zeros in the weights":
        data = bytearray((copy / "model.safetensors").read_bytes())
        data[-40:] = bytes(40)
        (copy / "model.safetensors").write_bytes(bytes(data))
    elif how == "another model":  # whole, with all that says that it is in order
        shutil.copytree(train_text(tmp_path / "other", 1), copy, dirs_exist_ok=True)
    else:
        (copy / "generation_config.json").write_text("{}")


REPLACED = ["zeros in the weights", "another model", "other settings"]


@pytest.mark.parametrize("how", REPLACED)
def test_models_that_are_replaced_after_they_were_registered_are_not_run(
    how: str, text_folder: Path, text_calibrations: dict[str, Calibration], honest: Made, tmp_path: Path
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(text_folder, copy)
    verifier = Verifier(ModelStore([copy]), text_calibrations.values())
    replace_model(how, copy, tmp_path)
    with pytest.raises(CheckpointError, match="was changed"):
        examined(verifier, honest)


@pytest.mark.parametrize("how", REPLACED)
def test_replaced_models_are_not_run_for_a_second_claim_either(
    how: str, text_folder: Path, text_calibrations: dict[str, Calibration], honest: Made, tmp_path: Path
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(text_folder, copy)
    verifier = Verifier(ModelStore([copy]), text_calibrations.values())
    replace_model(how, copy, tmp_path)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="was changed"):
            examined(verifier, honest)


def test_an_index_of_weights_is_bound_too(text_folder: Path, tmp_path: Path) -> None:
    """model.safetensors.index.json says which file a tensor is taken from."""
    copy = tmp_path / "model"
    shutil.copytree(text_folder, copy)
    before = register_model(copy)
    assert before.check() is None
    (copy / "model.safetensors.index.json").write_text("{}")
    assert register_model(copy).digest != before.digest
    with pytest.raises(CheckpointError, match="changed since it was registered"):
        before.check()


def test_folders_without_a_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no folder"):
        register_model(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="has no safetensors"):
        register_model(tmp_path)
    for data in (b"", b"\0" * 8, (1 << 40).to_bytes(8, "little"), (4).to_bytes(8, "little") + b"nope", (2).to_bytes(8, "little") + b"{}"):
        (tmp_path / "model.safetensors").write_bytes(data)
        with pytest.raises(CheckpointError, match="doesn't say what it is"):
            register_model(tmp_path)


def test_environments_and_samplings_that_are_not_covered_are_not_judged(honest: Made, drawn: Made, engine: TextEngine,
    text_model: RegisteredModel, text_calibrations: dict[str, Calibration], image_verifier: Verifier) -> None:  # fmt: skip
    text_verifier = Verifier(ModelStore([text_model.folder]), [text_calibrations["sampled"]])
    tokens = list(honest.claim.tokens)
    for recipe, message in (
        ({"environment": replace(OWN, engine="transformers")}, "doesn't cover the environment"),
        ({"environment": replace(OWN, device="cuda")}, "doesn't cover the environment"),
        ({"environment": replace(OWN, threads=2)}, "doesn't cover the environment"),
        ({"environment": replace(OWN, batch=4)}, "doesn't cover the environment"),
        ({"environment": replace(SIDE, batch=5)}, "doesn't cover the environment"),
        ({"sampling": replace(TEXTS["sampled"], temperature=0.91)}, "the claim has"),
        ({"sampling": replace(TEXTS["sampled"], top_k=3)}, "the claim has"),
        ({"sampling": replace(TEXTS["sampled"], temperature=0.0, beams=4)}, "the claim has"),
    ):
        with pytest.raises(CalibrationError, match=message):
            examined(text_verifier, reclaimed(honest, engine, tokens, **recipe))
    for sampling in (ImageSampling(steps=9), ImageSampling(steps=8, guidance=5.0), ImageSampling(steps=8, eta=0.1)):
        other = replace(drawn.claim, recipe=replace(drawn.claim.recipe, sampling=sampling))
        with pytest.raises(CalibrationError, match="the claim has"):
            image_verifier.examine(packed(other, answer(other, drawn.states, round_of(drawn))), round_of(drawn))
    with pytest.raises(CalibrationError, match="no calibration of the model"):
        examined(Verifier(text_verifier.models, []), honest)
    assert text_verifier.find_calibration(reclaimed(honest, engine, tokens, environment=replace(SIDE, batch=3)).claim)


def test_tokens_and_classes_that_the_model_does_not_have_are_rejected(
    honest: Made, drawn: Made, engine: TextEngine, text_verifier: Verifier, image_verifier: Verifier
) -> None:
    for token in (engine.vocabulary, 2**31 - 1):
        made = claim_text(engine, honest.claim.recipe, [*honest.claim.tokens[:-1], token], honest.states)
        check_contradiction(examination(text_verifier, made), IMPOSSIBLE, says=f"the claim has the token {token}")
    long = replace(honest.claim.recipe, request=200 * "long ")
    found = examination(text_verifier, claim_text(engine, long, honest.claim.tokens, honest.states))
    check_contradiction(found, IMPOSSIBLE, says="the model sees 128")
    for request in ("", "11", "03"):
        other = claim_picture(replace(drawn.claim.recipe, request=request), drawn.pixels, drawn.states)
        check_contradiction(examination(image_verifier, other), IMPOSSIBLE, says="the request asks for the class")


# Evidence


def bad_text_evidence(made: Made, round_: str, engine: TextEngine, requests: list[str]) -> Iterator[tuple[str, Claim, Evidence]]:
    claim, states = made.claim, made.states
    good = answer(claim, states, round_)
    other = write_texts(engine, requests[:1], TEXTS["sampled"], [4])[0]
    yield "of another claim", claim, answer(other.claim, other.states, round_)
    yield "of another claim, renamed", claim, replace(answer(other.claim, other.states, round_), claim=claim.id)
    yield "of the same output, claimed again", replace(claim, nonce=32 * "0"), good
    yield "replayed under another nonce", claim, replace(answer(claim, states, round_of(made, 1)), nonce=round_)
    yield "without projections", claim, replace(good, projections=None)
    assert good.projections is not None
    bits = good.projections.bits
    yield "with projections of fewer tokens", claim, replace(good, projections=replace(good.projections, bits=bits[:-8]))
    yield "with projections of more tokens", claim, replace(good, projections=replace(good.projections, bits=bits + bits[:8]))
    yield (
        "with projections under another key",
        claim,
        replace(good, projections=replace(good.projections, parameters=(("key", 64 * "0"), ("size", 8)))),
    )
    for place in asked(claim, round_, LENGTH):
        row = bytes([*bits[: 8 * place], *(b ^ 0x55 for b in bits[8 * place : 8 * place + 8]), *bits[8 * place + 8 :]])
        yield f"with another projection of the opened row {place}", claim, replace(good, projections=replace(good.projections, bits=row))
    yield "with openings in another order", claim, replace(good, opened=good.opened[::-1])
    yield "with one opening", claim, replace(good, opened=good.opened[:1])
    yield "with an opening twice", claim, replace(good, opened=(good.opened[0], *good.opened))
    yield "with another value", claim, replace(good, opened=(replace(good.opened[0], data=good.opened[1].data), good.opened[1]))
    rows = [row.astype("<f4").tobytes() for row in states]
    places = [i for i in range(LENGTH) if i not in asked(claim, round_, LENGTH)][:2]
    yield "with rows that nobody asked for", claim, replace(good, opened=tuple(Opened.of(rows[i], open_merkle(rows, i)) for i in places))
    yield "with a value that isn't base64", claim, replace(good, opened=(replace(good.opened[0], data="!"), good.opened[1]))
    cut = Opened.of(rows[0][:-4], good.opened[0].opening)
    yield "with a value cut off", claim, replace(good, opened=(cut, good.opened[1]))
    # Committed to honestly, but to something else.
    for name, committed in (
        ("random states", np.random.default_rng(0).normal(size=states.shape)), ("states moved by one", np.roll(states, 1, axis=0)),
        ("states of another width", states[:, :-1]), ("states that aren't finite", np.where(states > 1, np.inf, states)),
        ("the states of a longer text", np.vstack([states, states])), ("the states of a shorter text", states[:-1]),
    ):  # fmt: skip
        values = [row.astype("<f4").tobytes() for row in committed]
        wrong = claim_text(engine, claim.recipe, claim.tokens, committed).claim
        from studbook.fingerprints.activations import Activations, projection_key

        opened = tuple(Opened.of(values[i], open_merkle(values, i)) for i in asked(wrong, round_, len(values)))
        shown = Activations().digest(states, projection_key(wrong.commitment, round_))
        yield (
            f"with projections of the right states, committed to {name}",
            wrong,
            Evidence(claim=wrong.id, nonce=round_, projections=shown, opened=opened),
        )
    wrong = replace(claim, digests=(replace(claim.digests[0], bits=bytes(32)),))
    yield "for a claim with the digest of another text", wrong, replace(good, claim=wrong.id)


def refused(claim: Claim, evidence: Evidence) -> bool:
    """Whether the two don't even make a packet, as the evidence says that it is for another claim."""
    try:
        packed(claim, evidence)
    except RecordError as error:
        assert "the evidence is for another claim" in str(error)
        return True
    return False


def test_evidence_that_contradicts_a_text_is_rejected(
    honest: Made, engine: TextEngine, text_verifier: Verifier, requests: list[str]
) -> None:
    round_, n, n_refused = round_of(honest), 0, 0
    assert examined(text_verifier, honest)
    for name, claim, evidence in bad_text_evidence(honest, round_, engine, requests):
        if refused(claim, evidence):
            assert name in {"of another claim", "of the same output, claimed again"}
            n_refused += 1
            continue
        n += 1
        found = text_verifier.examine(packed(claim, evidence), round_)
        assert found.contradiction, f"evidence {name} contradicts nothing"
        check_contradiction(found)
    assert n > 20 and n_refused == 2


def test_evidence_that_contradicts_a_picture_is_rejected(drawn: Made, image_model: RegisteredModel, image_verifier: Verifier) -> None:
    claim, round_ = drawn.claim, round_of(drawn)
    good = answer(claim, drawn.states, round_)
    assert image_verifier.examine(packed(claim, good), round_).ballot.accepts
    other = draw_pictures(ImageEngine(image_model, OWN), ["3"], PICTURES["order 1"], [4])[0]
    values = [np.ascontiguousarray(state, "<f4").tobytes() for state in drawn.states]
    changed = values[0][:-4] + np.float32(7.0).tobytes()
    cases = {
        "of another claim, renamed": replace(answer(other.claim, other.states, round_), claim=claim.id),
        "in another order": replace(good, opened=good.opened[::-1]),
        "without the picture": replace(good, opened=good.opened[:-1]),
        "without the start": replace(good, opened=good.opened[1:]),
        "with another start": replace(good, opened=(Opened.of(changed, good.opened[0].opening), *good.opened[1:])),
        "with a value cut off": replace(good, opened=(Opened.of(values[0][:-4], good.opened[0].opening), *good.opened[1:])),
        "of all states": replace(good, opened=tuple(Opened.of(value, open_merkle(values, i)) for i, value in enumerate(values))),
    }
    assert refused(claim, answer(other.claim, other.states, round_))
    for name, evidence in cases.items():
        found = image_verifier.examine(packed(claim, evidence), round_)
        assert found.contradiction, f"evidence {name} contradicts nothing"
        check_contradiction(found)
    pixels = drawn.pixels.copy()
    pixels[::2] = 255 - pixels[::2]
    for shown, states in ((pixels, drawn.states), (drawn.pixels, drawn.states[:-1])):
        wrong = claim_picture(claim.recipe, shown, states).claim
        check_contradiction(image_verifier.examine(packed(wrong, answer(wrong, states, round_)), round_))


def test_digests_that_this_version_does_not_make_get_no_ballot(
    honest: Made, drawn: Made, text_verifier: Verifier, image_verifier: Verifier
) -> None:
    """One left out, renamed, of another version or with other parameters: nothing can be said, neither for the claimant nor against it."""
    for made, verifier in ((honest, text_verifier), (drawn, image_verifier)):
        first, *others = made.claim.digests
        for digests in (
            tuple(others), (replace(first, scheme="other"), *others), (replace(first, version=9), *others),
            (replace(first, parameters=(("note", 1),)), *others),
        ):  # fmt: skip
            if digests:
                claim = replace(made.claim, digests=digests)
                evidence = answer(claim, made.states, round_of(made))
                with pytest.raises(VerifierError, match=f"the claim's {first.scheme} is |the claim has a digest other"):
                    pytest.fail(str(verifier.examine(packed(claim, evidence), round_of(made))))


def test_a_digest_that_nobody_looks_at_is_not_accepted(
    honest: Made, drawn: Made, text_verifier: Verifier, image_verifier: Verifier
) -> None:
    """Else a receipt vouches for it: the digest of any picture at all, under a name that isn't known here."""
    for made, verifier in ((honest, text_verifier), (drawn, image_verifier)):
        claim = replace(made.claim, digests=(*made.claim.digests, replace(made.claim.digests[0], scheme="other", bits=bytes(8))))
        packet = packed(claim, answer(claim, made.states, round_of(made)))
        try:
            accepted = verifier.examine(packet, round_of(made)).ballot.accepts
        except StudbookError:
            continue
        assert not accepted


def test_a_contradiction_counts_as_a_vote(drawn: Made, image_verifier: Verifier) -> None:
    """Whoever sends what can't be is rejected, and not merely without a verdict: both are signed by the claimant."""
    round_, voters, coordinator = round_of(drawn), [SigningKey.generate() for _ in range(3)], SigningKey.generate()
    quorum = Quorum(2, tuple(voter.public for voter in voters))
    good = answer(drawn.claim, drawn.states, round_)
    packet = packed(drawn.claim, replace(good, opened=good.opened[:-1]))
    ballots = [sign(image_verifier.examine(packet, round_, quorum.electorate).ballot, voter) for voter in voters]
    receipt = make_receipt(packet.claim.data, ballots, quorum, round_, coordinator, made="2026-01-31T12:00:00Z")
    verdict = check_receipt(receipt, quorum=quorum)[0].record.verdict
    assert (verdict.outcome, verdict.rejects) == (Outcome.REJECT, 3)
    tally = next(each for each in verdict.findings if each.finding == "execution")
    assert tally.broken == ("contradiction",)


def test_a_calibration_of_what_claims_do_not_hold_rejects_nobody(
    drawn: Made, image_model: RegisteredModel, image_calibrations: dict[str, Calibration]
) -> None:
    """The claim has all the digests that a claim has: that the calibration is of another one is the operator's fault, and no vote."""
    good = image_calibrations["order 1"]
    level = good.levels[0]
    features = tuple(
        replace(each, name="other distance in bits") if each.finding == "behaviour" else each for each in level.features
    )  # fmt: skip
    assert features != level.features
    wrong = replace(good, levels=(replace(level, features=features),))
    with pytest.raises(CalibrationError):
        examination(Verifier(ModelStore([image_model.folder]), [wrong]), drawn)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38, -3e38, 1e6])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_states_beyond_all_bounds_are_rejected(value: float, drawn: Made, image_verifier: Verifier) -> None:
    states = drawn.states.copy()
    states[:-1] = np.float32(value)
    made = claim_picture(drawn.claim.recipe, drawn.pixels, states)
    key = SigningKey.generate()
    for number in range(12):  # so that every step is drawn
        round_ = round_of(made, number)
        ballot = image_verifier.examine(packed(made.claim, answer(made.claim, states, round_)), round_).ballot
        assert not ballot.accepts
        assert open_signed(sign(ballot, key), type(ballot), "ballot.json").record == ballot


def test_evidence_answers_the_challenge_of_this_round(honest: Made, drawn: Made, text_verifier: Verifier, image_verifier: Verifier) -> None:
    """A claimant that chooses its own nonce tries until what is drawn is what it did honestly."""
    for made, verifier in ((honest, text_verifier), (drawn, image_verifier)):
        lax = Verifier(verifier.models, verifier.calibrations, offline=True)
        other = packed(made.claim, answer(made.claim, made.states, round_of(made)))
        offline = packed(made.claim, answer(made.claim, made.states))
        for each, packet in ((verifier, other), (verifier, offline), (lax, other)):
            with pytest.raises(EvidenceError, match="another challenge than this round's"):
                each.examine(packet, round_of(made, 1))
        found = lax.examine(offline, round_of(made, 1))
        assert not found.contradiction and found.ballot.round == round_of(made, 1)


def test_a_ballot_names_claimant_and_electorate(drawn: Made, image_verifier: Verifier) -> None:
    round_, company = round_of(drawn), "sha256:" + 64 * "c"
    packet = packed(drawn.claim, answer(drawn.claim, drawn.states, round_))
    ballot = image_verifier.examine(packet, round_, company).ballot
    assert (ballot.claim, ballot.claimant, ballot.electorate) == (drawn.claim.id, str(CLAIMANT.public), company)
    assert (ballot.task, ballot.round) == (drawn.claim.recipe.task, round_)
    assert image_verifier.examine(packet, round_).ballot == replace(ballot, electorate="")


def test_a_picture_of_ones_choice_is_not_accepted_by_way_of_a_chosen_nonce(
    drawn: Made, image_model: RegisteredModel, image_calibrations: dict[str, Calibration]
) -> None:
    """All steps are honest but the last, which leaps to any picture at all; the nonce is chosen so that another step is drawn."""
    verifier = Verifier(ModelStore([image_model.folder]), [image_calibrations["order 1"]], whole=False)
    engine, states = ImageEngine(image_model, OWN), drawn.states.copy()
    states[-1] = np.sign(np.add.outer(np.arange(8), np.arange(8)) % 2 - 0.5)
    forged = claim_picture(drawn.claim.recipe, engine.pixels_of(states[-1][None])[0], states)
    round_ = round_of(forged)
    nonce = next(
        f"{i:032x}" for i in range(99) if asked(forged.claim, f"{i:032x}", 9)[-2] < 7 and len(asked(forged.claim, f"{i:032x}", 9)) == 4
    )
    packet = packed(forged.claim, answer(forged.claim, states, nonce))
    with pytest.raises(EvidenceError):
        pytest.fail(str(verifier.examine(packet, round_).ballot.accepts))
    # The challenge of such a nonce, were it the round, is answered: this is why the claimant mustn't choose it.
    assert verifier.examine(packet, nonce).ballot.accepts


# Texts that aren't what was asked for


@pytest.mark.parametrize("name", ["greedy", "sampled", "beams"])
def test_a_text_that_was_cut_off_is_not_accepted(name: str, engine: TextEngine, text_verifier: Verifier, requests: list[str]) -> None:
    """The recipe says 16 tokens, and none of them ends the text: eight aren't what it gives."""
    made = write_texts(engine, requests[UNITS : UNITS + 1], TEXTS[name], [3])[0]
    short = reclaimed(made, engine, list(made.claim.tokens[:8]))
    assert not examination(text_verifier, short).ballot.accepts


@pytest.mark.parametrize("length", range(8, LENGTH + 1))
def test_junk_is_found_wherever_it_is(length: int, honest: Made, engine: TextEngine, text_verifier: Verifier) -> None:
    """Texts of every length between the calibrated 8 and 16: each is judged, and none of its tokens may go unlooked at."""
    tokens, sampling = list(honest.claim.tokens[:length]), replace(TEXTS["sampled"], max_new=length)
    assert {check.n for check in examination(text_verifier, reclaimed(honest, engine, tokens, sampling=sampling)).ballot.checks} == {
        8 if length < LENGTH else LENGTH
    }
    for place in range(length):
        changed = [*tokens]
        changed[place] = (changed[place] + 200) % engine.vocabulary
        made = reclaimed(honest, engine, changed, sampling=sampling)
        assert not examined(text_verifier, made), f"junk at token {place} of {length} was accepted"


def test_honest_texts_of_every_length_are_mostly_accepted(engine: TextEngine, text_verifier: Verifier, requests: list[str]) -> None:
    """Nine lengths, four fresh prompts each; seeded, with the false-alarm rate of 0.3 at either end: at most half may be rejected."""
    accepted = 0
    for length in range(8, LENGTH + 1):
        sampling = replace(TEXTS["sampled"], max_new=length)
        made = write_texts(engine, requests[UNITS : UNITS + 4], sampling, [length, 21, 22, 23])
        accepted += sum(examined(text_verifier, each) for each in made)
    assert accepted >= 18, f"{accepted} of 36"


def test_a_text_longer_than_any_that_was_calibrated_is_not_judged_by_a_part(
    engine: TextEngine, text_verifier: Verifier, requests: list[str]
) -> None:
    """17 tokens, and 96 with junk from the 24th on, under a calibration for 16."""
    sampling = replace(TEXTS["sampled"], max_new=96)
    prompt = engine.encode(requests[UNITS])
    tokens = engine.write([prompt], sampling, [3])[0]
    recipe = write_texts(engine, requests[UNITS : UNITS + 1], TEXTS["sampled"], [3])[0].claim.recipe
    for n, honest_n in ((LENGTH + 1, LENGTH + 1), (96, 24)):
        shown = [*tokens[:honest_n], *np.random.default_rng(n).integers(engine.vocabulary, size=n - honest_n).tolist()]
        hidden = engine.read(prompt, shown, sampling, 3).hidden
        made = claim_text(engine, replace(recipe, sampling=replace(sampling, max_new=n)), shown, hidden)
        with pytest.raises(CalibrationError, match=f"the text has {n} tokens, the calibration ends at 16"):
            examined(text_verifier, made)


# Files


def test_states_are_kept_and_read_again(honest: Made, tmp_path: Path) -> None:
    save_states(tmp_path / "states", honest.states)
    assert np.array_equal(load_states(tmp_path / "states"), honest.states)
    with pytest.raises(RecordError, match="aren't those that the claim commits to"):
        answer(honest.claim, honest.states + np.float32(1e-3))
    data = (tmp_path / "states").read_bytes()
    for bad in (b"", data[:20], data[:-1], b"\xff" * 50, json.dumps({"states": []}).encode(), base64.b64encode(data)):
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(RecordError, match="doesn't hold a claim's states"):
            load_states(tmp_path / "bad")
    with pytest.raises(RecordError, match="doesn't hold"):
        load_states(tmp_path / "missing")
