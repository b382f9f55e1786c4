"""What a verifier measures on a claim and its evidence; whatever contradicts itself is refused before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from studbook.arrays import AnyArray, Floats
from studbook.errors import CalibrationError, DigestError, EvidenceError, VerifierError
from studbook.fingerprints import create
from studbook.fingerprints.activations import Activations, projection_key
from studbook.fingerprints.trajectory import draw_step
from studbook.records import Claim, Digest, Evidence, FindingName, ImageSampling, TextSampling, check_opening
from studbook.verification.claimant import OPENED_ROWS, asked, image_digests, text_digests
from studbook.verification.language import TextEngine
from studbook.verification.pictures import ImageEngine

MARGIN_CAP = 10.0
"""A margin counts as this much at most in the mean: one impossible token must not hide how the others are."""
LARGEST = 1e6
"""No hidden state or pixel of a model that works has larger numbers."""
_ROW_TOLERANCE = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """One measured number.

    Attributes:
        finding: What it bears on.
        name: What was measured.
        value: The larger, the further from an honest run.
        n: Tokens, bits or numbers that it rests on.
    """

    finding: FindingName
    name: str
    value: float
    n: int


@dataclass(frozen=True, slots=True, eq=False)
class TextTrace:
    """A claimed text, token by token.

    Attributes:
        differs: ``(n,)`` whether the verifier draws another token.
        margins: ``(n,)`` how far the claimed token is from the drawn one.
        distances: ``(n,)`` relative distances of the activations' projections.
    """

    differs: AnyArray
    margins: Floats
    distances: Floats

    def first(self, n: int) -> TextTrace:
        """The first ``n`` tokens."""
        return TextTrace(self.differs[:n], self.margins[:n], self.distances[:n])

    def features(self, start: int, size: int) -> tuple[Measured, ...]:
        """What ``size`` tokens from ``start`` on measure."""
        part = slice(start, start + size)
        margins, distances = np.minimum(self.margins[part], MARGIN_CAP), self.distances[part]
        n = len(margins)
        return (
            Measured("behaviour", "token disagreement", float(self.differs[part].mean()), n),
            Measured("execution", "mean token margin", float(margins.mean()), n),
            Measured("execution", "largest token margin", float(margins.max()), n),
            Measured("identity", "mean activation distance", float(distances.mean()), n),
            Measured("identity", "largest activation distance", float(distances.max()), n),
        )


def trace_text(engine: TextEngine, claim: Claim, evidence: Evidence) -> TextTrace:
    """Read a claimed text once, beside what its claimant shows of its hidden states.

    Raises:
        EvidenceError: The evidence contradicts the claim.
        DataError: The text isn't one of this model.
    """
    sampling = claim.recipe.sampling
    assert isinstance(sampling, TextSampling)
    check_evidence(claim, evidence, len(claim.tokens))
    if evidence.projections is None:
        raise EvidenceError("the evidence has no projections of the hidden states", hint="ask the claimant for them: studbook claim answer")
    check_digests(claim, text_digests(claim.tokens))
    scheme, key = Activations(), projection_key(claim.commitment, evidence.nonce)
    engine.check_end(claim.tokens, sampling)
    prompt = engine.encode(claim.recipe.request)
    reading = engine.read(prompt, claim.tokens, sampling, claim.recipe.seed)
    try:
        distances = scheme.distances(evidence.projections, reading.hidden, key)
    except DigestError as error:
        raise EvidenceError(f"the projections don't belong to the claim: {error.message}", hint="reject the claim") from error
    _check_rows(claim, evidence, reading.hidden.shape[1])
    if sampling.beams == 1:
        return TextTrace(reading.drawn != np.asarray(claim.tokens), reading.margins, distances)
    # What beam search chooses can't be told from one pass: it is run again, and a token differs or it doesn't.
    again = engine.write([prompt], sampling, [claim.recipe.seed])[0]
    padded = np.array([*again, *[-1] * len(claim.tokens)])[: len(claim.tokens)]
    differs = padded != np.asarray(claim.tokens)
    return TextTrace(differs, differs.astype(np.float64), distances)


def measure_text(trace: TextTrace, size: int) -> tuple[Measured, ...]:
    """The features of a text of ``size`` to ``2 * size`` tokens: of its first and of its last ``size``, each feature at its worse."""
    first, last = trace.features(0, size), trace.features(len(trace.distances) - size, size)
    return tuple(a if a.value >= b.value else b for a, b in zip(first, last, strict=True))


def measure_picture(engine: ImageEngine, claim: Claim, evidence: Evidence, *, schemes: Sequence[str]) -> tuple[Measured, ...]:
    """Redo the step that the challenge draws and, where fingerprints are to be compared, the whole run.

    Args:
        engine: The model.
        claim: What is claimed.
        evidence: The claimant's answer.
        schemes: Fingerprints of the claim that are compared with those of the picture drawn again; none: only the one step is redone.

    Raises:
        EvidenceError: The evidence contradicts the claim.
        DataError: The picture isn't one of this model.
    """
    sampling, seed, request = claim.recipe.sampling, claim.recipe.seed, claim.recipe.request
    assert isinstance(sampling, ImageSampling)
    steps = engine.n_steps(sampling)
    check_evidence(claim, evidence, steps + 1)
    states = _states(engine, claim, evidence, steps)
    check_digests(claim, image_digests(engine.pixels_of(states[steps][None])[0]))
    step = draw_step(claim.commitment, evidence.nonce, steps)
    before, after = states[step], states[step + 1]
    redone = engine.redo(before, step, request, sampling, seed)
    moved = max(_rms(after - before), 1e-6)
    found = [
        Measured("execution", "start distance", _rms(states[0] - engine.start(seed)), before.size),
        Measured("identity", "redone step distance", _rms(redone - after) / moved, before.size),
    ]
    if schemes:
        pixels = engine.write([request], sampling, [seed]).pixels[0]
        for scheme in schemes:
            claimed = claim.digest(scheme)
            if claimed is None:
                raise CalibrationError(
                    f"the calibration compares {scheme}, which claims don't hold", hint="calibrate with another --scheme"
                )
            bits = create(scheme).digest(pixels).hamming(claimed)
            found.append(Measured("behaviour", f"{scheme} distance in bits", float(bits), claimed.n_bits))
    return tuple(found)


def check_digests(claim: Claim, own: Sequence[Digest]) -> None:
    """Return nothing where a claim's digests are those of its output, as far as this version makes them.

    Raises:
        EvidenceError: One is of another output.
        VerifierError: One of ours is missing, or of another version: there can be no ballot.
    """
    unknown = {digest.scheme for digest in claim.digests} - {digest.scheme for digest in own}
    if unknown:
        raise VerifierError(f"the claim has a digest {min(unknown)}, which isn't made here", hint="ask a verifier of the claim's version")
    for digest in own:
        claimed = claim.digest(digest.scheme)
        if claimed is None or (claimed.version, claimed.parameters) != (digest.version, digest.parameters):
            got = "none" if claimed is None else f"version {claimed.version}"
            raise VerifierError(
                f"the claim's {digest.scheme} is {got}, this verifier makes version {digest.version}", hint="ask another verifier"
            )
        if claimed.bits != digest.bits:
            raise EvidenceError(f"the claim's {digest.scheme} isn't that of its output", hint="reject the claim")


def check_evidence(claim: Claim, evidence: Evidence, n_values: int) -> None:
    """Return nothing where evidence opens what the challenge asks for, under the claim's commitment.

    Raises:
        EvidenceError: It is for another claim, opens other values, or values that weren't committed to.
    """
    if evidence.claim != claim.id:
        raise EvidenceError("the evidence is for another claim", hint="ask the claimant for that of this one")
    places = asked(claim, evidence.nonce, n_values)
    shown = [(each.opening.index, each.opening.size) for each in evidence.opened]
    if shown != [(place, n_values) for place in places]:
        raise EvidenceError(f"the evidence opens {shown[:4]}, the challenge asks for {places} of {n_values}", hint="reject the claim")
    for each in evidence.opened:
        try:
            check_opening(claim.commitment, each.value, each.opening)
        except ValueError as error:
            raise EvidenceError(f"the evidence isn't what was committed to: {error}", hint="reject the claim") from error


def _check_rows(claim: Claim, evidence: Evidence, width: int) -> None:
    """The projections must be of the states that were committed to, wherever those are opened."""
    scheme, key = Activations(), projection_key(claim.commitment, evidence.nonce)
    assert evidence.projections is not None
    claimed = np.frombuffer(evidence.projections.bits, np.int8).reshape(len(claim.tokens), scheme.size)
    places = asked(claim, evidence.nonce, len(claim.tokens))
    for place, each in zip(places[:OPENED_ROWS], evidence.opened, strict=False):
        row = _floats(each.value, (width,))
        again = np.frombuffer(scheme.digest(row[None], key, first=place).bits, np.int8)
        if np.abs(again.astype(int) - claimed[place]).max() > _ROW_TOLERANCE:
            raise EvidenceError(f"the projection of token {place} isn't that of the committed state", hint="reject the claim")


def _states(engine: ImageEngine, claim: Claim, evidence: Evidence, steps: int) -> dict[int, AnyArray]:
    shape = (2, *engine.shape)
    places = asked(claim, evidence.nonce, steps + 1)
    return {place: _floats(each.value, shape) for place, each in zip(places, evidence.opened, strict=True)}


def _floats(value: bytes, shape: tuple[int, ...]) -> AnyArray:
    if len(value) != 4 * int(np.prod(shape)):
        raise EvidenceError(f"an opened value has {len(value)} bytes, expected {4 * int(np.prod(shape))}", hint="it isn't this model's run")
    found = np.frombuffer(value, "<f4").reshape(shape)
    if not (np.abs(found) <= LARGEST).all():
        raise EvidenceError(f"an opened value isn't made of numbers up to {LARGEST:g}", hint="reject the claim")
    return found.astype(np.float32)


def _rms(values: AnyArray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
