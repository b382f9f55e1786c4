"""What the coordinator of a training run signs at its end: what was to be done, by whom, and what each node committed to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from studbook.errors import RecordError
from studbook.records.canonical import digest_of
from studbook.records.claim import require_sha, require_time
from studbook.records.codec import STRICT, to_plain
from studbook.records.training import MAX_STEPS

_HEX32 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A node of a run.

    Attributes:
        node: Its number.
        key: Its public key, as it was told before the first step; empty: it told none.
        commitment: Digest of its commitment; empty: it made none.
        steps: That commitment's: the first so many of the run's.
        numerics: What it computed with, by its own word.
        why: Where they aren't all, why.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    node: int
    key: str
    commitment: str
    steps: int
    numerics: str = ""
    why: str = ""

    def __post_init__(self) -> None:
        if self.commitment:
            require_sha(self.commitment, "roster.commitment")
        if bool(self.commitment) != (1 <= self.steps <= MAX_STEPS) or self.node < 0 or (self.commitment and not self.key):
            raise RecordError(f"roster.nodes has node {self.node} with {self.steps} steps, expected a key and a commitment to 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """A run as its coordinator knows it: verifiers have from here, and not from a node, what each node was to do.

    Attributes:
        settings: What determines the run, as JSON's types: ``spec``, ``protocol``, ``seed``, …
        steps: Of the run.
        run: 128 random bits in hex: its name.
        transcript: SHA-256 of the file that says who took over what from whom.
        nodes: All of them, by number.
        made: When, in UTC; after the commitments.

    Raises:
        RecordError: A field that is out of its form.
    """

    SCHEMA: ClassVar[str] = "studbook.training-roster/1"
    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    settings: dict[str, Any]
    steps: int
    run: str
    transcript: str
    nodes: tuple[Enrolled, ...]
    made: str

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MAX_STEPS or not _HEX32.fullmatch(self.run):
            raise RecordError(f"roster has {self.steps} steps of a run {self.run[:40]!r}, expected 1 or more, and 32 hex digits")
        if [each.node for each in self.nodes] != list(range(len(self.nodes))) or any(each.steps > self.steps for each in self.nodes):
            raise RecordError("roster.nodes aren't all nodes in order, or have more steps than the run")
        require_sha(self.transcript, "roster.transcript")
        require_time(self.made, "roster.made")

    @property
    def id(self) -> str:
        """Digest of the roster: what the draw of steps is bound to, as it stands for all commitments."""
        return digest_of(to_plain(self))
