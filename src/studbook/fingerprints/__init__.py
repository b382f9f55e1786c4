"""From an output to its digest: images, text, token streams, activations, trajectories."""

from studbook.fingerprints.average import AverageHash
from studbook.fingerprints.catalog import FINGERPRINTS, create, distance
from studbook.fingerprints.colour import ColourHash
from studbook.fingerprints.difference import DifferenceHash
from studbook.fingerprints.minhash import MinHash, Similarity
from studbook.fingerprints.pdq import PdqHash
from studbook.fingerprints.perceptual import PerceptualHash
from studbook.fingerprints.pixels import to_uint8
from studbook.fingerprints.protocols import Fingerprint, FixedWidth, OwnMeasure
from studbook.fingerprints.simhash import SimHash
from studbook.fingerprints.text_exact import ExactText
from studbook.fingerprints.tokens import ExactTokens, TokenPrefix
from studbook.fingerprints.wavelet import WaveletHash

__all__ = [
    "FINGERPRINTS",
    "AverageHash",
    "ColourHash",
    "DifferenceHash",
    "ExactText",
    "ExactTokens",
    "Fingerprint",
    "FixedWidth",
    "MinHash",
    "OwnMeasure",
    "PdqHash",
    "PerceptualHash",
    "SimHash",
    "Similarity",
    "TokenPrefix",
    "WaveletHash",
    "create",
    "distance",
    "to_uint8",
]
