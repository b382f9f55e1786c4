"""A small run to commit to: softmax regression on the digits, one node; and everything a verifier needs for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from studbook.protocols.commit import Committer
from studbook.protocols.node import Node, Optimiser
from studbook.protocols.objectives.softmax import Softmax, SoftmaxObjective
from studbook.protocols.replay import Assignment, ReplayVerifier, bit_for_bit
from studbook.protocols.stores import MemoryStore
from studbook.provenance import Signed, SigningKey, open_signed, sign
from studbook.records import StepRecord, TrainingCommitment, merkle_root, to_bytes

RUN, ROUND, OTHER_ROUND = 32 * "1", 32 * "2", 32 * "3"
KEY, STRANGER = SigningKey.generate(), SigningKey.generate()


@cache
def digits() -> SoftmaxObjective:
    return Softmax("digits").load()


def node(index: int = 0, seed: int = 7, kind: str = "sgd") -> Node:
    rows = np.arange(index * 100, index * 100 + 400)
    return Node(index, digits(), rows, 16, Optimiser(kind, rate=0.1, momentum=0.5 if kind == "sgd" else 0.0), seed)


@dataclass
class Trained:
    node: Node
    store: MemoryStore
    signed: Signed[TrainingCommitment]

    def assignment(self, **changes) -> Assignment:
        return replace(Assignment(self.node, RUN, self.signed.record.steps, KEY.public), **changes)

    def verifier(self, n: int = 10, **changes) -> ReplayVerifier:
        return ReplayVerifier(self.assignment(**changes), bit_for_bit(self.node, n))

    def copy(self) -> MemoryStore:
        return MemoryStore(dict(self.store.kept))


def train(steps: int = 40, every: int = 8, **how) -> Trained:
    found, store = node(**how), MemoryStore()
    signed = Committer(found, store, every=every, run=RUN).train(steps, KEY)
    return Trained(found, store, signed)


def resigned(trained: Trained, key: SigningKey = KEY, **changes) -> Signed[TrainingCommitment]:
    """The commitment with other fields, well signed: what a dishonest node would send."""
    return open_signed(sign(replace(trained.signed.record, **changes), key), TrainingCommitment, "commitment.json")


def with_records(trained: Trained, records: list[StepRecord]) -> tuple[Signed[TrainingCommitment], MemoryStore]:
    """Other steps under a root of their own, well signed."""
    from studbook.protocols.kept import steps_name

    store, every = trained.copy(), trained.signed.record.every
    for start in range(0, len(records), every):
        store.put(steps_name(start), b"".join(to_bytes(each) + b"\n" for each in records[start : start + every]))
    return resigned(trained, root=merkle_root([to_bytes(each) for each in records])), store
