"""Witnesses: a credential's signature, the register of known outputs, watermarks of texts and of pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from studbook.errors import ConfigError, DataError, ProvenanceError
from studbook.provenance import Trust, read_credential, verify_recovered
from studbook.records import DetectorCalibration, EvidenceKind, Finding, Kind, bytes_content
from studbook.screening.protocols import Record

if TYPE_CHECKING:
    from studbook.marks import TextMarkDetector
    from studbook.marks.images import PictureMark
    from studbook.registry import Limit, Match, Register

BOTH: frozenset[Kind] = frozenset({"text", "image"})


@dataclass(frozen=True, slots=True)
class SignatureWitness:
    """Content credentials: inside a picture, or beside any file.

    A credential that verifies says who signed what; one that doesn't is noted with its reason, and decides nothing.

    Attributes:
        trust: Whose signatures count.
    """

    trust: Trust
    name: ClassVar[str] = "c2pa"
    evidence: ClassVar[EvidenceKind] = "signature"
    kinds: ClassVar[frozenset[Kind]] = BOTH

    def examine(self, records: Sequence[Record]) -> list[Finding | None]:
        """See ``Witness``."""
        return [self._look(record) for record in records]

    def describe(self) -> Mapping[str, Any]:
        """See ``Witness``."""
        return {"anchors": bytes_content(self.trust.anchors), "signers": sorted(self.trust.signers)}

    def _look(self, record: Record) -> Finding | None:
        if record.kind == "text" and not record.sidecar:
            return None
        data = record.data or record.text.encode()
        try:
            found = read_credential(data, trust=self.trust, sidecar=record.sidecar or None, what="it")
        except ProvenanceError as error:
            return Finding("signature", self.name, "unknown", f"its credential doesn't count: {error.message}"[:400])
        if found is None:
            return None
        said = {"generated": "made by a model", "human": "not made by a model", "unknown": "nothing of its origin"}[found.origin]
        by = f"{found.signer} of {found.issuer}" if found.issuer else found.signer
        return Finding(
            "signature", self.name, found.origin, f"{by} signs: {said}", source=found.model or found.signer, reference=found.store
        )


@dataclass(frozen=True, slots=True)
class RegisterWitness:
    """The register: the same bytes, or a fingerprint within its limit.

    An exact match counts before a near one, a nearer before a farther. A near match is called by its fingerprint, ``register-minhash``:
    it errs as often as was measured of the limit. Where the register holds the same content as a person's and as a
    model's, that is noted and decides nothing. Where a near picture's entry has a credential, and certificates are trusted, the stripped
    credential is verified again: its signed fingerprint must be near this picture.

    Attributes:
        register: An open register.
        trust: Whose signatures count on recovered credentials; ``None`` recovers none.
    """

    register: Register
    trust: Trust | None = None
    name: ClassVar[str] = "register"
    evidence: ClassVar[EvidenceKind] = "register"
    kinds: ClassVar[frozenset[Kind]] = BOTH

    def examine(self, records: Sequence[Record]) -> list[Finding | None]:
        """See ``Witness``."""
        found: list[Finding | None] = [None] * len(records)
        p_values = self._p_values()
        texts = [i for i, record in enumerate(records) if record.kind == "text"]
        pictures = [i for i, record in enumerate(records) if record.kind == "image"]
        for i, matches in zip(texts, self.register.find_texts([records[i].text for i in texts]) if texts else [], strict=True):
            found[i] = self._finding(records[i], matches, p_values)
        for i, matches in zip(pictures, self._find_pictures([records[i] for i in pictures]) if pictures else [], strict=True):
            found[i] = self._finding(records[i], matches, p_values)
        return found

    def _p_values(self) -> dict[str, float]:
        """How often an output that has nothing to do with those registered is near one, by fingerprint and in a register of this size."""
        sizes, found = self.register.sizes(), dict[str, float]()
        for limit in _limits(self.register):
            if (errs := limit.false_matches) is not None:
                larger = max(1.0, sizes.get(limit.scheme, 0) / errs.registered)
                found[limit.scheme] = min(1.0, (errs.events + 1) / (errs.trials + 1) * larger)
        return found

    def _find_pictures(self, records: Sequence[Record]) -> list[tuple[Match, ...]]:
        from studbook.registry import fingerprint_pictures

        prints = fingerprint_pictures([each.data for each in records], unpacked=[each.pixels for each in records])
        return self.register.find_images(prints)

    def describe(self) -> Mapping[str, Any]:
        """See ``Witness``."""
        limits = {limit.scheme: limit for limit in _limits(self.register)}
        return {
            "register": self.register.id,
            "limits": {scheme: limit.value for scheme, limit in limits.items()},
            "false_matches": {scheme: asdict(limit.false_matches) for scheme, limit in limits.items() if limit.false_matches is not None},
        }

    def sizes(self) -> Mapping[str, int]:
        """See ``Growing``."""
        return self.register.sizes()

    def _finding(self, record: Record, matches: Sequence[Match], p_values: Mapping[str, float]) -> Finding | None:
        known = [match for match in matches if match.entry.origin != "unknown"]
        if not known:
            return None
        nearest = min(known, key=_rank)
        equals = [match for match in known if _rank(match) == _rank(nearest)]
        where = f"{nearest.entry.content} of {nearest.entry.model or nearest.entry.source or 'no stated source'}"
        if len({match.entry.origin for match in equals}) > 1:
            return Finding("register", self.name, "unknown", f"registered as a person's and as a model's: {where}"[:400])
        if nearest.how == "exact":
            name, reason = self.name, f"the same bytes are registered: {where}"
        else:
            name = f"{self.name}-{nearest.scheme}"
            reason = f"{nearest.scheme} is {nearest.distance:.3g} from a registered output (limit {nearest.limit:.3g}): {where}"
        recovered = self._recovered(record, nearest)
        return Finding(
            "register",
            name,
            nearest.entry.origin,
            f"{reason}{recovered}"[:600],
            p_values.get(nearest.scheme),
            source=nearest.entry.model,
            reference=nearest.entry.content,
        )

    def _recovered(self, record: Record, match: Match) -> str:
        """What a credential says that was stripped from a picture and found again."""
        if self.trust is None or not match.entry.manifest or record.kind != "image":
            return ""
        limits = {limit.scheme: limit.value for limit in _limits(self.register)}
        try:
            store = self.register.manifest(match.entry.manifest)
            found = verify_recovered(store, record.pixels, trust=self.trust, max_distance=limits, what="it")
        except (ProvenanceError, DataError) as error:
            return f"; its credential doesn't count: {error.message}"
        return f"; its credential was stripped and found again, signed by {found.signer}"


def _limits(register: Register) -> list[Limit]:
    found = [register.limit(scheme) for scheme in ("minhash", "phash", "pdq")]
    return [limit for limit in found if limit is not None]


def _rank(match: Match) -> tuple[int, float]:
    return (0, 0.0) if match.how == "exact" else (1, match.distance / match.limit if match.limit else 0.0)


@dataclass(frozen=True, slots=True)
class TextMarkWitness:
    """A watermark of texts, by its calibrated test.

    Attributes:
        detector: Marks to look for.
        encode: The model's tokenizer: from a text to its token ids, without added ones.
        calibration: What the test's score means; its threshold decides.
        source: Whose mark it is, for the findings.
        signed_calibration: The calibration as it was signed, kept beside the corpus; or nothing.
    """

    detector: TextMarkDetector
    encode: Callable[[str], Sequence[int]]
    calibration: DetectorCalibration
    source: str = ""
    signed_calibration: bytes = b""
    evidence: ClassVar[EvidenceKind] = "watermark"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"text"})

    def __post_init__(self) -> None:
        from studbook.marks.calibrate_text import require_calibrated

        require_calibrated(self.calibration, self.detector)

    @property
    def name(self) -> str:
        """The mark's scheme."""
        return self.detector.name

    def examine(self, records: Sequence[Record]) -> list[Finding | None]:
        """See ``Witness``."""
        values = self.detector.p_values([record.text for record in records], self.encode)
        return [self._finding(float(value)) for value in values]

    def _finding(self, p_value: float) -> Finding | None:
        if not score_of(p_value) >= self.calibration.threshold:
            return None
        reason = f"carries the watermark {self.name} (p = {p_value:.2g}; {_rates(self.calibration)})"
        return Finding("watermark", self.name, "generated", reason, p_value, source=self.source, reference=self.calibration.id)

    def describe(self) -> Mapping[str, Any]:
        """See ``Witness``."""
        return {"mark": self.detector.digest, "calibration": self.calibration.id}


