"""The invisible mark dwtDctSvd, through the package ``invisible-watermark``, with a test of exact error.

A bit lies in the largest singular value of each 8 × 8 block of the picture's blue-difference plane; the payload is repeated over all
blocks and read by majority. It survives JPEG and a change of size and back, and no crop: the blocks are found by counting.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studbook.errors import ConfigError, DataError, MissingExtraError
from studbook.marks.images import Picture, PictureMarkTest, check_picture
from studbook.records.digest import Setting

LEAST_PIXELS = 256 * 256
"""What the package takes, and no fewer."""
MAX_PAYLOADS = 4096
_METHOD = "dwtDctSvd"
_HEX = re.compile(r"(?:[0-9a-f]{2}){4,32}")


@dataclass(frozen=True, slots=True)
class DwtDctSvd:
    """The mark, and the payloads that are looked for.

    The p-value is exact for a payload that was drawn by chance, whatever the picture: each bit of it then matches with probability ½.
    A payload of nearly equal bits is refused, because every picture of one colour would carry it; the p-value accounts for that.

    Attributes:
        payloads: In hex, 32 to 256 bits, all of one length; the first one is embedded, all are looked for, and the p-value is corrected for
            their number.

    Raises:
        ConfigError: Not such payloads, or nearly all of a payload's bits are equal.

    References:
        K. A. Navas et al., "DWT-DCT-SVD based watermarking", COMSWARE 2008; Q. Zhang, the package invisible-watermark.

    Examples:
        >>> import numpy as np
        >>> from studbook.marks.dwt_dct_svd import DwtDctSvd, random_payload
        >>> rng = np.random.default_rng(7)
        >>> mark = DwtDctSvd((random_payload(rng),))
        >>> picture = rng.integers(60, 200, (256, 256, 3), dtype=np.uint8)
        >>> found = mark.test(mark.embed(picture))
        >>> found.found == mark.payloads[0], f"{found.p_value:.0e}"
        (True, '3e-10')
    """

    payloads: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.payloads) <= MAX_PAYLOADS:
            raise ConfigError(f"{len(self.payloads):,} payloads, expected 1 to {MAX_PAYLOADS:,}", hint="studbook mark payload draws one")
        for payload in self.payloads:
            if not isinstance(payload, str) or not _HEX.fullmatch(payload):
                raise ConfigError(
                    f"a payload is {str(payload)[:80]!r}, expected 8 to 64 lower-case hex digits", hint="studbook mark payload draws one"
                )
            if len(payload) != len(self.payloads[0]):
                raise ConfigError(f"payloads have {len(self.payloads[0])} and {len(payload)} hex digits, expected one length")
            if not _balanced(payload):
                raise ConfigError(
                    f"the payload {payload} has {_ones(payload)} ones in {4 * len(payload)} bits: any picture of one colour looks like it",
                    hint="studbook mark payload draws one",
                )
        if len(set(self.payloads)) != len(self.payloads):
            raise ConfigError("a payload is there twice", hint="each counts in the correction for their number")

    @property
    def name(self) -> str:
        """``"dwt-dct-svd"``."""
        return "dwt-dct-svd"

    @property
    def parameters(self) -> tuple[tuple[str, Setting], ...]:
        """The payloads."""
        return (("payloads", ",".join(self.payloads)),)

    @property
    def n_bits(self) -> int:
        """Bits of a payload."""
        return 4 * len(self.payloads[0])

    def embed(self, picture: Picture) -> Picture:
        """The picture with the first payload.

        Args:
            picture: ``(h, w, 3)`` uint8 in RGB, at least 65,536 pixels.

        Returns:
            ``(h, w, 3)`` uint8. A pixel changes by 1 to 3 levels in the mean; at sharp coloured edges by many more.

        Raises:
            DataError: Not a picture, or too small for the payload.
            MissingExtraError: The package isn't installed.
        """
        image = self._checked(picture)
        encoder = _package().WatermarkEncoder()
        encoder.set_by_bits(_bits(self.payloads[0]).tolist())
        return np.ascontiguousarray(np.asarray(encoder.encode(image[:, :, ::-1].copy(), _METHOD), np.uint8)[:, :, ::-1])

    def read(self, picture: Picture) -> NDArray[np.bool_]:
        """The bits that the picture holds, marked or not.

        Args:
            picture: As in ``embed``.

        Returns:
            ``(n_bits,)``.

        Raises:
            DataError: Not a picture, or too small for the payload.
            MissingExtraError: The package isn't installed.
        """
        image = self._checked(picture)
        decoder = _package().WatermarkDecoder("bits", self.n_bits)
        return np.asarray(decoder.decode(image[:, :, ::-1].copy(), _METHOD), dtype=bool)

    def test(self, picture: Picture) -> PictureMarkTest:
        """Look for the payloads. The score is −log₁₀ of the p-value; not-a-number for a picture that is too small.

        Raises:
            DataError: Not a picture.
            MissingExtraError: The package isn't installed.
        """
        image = check_picture(picture)
        if reason := self._too_small(image):
            return PictureMarkTest(self.name, math.nan, None, "", reason)
        matches = np.array([_bits(payload) for payload in self.payloads]) == self.read(image)
        best = int(matches.sum(axis=1).argmax())
        n_matches = int(matches[best].sum())
        p_value = min(1.0, len(self.payloads) * match_probability(n_matches, self.n_bits))
        reason = f"{n_matches} of {self.n_bits} bits are those of payload {self.payloads[best]}"
        return PictureMarkTest(self.name, -math.log10(p_value), p_value, self.payloads[best], reason)

    def _checked(self, picture: Picture) -> Picture:
        image = check_picture(picture)
        if reason := self._too_small(image):
            raise DataError(reason, hint="a smaller picture can't hold the mark")
        return image

    def _too_small(self, image: Picture) -> str:
        height, width = image.shape[:2]
        size = f"the picture has {height} × {width} pixels"
        if height * width < LEAST_PIXELS:
            return f"{size}, and the mark needs at least {LEAST_PIXELS:,}"
        blocks = (height // 4 * 4 // 8) * (width // 4 * 4 // 8)
        return f"{size}, that is {blocks} blocks for {self.n_bits} bits" if blocks < self.n_bits else ""


def random_payload(rng: np.random.Generator, n_bits: int = 32) -> str:
    """A payload drawn by chance among those that aren't nearly constant, in hex.

    Args:
        rng: Where chance comes from.
        n_bits: A multiple of 8, 32 … 256.

    Raises:
        ConfigError: Not such a length.

    Examples:
        >>> import numpy as np
        >>> from studbook.marks.dwt_dct_svd import random_payload
        >>> len(random_payload(np.random.default_rng(0), 64))
        16
    """
    if n_bits % 8 or not 32 <= n_bits <= 256:
        raise ConfigError(f"n_bits is {n_bits}, expected a multiple of 8, 32 to 256")
    while True:
        payload = rng.bytes(n_bits // 8).hex()
        if _balanced(payload):
            return payload


def match_probability(n_matches: int, n_bits: int) -> float:
    """How likely so many bits or more match a payload that was drawn by ``random_payload``, whatever was read: a bound, nearly sharp.

    P(Binomial(n, ½) ≥ k), divided by the share of payloads that aren't refused.

    Args:
        n_matches: Bits that match, 0 … ``n_bits``.
        n_bits: Bits of the payload.

    Examples:
        >>> from studbook.marks.dwt_dct_svd import match_probability
        >>> f"{match_probability(32, 32):.1e}", round(match_probability(16, 32), 2)
        ('2.6e-10', 0.64)
    """
    counts = [math.comb(n_bits, i) for i in range(n_bits + 1)]
    low, high = _limits(n_bits)
    # In whole numbers; the division is the only rounding.
    return min(1.0, sum(counts[n_matches:]) / sum(counts[low : high + 1]))


def _limits(n_bits: int) -> tuple[int, int]:
    """Fewest and most ones of a payload."""
    return -(-3 * n_bits // 8), 5 * n_bits // 8


def _balanced(payload: str) -> bool:
    low, high = _limits(4 * len(payload))
    return low <= _ones(payload) <= high


def _ones(payload: str) -> int:
    return int(payload, 16).bit_count()


def _bits(payload: str) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(bytes.fromhex(payload), np.uint8)).astype(bool)


def _package() -> Any:
    try:
        import imwatermark
    except ImportError as error:
        message = "the mark dwtDctSvd needs the package invisible-watermark, not installed"
        raise MissingExtraError(message, hint="pip install 'studbook[marks]'") from error
    return imwatermark
