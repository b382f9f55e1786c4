"""Where the nodes of a training run live. A cluster carries messages; what is done with them is the same everywhere, to the bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from studbook.protocols.host import Host
from studbook.protocols.messages import Message
from studbook.protocols.node import Node
from studbook.protocols.recorder import Place

Why: TypeAlias = Literal["down", "slow", "garbage"]


@dataclass(frozen=True, slots=True)
class Lost:
    """Instead of an answer: the node gave none.

    Attributes:
        why: ``down`` (no process, no line to it), ``slow`` (no answer in time), or ``garbage`` (what came is no answer).
        text: What was seen.
    """

    why: Why
    text: str

    def __str__(self) -> str:
        return f"{self.why}: {self.text}"


class Cluster(Protocol):
    """Where nodes live, numbered from 0.

    Attributes:
        n: How many.
        nodes: What they are, by what they were built from and not by what they say: how many rows each holds is nobody's own word.
    """

    @property
    def n(self) -> int: ...

    @property
    def nodes(self) -> Sequence[Node]: ...

    def ask(self, requests: Mapping[int, Message], *, timeout_s: float) -> Mapping[int, Message | Lost]:
        """Ask several nodes side by side, and wait for each so long at most; for every one an answer, or why there is none."""
        ...

    def revive(self, index: int, *, fresh: bool) -> bool:
        """Whether a lost node can be asked again; returns at once.

        Args:
            index: Which.
            fresh: Start a new one in its place, and wait until it is ready. What the old one held is gone.
        """
        ...

    def close(self) -> None:
        """End what was started; closing it again does nothing."""
        ...


class InProcess:
    """Nodes in this process, asked one after the other; arrays are handed over as they are.

    A node that hangs hangs the run: what is to be left out after a time needs a process of its own.

    Args:
        nodes: The nodes, in order.
        place: Where they may keep records and keys; ``None``: they can't commit to their training.

    Examples:
        >>> import numpy as np
        >>> from studbook.protocols import InProcess, Message, Node, Optimiser, Quadratic
        >>> cluster = InProcess([Node(i, Quadratic(), np.arange(100), 5, Optimiser(), 0) for i in range(2)])
        >>> answers = cluster.ask({0: Message("pull"), 1: Message("pull")}, timeout_s=1.0)
        >>> answers[1].kind
        'parameters'
    """

    def __init__(self, nodes: Sequence[Node], place: Place | None = None) -> None:
        self._nodes = tuple(nodes)
        self._hosts = [Host(node, place) for node in self._nodes]

    @property
    def n(self) -> int:
        """See ``Cluster``."""
        return len(self._hosts)

    @property
    def nodes(self) -> Sequence[Node]:
        """See ``Cluster``."""
        return self._nodes

    def ask(self, requests: Mapping[int, Message], *, timeout_s: float) -> Mapping[int, Message | Lost]:
        """See ``Cluster``."""
        return {index: self._hosts[index].answer(requests[index]) for index in sorted(requests)}

    def revive(self, index: int, *, fresh: bool) -> bool:
        """See ``Cluster``; nodes here aren't lost."""
        if fresh:
            self._hosts[index] = Host(self._nodes[index], self._hosts[index].place)
        return True

    def close(self) -> None:
        """See ``Cluster``."""
