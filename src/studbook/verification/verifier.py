"""One verifier: runs what a claim says was run, measures, and casts a ballot. What it can't do is an error, and nobody's vote."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from studbook.errors import CalibrationError
from studbook.records import Ballot, Calibration, Check, Claim, Evidence, ImageSampling, Level, TextSampling
from studbook.verification.calibration import decide, level_for, more_tokens
from studbook.verification.models import ModelStore, RegisteredModel

if TYPE_CHECKING:
    from studbook.verification.language import TextEngine
    from studbook.verification.measure import Measured
    from studbook.verification.pictures import ImageEngine


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
    """

    ballot: Ballot
    tests: tuple[TokenTest, ...] = ()


class Verifier:
    """Examines claims with the models and calibrations that its operator has registered.

    Args:
        models: What may be run.
        calibrations: Where the limits come from.
        whole: Pictures are drawn again as a whole, and their fingerprints compared; else one step is redone.

    Examples:
        >>> from studbook.verification.models import ModelStore
        >>> from studbook.verification.verifier import Verifier
        >>> Verifier(ModelStore([]), []).calibrations
        ()
    """

    def __init__(self, models: ModelStore, calibrations: Iterable[Calibration], *, whole: bool = True) -> None:
        self.models, self.calibrations, self._whole = models, tuple(calibrations), whole
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

    def examine(self, claim: Claim, evidence: Evidence, round_: str) -> Examination:
        """Measure a claim and cast a ballot on it.

        Args:
            claim: Opened, its signature checked.
            evidence: The claimant's answer to the challenge, opened as well.
            round_: The round of votes, 32 hex digits.

        Raises:
            VerifierError: The model isn't registered here, or can't be run.
            CalibrationError: No calibration covers the claim, or the text is too short for its false-alarm rate.
            EvidenceError: The evidence contradicts the claim.
            DataError: The output can't be one of this model.
        """
        model = self.models.find(claim.recipe.model, claim.recipe.kind)
        calibration = self.find_calibration(claim)
        if claim.recipe.kind == "text":
            level, measured, tests = self._text(model, calibration, claim, evidence)
        else:
            level, measured, tests = self._picture(model, calibration, claim, evidence)
        values = {each.name: each for each in measured}
        checks = tuple(
            Check(
                feature.finding,
                feature.name,
                values[feature.name].value,
                feature.centre + feature.spread * level.limit,
                values[feature.name].n,
            )
            for feature in level.features
            if feature.name in values
        )
        ballot = Ballot(claim=claim.id, task=claim.recipe.task, round=round_, calibration=calibration.id, checks=checks)
        return Examination(ballot, tests)

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
            known = [(place.engine, place.dtype, place.device) for place in each.environments]
            if (recipe.environment.engine, recipe.environment.dtype, recipe.environment.device) not in known:
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
        return level, measure_text(trace, level.size, claim, evidence.nonce), tuple(tests)

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
            self._engines[key] = TextEngine(model, calibration.verifier)
        return self._engines[key]  # type: ignore[return-value]

    def _image_engine(self, model: RegisteredModel, calibration: Calibration) -> ImageEngine:
        from studbook.verification.pictures import ImageEngine

        key = (model.digest, str(calibration.verifier))
        if key not in self._engines:
            self._engines[key] = ImageEngine(model, calibration.verifier)
        return self._engines[key]  # type: ignore[return-value]


def _alike(sampling: TextSampling | ImageSampling) -> TextSampling | ImageSampling:
    """The sampling without what a calibration needn't share with a claim: how long a text may be, and whether it ends."""
    return replace(sampling, max_new=1, stop=True) if isinstance(sampling, TextSampling) else sampling
