"""A calibrated detector of generated texts as a witness: the weakest kind of evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from studbook.errors import ConfigError
from studbook.records import DetectorCalibration, EvidenceKind, Finding, Kind
from studbook.screening.calibrate import detector_parameters, p_value_of
from studbook.screening.protocols import Detector, Record


@dataclass(frozen=True, slots=True)
class DetectorWitness:
    """What a detector's score means by its calibration.

    From the threshold on a text is found to be generated. A lower score says nothing of the origin: that a detector sees nothing is no sign
    of a person. Its p-value stays with the record, and tells a review what is least sure.

    Attributes:
        detector: What scores texts.
        calibration: What its scores mean.
        signed_calibration: The calibration as it was signed, kept beside the corpus; or nothing.

    Raises:
        ConfigError: A calibration of another detector, or of one with other settings.
    """

    detector: Detector
    calibration: DetectorCalibration
    signed_calibration: bytes = b""
    evidence: ClassVar[EvidenceKind] = "detector"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"text"})

    def __post_init__(self) -> None:
        if self.calibration.detector != self.detector.name or detector_parameters(self.calibration) != tuple(self.detector.parameters):
            raise ConfigError(
                f"the calibration is of {self.calibration.detector} with other settings than this {self.detector.name}",
                hint="calibrate this detector, or take the one that was calibrated",
            )

    @property
    def name(self) -> str:
        """The detector's name."""
        return self.detector.name

    def examine(self, records: Sequence[Record]) -> list[Finding | None]:
        """See ``Witness``."""
        scores = np.asarray(self.detector.scores([record.text for record in records]), dtype=np.float64)
        return [self._finding(float(score)) for score in scores]

    def describe(self) -> Mapping[str, Any]:
        """See ``Witness``."""
        return {"parameters": dict(self.detector.parameters), "calibration": self.calibration.id}

    def _finding(self, score: float) -> Finding | None:
        if np.isnan(score):
            return None
        p_value, found = p_value_of(self.calibration, score), self.calibration
        if score >= found.threshold:
            rates = f"false hits at most {found.false_hits.upper:.2g}, finds {found.hits.rate:.0%} of texts like the calibration's"
            reason = f"scores {score:.3g}, from {found.threshold:.3g} on it is a hit ({rates})"
            return Finding("detector", self.name, "generated", reason, p_value, reference=found.id)
        reason = f"scores {score:.3g}, below {found.threshold:.3g}: no hit, which is no sign of a person"
        return Finding("detector", self.name, "unknown", reason, p_value, reference=found.id)
