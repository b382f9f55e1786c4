"""From what witnesses say to what is believed of a record: the strongest evidence decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from studbook.errors import ConfigError, DataError
from studbook.records import STRENGTH, EvidenceKind, Finding, Origin
from studbook.screening.columns import NO_EVIDENCE
from studbook.screening.protocols import Record, Witness


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is believed of one record.

    Attributes:
        origin: Generated, human, or unknown.
        deciding: The finding that decides; ``None`` where none says anything of the origin.
        findings: All that was found, the strongest first.
    """

    origin: Origin
    deciding: Finding | None
    findings: tuple[Finding, ...]

    @property
    def evidence(self) -> str:
        """Kind of the deciding evidence, or ``"none"``."""
        return NO_EVIDENCE if self.deciding is None else self.deciding.evidence

    @property
    def reason(self) -> str:
        """Why, for people."""
        if self.deciding is not None:
            return self.deciding.reason
        return "; ".join(each.reason for each in self.findings) or "no witness knows it"


@dataclass(frozen=True, slots=True)
class Screen:
    """Witnesses, asked about every record, and what becomes of it.

    A valid signature decides before the register, the register before a watermark, a watermark before a detector; of one kind the
    first witness that was named. A finding of unknown origin (a credential that doesn't verify) decides nothing, but stays with the record.

    Attributes:
        witnesses: Ways of finding out; each has a name of its own.
        reject: Origins whose records are put aside; empty to only annotate.

    Raises:
        ConfigError: No witness, two of one name, or an unknown origin.

    Examples:
        A screen needs nothing but witnesses by shape:

        >>> from studbook.records import Finding
        >>> from studbook.records.content import text_content
        >>> from studbook.screening import Record, Screen
        >>> class Robots:
        ...     name, evidence, kinds = "robots", "detector", frozenset({"text"})
        ...     def describe(self): return {}
        ...     def examine(self, records):
        ...         found = Finding("detector", "robots", "generated", "it says so")
        ...         return [found if "As an AI" in record.text else None for record in records]
        >>> texts = ["As an AI, I can't.", "It rained all day."]
        >>> records = [Record(f"#{i}", "text", text_content(text), text=text) for i, text in enumerate(texts)]
        >>> [judged.origin for judged in Screen((Robots(),)).judge(records)]
        ['generated', 'unknown']
    """

    witnesses: tuple[Witness, ...]
    reject: frozenset[Origin] = frozenset({"generated"})

    def __post_init__(self) -> None:
        names = [witness.name for witness in self.witnesses]
        if not names:
            raise ConfigError("a screen has no witness", hint="name a register, a mark, certificates to trust, or a detector")
        if len(set(names)) < len(names):
            raise ConfigError(f"two witnesses of a screen have one name: {', '.join(names)}")
        odd = next((name for name in names if not name.isprintable() or "/" in name or name[:1] in ("", ".")), None)
        if odd is not None:
            raise ConfigError(f"a witness is called {odd[:80]!r}, which names no file", hint="use letters, digits, - and _")
        unknown = set(self.reject) - {"generated", "human", "unknown"}
        if unknown:
            raise ConfigError(f"a screen rejects {min(unknown)!r}, expected generated, human or unknown")

    def judge(self, records: Sequence[Record]) -> list[Judgement]:
        """What is believed of each record, in order.

        Raises:
            DataError: A witness gave another number of findings than there were records, or raised one itself.
        """
        found: list[list[Finding]] = [[] for _ in records]
        for witness in sorted(self.witnesses, key=lambda each: STRENGTH.index(each.evidence)):
            asked = [i for i, record in enumerate(records) if record.kind in witness.kinds]
            answers = witness.examine([records[i] for i in asked]) if asked else []
            if len(answers) != len(asked):
                raise DataError(f"the witness {witness.name} gave {len(answers)} findings for {len(asked)} records")
            for i, answer in zip(asked, answers, strict=True):
                if answer is not None:
                    found[i].append(_checked(answer, witness))
        return [_judgement(tuple(each)) for each in found]

    def rejects(self, judgement: Judgement) -> bool:
        """Whether such a record is put aside."""
        return judgement.origin in self.reject

    def describe(self) -> Mapping[str, Any]:
        """What determines the judgements, as JSON's types."""
        witnesses = [{"name": each.name, "evidence": each.evidence, **each.describe()} for each in self.witnesses]
        return {"witnesses": witnesses, "reject": sorted(self.reject)}


def _checked(finding: Finding, witness: Witness) -> Finding:
    kind: EvidenceKind = witness.evidence
    if finding.evidence != kind:
        raise DataError(f"the witness {witness.name} of {kind} evidence gave a finding of {finding.evidence} evidence")
    return finding


def _judgement(findings: tuple[Finding, ...]) -> Judgement:
    deciding = next((each for each in findings if each.origin != "unknown"), None)
    return Judgement("unknown" if deciding is None else deciding.origin, deciding, findings)
