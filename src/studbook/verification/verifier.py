"""One verifier: runs what a claim says was run, measures, and casts a ballot. What it can't do is an error, and nobody's vote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from studbook.errors import CalibrationError, DataError, EvidenceError
from studbook.records import Ballot, Calibration, Check, Claim, Environment, Evidence, ImageSampling, Level, TextSampling
from studbook.verification.calibration import decide, level_for, more_tokens
from studbook.verification.models import ModelStore, RegisteredModel

if TYPE_CHECKING:
    from studbook.verification.folder import Packet
    from studbook.verification.language import TextEngine
    from studbook.verification.measure import Measured
    from studbook.verification.pictures import ImageEngine


CONTRADICTION, IMPOSSIBLE = "contradiction", "impossible output"


@dataclass(frozen=True, slots=True)
class TokenTest:
    """What the sequential test says about one cheat.

    Attributes:
        cheat: Its name.
        verdict: ``honest``, ``cheat`` or ``undecided``.
        tokens: Tokens that were looked at.
        more: Tokens that are expected to be needed beyond; 0 where it is decided.
    """

    cheat: str
    verdict: str
    tokens: int
    more: int


@dataclass(frozen=True, slots=True)
class Examination:
    """A ballot, and what isn't part of the vote.

    Attributes:
        ballot: What counts.
        tests: The sequential tests of a text's tokens.
        contradiction: What can't be, where evidence and claim contradict each other, or the output can't be the model's.
    """

    ballot: Ballot
    tests: tuple[TokenTest, ...] = ()
    contradiction: str = ""


class Verifier:
    """Examines claims with the models and calibrations that its operator has registered.

    Args:
        models: What may be run.
        calibrations: Where the limits come from.
        whole: Pictures are drawn again as a whole, and their fingerprints compared; else one step is redone.
        offline: Evidence whose challenge was drawn from the commitment alone is taken, too: the claimant may have committed again and again
            until it liked what is drawn.

    Examples:
        >>> from studbook.verification.models import ModelStore
        >>> from studbook.verification.verifier import Verifier
        >>> Verifier(ModelStore([]), []).calibrations
        ()
    """

    def __init__(self, models: ModelStore, calibrations: Iterable[Calibration], *, whole: bool = True, offline: bool = False) -> None:
        self.models, self.calibrations, self._whole, self._offline = models, tuple(calibrations), whole, offline
        self._engines: dict[tuple[str, str], object] = {}

    def prepare(self) -> None:
        """Load every model that a calibration is for, so that the first claim doesn't wait for it.

        Raises:
            CheckpointError: A model can't be loaded.
            DeviceError: A calibration's device isn't there.
        """
        for model in self.models:
            for calibration in (each for each in self.calibrations if each.model == model.digest):
                (self._text_engine if calibration.kind == "text" else self._image_engine)(model, calibration)

    def examine(self, packet: Packet, round_: str, electorate: str = "") -> Examination:
        """Measure a claim and cast a ballot on it.

        An output that can't be the model's, and evidence that contradicts the claim, are rejected: the claimant signed both.

        Args:
            packet: The claim and the claimant's answer to the challenge, their signatures checked.
            round_: The round of votes, 32 hex digits: the challenge's nonce.
            electorate: Who votes: ``Quorum.electorate``; empty where nobody counts.

        Raises:
            VerifierError: The model isn't registered here, or can't be run.
            CalibrationError: No calibration covers the claim, or the text is too short or too long for it.
            EvidenceError: The evidence is for another claim or another challenge.
        """
        claim, evidence = packet.claim.record, packet.evidence.record
        if evidence.nonce != round_ and not (self._offline and not evidence.nonce):
            raise EvidenceError("the evidence answers another challenge than this round's", hint="answer with the round as the nonce")
        model = self.models.find(claim.recipe.model, claim.recipe.kind)
        calibration = self.find_calibration(claim)
        tests: tuple[TokenTest, ...] = ()
        reason = ""
        try:
            measure = self._text if claim.recipe.kind == "text" else self._picture
            level, measured, tests = measure(model, calibration, claim, evidence)
            checks = tuple(_checks(level, measured, whole=self._whole))
        except (EvidenceError, DataError) as error:
            reason = error.message
            checks = (Check("execution", CONTRADICTION if isinstance(error, EvidenceError) else IMPOSSIBLE, 1.0, 0.0, 1),)
        ballot = Ballot(
            claim=claim.id, claimant=str(packet.claim.key), task=claim.recipe.task, round=round_, electorate=electorate,
            calibration=calibration.id, checks=checks,
        )  # fmt: skip
        return Examination(ballot, tests, reason)

    def find_calibration(self, claim: Claim) -> Calibration:
        """The calibration that covers a claim: its model, its sampling, and its environment.

        Raises:
            CalibrationError: There is none; the message says what is missing.
        """
        recipe = claim.recipe
        reason = f"no calibration of the model {recipe.model[:15]}… is registered here"
        for each in self.calibrations:
            if each.model != recipe.model or each.kind != recipe.kind:
                continue
            if _alike(each.sampling) != _alike(recipe.sampling):
                reason = f"the calibration is for {_alike(each.sampling)}, the claim has {_alike(recipe.sampling)}"
                continue
            if not any(_covers(place, recipe.environment) for place in each.environments):
                reason = f"the calibration doesn't cover the environment {recipe.environment}"
                continue
            return each
        raise CalibrationError(reason, hint="make one that does: studbook claim calibrate")

    def _text(
        self, model: RegisteredModel, calibration: Calibration, claim: Claim, evidence: Evidence
    ) -> tuple[Level, tuple[Measured, ...], tuple[TokenTest, ...]]:
        from studbook.verification.measure import measure_text, trace_text

        level = level_for(calibration, len(claim.tokens))
        trace = trace_text(self._text_engine(model, calibration), claim, evidence)
        tests = []
        for test in calibration.sequential:
            verdict, tokens = decide(test, trace.distances)
            tests.append(TokenTest(test.cheat, verdict, tokens, more_tokens(test, trace.distances)))
        return level, measure_text(trace, level.size), tuple(tests)

    def _picture(
        self, model: RegisteredModel, calibration: Calibration, claim: Claim, evidence: Evidence
    ) -> tuple[Level, tuple[Measured, ...], tuple[TokenTest, ...]]:
        from studbook.verification.measure import measure_picture

        level = calibration.levels[0]
        schemes = [feature.name.split(" ")[0] for feature in level.features if feature.finding == "behaviour"] if self._whole else []
        engine = self._image_engine(model, calibration)
        return level, measure_picture(engine, claim, evidence, schemes=schemes), ()

    def _text_engine(self, model: RegisteredModel, calibration: Calibration) -> TextEngine:
        from studbook.verification.language import TextEngine

        key = (model.digest, str(calibration.verifier))
        if key not in self._engines:
            engine = TextEngine(model, calibration.verifier)
            model.check()
            self._engines[key] = engine
        return self._engines[key]  # type: ignore[return-value]

    def _image_engine(self, model: RegisteredModel, calibration: Calibration) -> ImageEngine:
        from studbook.verification.pictures import ImageEngine

        key = (model.digest, str(calibration.verifier))
        if key not in self._engines:
            engine = ImageEngine(model, calibration.verifier)
            model.check()
            self._engines[key] = engine
        return self._engines[key]  # type: ignore[return-value]


def _covers(calibrated: Environment, claimed: Environment) -> bool:
    """The same engine, number type and device, and no more threads or outputs side by side."""
    alike = replace(claimed, threads=calibrated.threads, batch=calibrated.batch) == calibrated
    return alike and claimed.threads <= calibrated.threads and claimed.batch <= calibrated.batch


def _checks(level: Level, measured: Iterable[Measured], *, whole: bool) -> Iterator[Check]:
    """What was measured beside its limits.

    Raises:
        CalibrationError: The calibration has a feature that isn't measured.
    """
    values = {each.name: each for each in measured}
    for feature in level.features:
        if feature.name in values:
            # A little above, so that a value right at the limit isn't lost to rounding.
            limit = (feature.centre + feature.spread * level.limit) * (1.0 + 1e-9)
            yield Check(feature.finding, feature.name, values[feature.name].value, limit, values[feature.name].n)
        elif whole or feature.finding != "behaviour":
            raise CalibrationError(
                f"the calibration has a limit for {feature.name!r}, which isn't measured", hint="calibrate with this studbook"
            )


def _alike(sampling: TextSampling | ImageSampling) -> TextSampling | ImageSampling:
    """The sampling without what a calibration needn't share with a claim: how long a text may be, and whether it ends."""
    return replace(sampling, max_new=1, stop=True) if isinstance(sampling, TextSampling) else sampling
