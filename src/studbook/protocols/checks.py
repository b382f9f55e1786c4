"""What several protocols refuse."""

from __future__ import annotations

from studbook.errors import ConfigError


def require_several(protocol: str, n: int) -> None:
    """Refuse one node alone.

    Raises:
        ConfigError: Fewer than two.

    Examples:
        >>> from studbook.protocols.checks import require_several
        >>> require_several("gossip", 2)
    """
    if n < 2:
        raise ConfigError(f"{protocol} training has {n} node, expected 2 or more", hint="one node alone is the protocol independent")
