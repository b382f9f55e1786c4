"""The options of ``studbook training run --protocol federated``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from studbook.protocols import Choice, Federated, Optimiser

_SAMPLED = 10


@dataclass(frozen=True, slots=True)
class FederatedOptions:
    """What was asked for.

    Attributes:
        clients: Clients of a round; ``None`` for ten, or for all where there are fewer.
        epochs: A client's passes through its rows.
        server: How the server steps.
        server_rate: Its rate; ``None`` for 1 with ``sgd``, else .1.
        slices: ``GROUP=M`` or ``GROUP=M:HOW``; none for whole models.
        keys: How clients choose where a slice doesn't say.
    """

    clients: int | None = None
    epochs: int = 1
    server: Literal["sgd", "adagrad", "adam"] = "sgd"
    server_rate: float | None = None
    slices: Sequence[str] = ()
    keys: Literal["frequent", "random", "mixed"] = "frequent"

    def protocol(self, nodes: int) -> Federated:
        """The protocol with so many nodes.

        Raises:
            ConfigError: A value out of range, or slices of another form.
        """
        from studbook.protocols import Federated, Selection

        clients = min(_SAMPLED, nodes) if self.clients is None else self.clients
        return Federated(clients, self.epochs, self._optimiser(), Selection(dict(map(self._slice, self.slices))))

    def _optimiser(self) -> Optimiser:
        from studbook.protocols import Optimiser

        if self.server == "sgd":
            return Optimiser(rate=1.0 if self.server_rate is None else self.server_rate)
        return Optimiser(self.server, 0.1 if self.server_rate is None else self.server_rate, epsilon=1e-3)

    def _slice(self, text: str) -> tuple[str, Choice]:
        from studbook.errors import ConfigError
        from studbook.parameters import build
        from studbook.protocols import Choice

        group, equals, rest = text.partition("=")
        m, _, how = rest.partition(":")
        if not group or not equals or not m.isdecimal() or len(m) > 12:
            raise ConfigError(f"--slices is {text[:80]!r}, expected GROUP=M or GROUP=M:HOW", hint="such as words=1000 or neurons=16:random")
        return group, build(Choice, {"m": int(m), "how": how or self.keys}, "select")
