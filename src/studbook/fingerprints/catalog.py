"""The names of the fingerprints, in one explicit place: adding one is a file in this package and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studbook.errors import ConfigError, DigestError
from studbook.fingerprints.average import AverageHash
from studbook.fingerprints.colour import ColourHash
from studbook.fingerprints.difference import DifferenceHash
from studbook.fingerprints.minhash import MinHash
from studbook.fingerprints.pdq import PdqHash
from studbook.fingerprints.perceptual import PerceptualHash
from studbook.fingerprints.protocols import Fingerprint, OwnMeasure
from studbook.fingerprints.simhash import SimHash
from studbook.fingerprints.text_exact import ExactText
from studbook.fingerprints.tokens import ExactTokens, TokenPrefix
from studbook.fingerprints.wavelet import WaveletHash
from studbook.parameters import build, nearest
from studbook.records import Digest

FINGERPRINTS: Mapping[str, type[Fingerprint]] = {
    "ahash": AverageHash,
    "dhash": DifferenceHash,
    "phash": PerceptualHash,
    "whash": WaveletHash,
    "colorhash": ColourHash,
    "pdq": PdqHash,
    "text_exact": ExactText,
    "simhash": SimHash,
    "minhash": MinHash,
    "tokens_exact": ExactTokens,
    "tokens_prefix": TokenPrefix,
}


def create(name: str, parameters: Mapping[str, object] | None = None) -> Fingerprint:
    """The fingerprint of this name.

    Args:
        name: A key of ``FINGERPRINTS``.
        parameters: Its parameters, as a table of a TOML file gives them.

    Raises:
        ConfigError: An unknown name (with the nearest one), or parameters that it doesn't take.

    Examples:
        >>> from studbook.fingerprints import create
        >>> create("phash", {"size": 16})
        PerceptualHash(size=16)
    """
    if name not in FINGERPRINTS:
        raise ConfigError(f"there is no fingerprint {str(name)[:80]!r}", hint=nearest(str(name), FINGERPRINTS, noun="fingerprint"))
    return build(FINGERPRINTS[name], parameters or {}, where=name)


def distance(one: Digest, other: Digest) -> float:
    """How far apart two digests are, by the measure of their scheme.

    Bits that differ (Hamming) for most; for a scheme with its own measure, such as ``minhash`` or ``tokens_prefix``, that one, 0 … 1.

    Raises:
        DigestError: They can't be compared, or the catalog doesn't know their scheme and so not its measure.

    Examples:
        >>> from studbook.fingerprints import SimHash, TokenPrefix, distance
        >>> distance(*SimHash().digests(["one text", "one text"])), distance(*TokenPrefix().digests([[1, 2], [1, 3]]))
        (0.0, 1.0)
    """
    cls: Any = FINGERPRINTS.get(one.scheme)
    if cls is None:
        raise DigestError(f"the scheme {one.scheme!r} isn't in the catalog", hint=nearest(one.scheme, FINGERPRINTS, noun="scheme"))
    return float(cls.distance(one, other) if issubclass(cls, OwnMeasure) else one.hamming(other))