@dataclass(frozen=True, slots=True)
class PictureMarkWitness:
    """A watermark of pictures, by its calibrated test.

    Attributes:
        mark: The mark.
        calibration: What its score means; its threshold decides.
        source: Whose mark it is, for the findings.
        signed_calibration: The calibration as it was signed, kept beside the corpus; or nothing.
    """

    mark: PictureMark
    calibration: DetectorCalibration
    source: str = ""
    signed_calibration: bytes = b""
    evidence: ClassVar[EvidenceKind] = "watermark"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"image"})

    def __post_init__(self) -> None:
        if self.calibration.detector != self.mark.name or self.calibration.parameters != self.mark.parameters:
            raise ConfigError(
                f"the calibration is of {self.calibration.detector} with other settings than this {self.mark.name}",
                hint="studbook mark calibrate makes one for these settings",
            )

    @property
    def name(self) -> str:
        """The mark's name."""
        return self.mark.name

    def examine(self, records: Sequence[Record]) -> list[Finding | None]:
        """See ``Witness``."""
        return [self._finding(record) for record in records]

    def _finding(self, record: Record) -> Finding | None:
        from studbook.marks.calibrate_images import calibrated_p_value

        found = self.mark.test(record.pixels)
        if not found.score >= self.calibration.threshold:
            return None
        p_value = calibrated_p_value(self.calibration, found.score) if found.p_value is None else found.p_value
        reason = f"{found.reason} ({_rates(self.calibration)})"
        return Finding("watermark", self.name, "generated", reason, p_value, source=self.source, reference=self.calibration.id)

    def describe(self) -> Mapping[str, Any]:
        """See ``Witness``."""
        return {"parameters": dict(self.mark.parameters), "calibration": self.calibration.id}


def score_of(p_value: float) -> float:
    """The score of a text's watermark test: minus the decimal logarithm of its p-value."""
    from math import inf, log10

    return -log10(p_value) if p_value > 0.0 else inf


def _rates(calibration: DetectorCalibration) -> str:
    return f"false hits at most {calibration.false_hits.upper:.2g}, finds {calibration.hits.rate:.0%}"
