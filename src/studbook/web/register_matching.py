"""From a soft binding or an asset to the manifests in a register, and from a signed asset into it."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from studbook.errors import ConfigError, DataError, DigestError, ProvenanceError
from studbook.fingerprints import FixedWidth
from studbook.pictures import read_picture
from studbook.provenance import SoftBinding, binding_of, check_binding, digest_of_binding, manifest_of, verify_credential, verify_recovered
from studbook.records import Digest, Entry
from studbook.registry import Prints, fingerprint_pictures, fingerprint_texts
from studbook.registry.contents import IMAGE_SCHEMES, TEXT_SCHEMES
from studbook.registry.values import Added, Match

if TYPE_CHECKING:
    from studbook.fingerprints.pixels import Bytes
    from studbook.provenance import Credential, Trust
    from studbook.registry import Register

IMAGES = frozenset({"image/png", "image/jpeg", "image/webp", "image/bmp", "image/gif", "image/tiff", "image/x-portable-pixmap"})
TEXT = "text/plain"
_ASSET = "the asset"


@dataclass(frozen=True, slots=True)
class Found:
    """A manifest that may be the asset's.

    Attributes:
        manifest: Its SHA-256, ``sha256:…``.
        score: From 0, at the limit of what is near, to 100, the same bytes or the same fingerprint.
    """

    manifest: str
    score: int


@dataclass(frozen=True, slots=True)
class Asset:
    """Something that somebody sent.

    Attributes:
        data: Its bytes.
        media_type: One of ``IMAGES``, or ``TEXT``.
        pixels: Most that are unpacked.
    """

    data: bytes
    media_type: str
    pixels: int

    def picture(self) -> Bytes:
        """Its pixels.

        Raises:
            DataError: Too many, or not a picture.
        """
        return read_picture(self.data, _ASSET, max_pixels=self.pixels)

    def text(self) -> str:
        """Its text.

        Raises:
            DataError: Not UTF-8.
        """
        try:
            return self.data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{_ASSET} isn't UTF-8 at byte {error.start:,}", hint="send text/plain in UTF-8") from error


@cache
def algorithms() -> Mapping[str, FixedWidth]:
    """The fingerprints that a register looks for, by the names of their soft bindings.

    Examples:
        >>> from studbook.web.register_matching import algorithms
        >>> [alg.split(".")[2] for alg in algorithms()]
        ['phash', 'pdq', 'minhash']
    """
    return {binding_of(Digest(each.scheme, each.version, each.parameters, b"\0")).alg: each for each in (*IMAGE_SCHEMES, *TEXT_SCHEMES)}


@cache
def _n_bytes(alg: str) -> int:
    sample = "words" if algorithms()[alg] in TEXT_SCHEMES else np.zeros((8, 8), np.uint8)
    return int(algorithms()[alg].pack([sample]).shape[1])


def warm_up(register: Register) -> None:
    """Make ready what is compiled or mapped at first use.

    Raises:
        RegisterError: The register is damaged.
        RegisterUnavailableError: The database went away.
    """
    register.find_images(fingerprint_pictures([np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)]))
    register.find_texts(["a few words that nobody has ever asked for"])
    for alg in algorithms():
        _n_bytes(alg)


def digest_of(alg: str, value: str) -> Digest:
    """The fingerprint in a soft binding that the register can look for.

    Raises:
        ConfigError: An algorithm that it can't.
        DigestError: Not base64, or not as many bytes as a fingerprint of this kind has.
    """
    _known(alg)
    try:
        size = len(base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError) as error:
        raise DigestError(f"the value isn't base64: {error}"[:200], hint="the standard alphabet, with padding") from error
    if size != _n_bytes(alg):
        raise DigestError(f"the value has {size:,} bytes, expected {_n_bytes(alg)} of {alg}", hint="it is cut off, or of another algorithm")
    return digest_of_binding(SoftBinding(alg, value))


def _known(alg: str) -> FixedWidth:
    found = algorithms().get(alg)
    if found is None:
        raise ConfigError(f"the algorithm {alg[:80]!r} isn't looked for here", hint=f"known: {', '.join(algorithms())}")
    return found


def match_digests(register: Register, digests: Iterable[Digest]) -> list[Match]:
    """Entries with a manifest near any of these; a fingerprint without a bit set is that of whatever shows nothing, and near nothing."""
    shown = [each for each in digests if any(each.bits)]
    return [match for several in register.find_digests(shown, with_manifest=True) for match in several]


def match_asset(register: Register, asset: Asset, alg: str | None = None) -> list[Match]:
    """Entries with a manifest that are this asset or near it, by one algorithm or by all that fit.

    Raises:
        DataError: Not a picture, or not a text.
        ConfigError: An algorithm that isn't one for such assets.
    """
    prints = prints_of(asset)
    if alg is None:
        find = register.find_texts if prints.kind == "text" else register.find_images
        return list(find(prints, with_manifest=True)[0])
    scheme = _known(alg)
    packed = [packed for each, packed, _ in prints.packed if each.scheme == scheme.scheme]
    if not packed:
        raise ConfigError(f"{alg} isn't an algorithm for {asset.media_type}", hint="leave it out")
    return match_digests(register, (Digest(scheme.scheme, scheme.version, scheme.parameters, row.tobytes()) for row in packed[0]))


def prints_of(asset: Asset) -> Prints:
    """An asset as the register sees it.

    Raises:
        DataError: Not a picture, or not a text.
    """
    if asset.media_type == TEXT:
        return fingerprint_texts([asset.text()])
    # Unpacked here, where there is a bound; its name is that of the file all the same.
    return replace(fingerprint_pictures([asset.picture()]), contents=[hashlib.sha256(asset.data).digest()])


def manifests_of(matches: Iterable[Match], most: int) -> list[Found]:
    """The manifests of those entries that have one, the best first; each once."""
    best: dict[str, int] = {}
    for match in matches:
        if match.entry.manifest:
            best[match.entry.manifest] = max(score_of(match), best.get(match.entry.manifest, 0))
    return [Found(manifest, score) for manifest, score in sorted(best.items(), key=lambda item: -item[1])][:most]


def score_of(match: Match) -> int:
    """How near, as C2PA counts: 100 for no distance, 0 for the largest that counts as near."""
    if match.how == "exact" or match.limit <= 0.0:
        return 100
    return min(max(round(100.0 * (1.0 - match.distance / match.limit)), 0), 100)


@dataclass(frozen=True, slots=True)
class Kept:
    """A manifest that was taken in.

    Attributes:
        manifest: Its SHA-256.
        content: The entry that it belongs to.
        added: Whether that is new.
    """

    manifest: str
    content: str
    added: Added


def keep_manifest(register: Register, asset: Asset, store: bytes | None, trust: Trust, made: str) -> Kept:
    """Take in an asset with its manifest, once it was verified that they belong together.

    The entry's fingerprints are those of the asset. Those in the manifest are compared with it: a real manifest of another picture is
    refused, whatever else it says.

    Args:
        register: Where to.
        asset: What was signed, or what became of it when it was encoded again.
        store: The manifest beside it; ``None`` for the one inside.
        trust: Whose manifests are kept.
        made: When, in UTC.

    Raises:
        ProvenanceError: There is none, it can't be relied on, or it belongs to something else.
        DataError: Not a picture, or not a text.
        RegisterError: The asset is known with another manifest.
    """
    prints = prints_of(asset)
    inside = manifest_of(asset.data, _ASSET) if store is None else store
    if inside is None:
        raise ProvenanceError(f"{_ASSET} carries no manifest", hint="send it along")
    credential = _verified(register, asset, store, inside, trust)
    digests = tuple(
        Digest(scheme.scheme, scheme.version, scheme.parameters, row.tobytes()) for scheme, packed, _ in prints.packed for row in packed
    )
    entry = Entry(
        content=f"sha256:{prints.contents[0].hex()}", kind="text" if prints.kind == "text" else "image", origin=credential.origin,
        model=credential.model, source=f"c2pa:{credential.id}", digests=digests, manifest=credential.store, made=made,
    )  # fmt: skip
    register.put_manifest(inside)
    return Kept(credential.store, entry.content, register.add([entry]))


def _verified(register: Register, asset: Asset, store: bytes | None, inside: bytes, trust: Trust) -> Credential:
    """What the manifest says, once it was signed by somebody trusted, for this asset."""
    if asset.media_type == TEXT:
        return verify_credential(asset.data, trust=trust, sidecar=store, what=_ASSET)
    limits = {each.scheme: limit.value for each in IMAGE_SCHEMES if (limit := register.limit(each.scheme)) is not None}
    try:
        found = verify_credential(asset.data, trust=trust, sidecar=store, what=_ASSET)
    except ProvenanceError:
        # Its bytes aren't those that were signed. Its fingerprints may be.
        return verify_recovered(inside, asset.picture(), trust=trust, max_distance=limits, what=_ASSET)
    if any(each.alg in algorithms() and algorithms()[each.alg].scheme in limits for each in found.bindings):
        check_binding(found.bindings, asset.picture(), _ASSET, max_distance=limits)
    return found
