"""Content credentials: made for pictures, inside the file, and for any bytes, beside them."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

from studbook.errors import DataError, ProvenanceError
from studbook.provenance._c2pa import load_c2pa, make_context
from studbook.provenance.bindings import digest_of_binding, soft_binding_of
from studbook.provenance.certificates import Chain
from studbook.provenance.containers import manifest_of, picture_format
from studbook.provenance.statements import Statement, definition

ANY_BYTES = "application/octet-stream"
MAX_PICTURE = 1 << 28


def sign_picture(data: bytes, chain: Chain, statement: Statement, *, title: str = "", replace: bool = False) -> bytes:
    """A picture's file with a content credential inside it (C2PA, ES256): about 3.5 kB more, and not one pixel changed.

    Where the statement has no fingerprints, the picture's perceptual hash is added: by it a stripped credential is found again.

    Args:
        data: The file: PNG, JPEG or WebP.
        chain: Whose signature it is.
        statement: Where the picture comes from.
        title: A name for it.
        replace: Replace a credential that the file carries; its history ends there.

    Raises:
        DataError: No such picture, or one that carries a credential already.
        ProvenanceError: The certificates can't sign, for example because they have expired.
        MissingExtraError: The extra ``provenance`` isn't installed.

    Examples:
        >>> import numpy as np, tempfile
        >>> from pathlib import Path
        >>> from studbook.pictures import png_bytes
        >>> from studbook.provenance import Statement, Trust, new_chain, sign_picture, verify_credential
        >>> folder = Path(tempfile.mkdtemp(), "chain")
        >>> chain = new_chain(folder, "Example Laboratory")
        >>> signed = sign_picture(png_bytes(np.zeros((64, 64, 3), np.uint8)), chain, Statement(origin="generated", model="pixels-1"))
        >>> found = verify_credential(signed, trust=Trust.load([folder]))
        >>> found.signer, found.origin, found.model
        ('Example Laboratory', 'generated', 'pixels-1')
    """
    form = picture_format(data)
    if not form:
        raise DataError("a credential can't be embedded in this file, expected PNG, JPEG or WebP", hint="sign it with a sidecar")
    if len(data) > MAX_PICTURE:
        raise DataError(f"the picture has {len(data):,} bytes, expected at most {MAX_PICTURE:,}", hint="sign it with a sidecar")
    if not replace and manifest_of(data) is not None:
        raise DataError("the picture carries a credential already", hint="keep it, sign with a sidecar, or replace it")
    if not statement.digests:
        statement = _with_fingerprint(statement, data)
    made = io.BytesIO()
    _sign(io.BytesIO(data), made, form, chain, definition(statement, title), embed=True)
    return made.getvalue()


def sign_bytes(data: bytes, chain: Chain, statement: Statement, *, title: str = "") -> bytes:
    """A content credential for any bytes, to be kept beside them: a sidecar of about 3.5 kB.

    Args:
        data: What is signed: a text, Parquet, safetensors, a picture; at least one byte.
        chain: Whose signature it is.
        statement: Where it comes from.
        title: A name for it.

    Raises:
        DataError: No bytes.
        ProvenanceError: The certificates can't sign, for example because they have expired.
        MissingExtraError: The extra ``provenance`` isn't installed.
    """
    return sign_stream(io.BytesIO(data), chain, statement, title=title)


def sign_stream(stream: BinaryIO, chain: Chain, statement: Statement, *, title: str = "") -> bytes:
    """The sidecar of a file that is read from its beginning to its end, and never as a whole in memory.

    Args:
        stream: An open file that can be read and wound back.
        chain: Whose signature it is.
        statement: Where it comes from.
        title: A name for it.

    Raises:
        DataError: An empty file.
        ProvenanceError: The certificates can't sign, for example because they have expired.
        MissingExtraError: The extra ``provenance`` isn't installed.
    """
    stream.seek(0)
    if not stream.read(1):
        raise DataError("there is nothing to sign: the file is empty")
    stream.seek(0)
    return _sign(stream, _Nowhere(), ANY_BYTES, chain, definition(statement, title), embed=False)


def _with_fingerprint(statement: Statement, data: bytes) -> Statement:
    from dataclasses import replace

    from studbook.pictures import read_picture

    return replace(statement, digests=(digest_of_binding(soft_binding_of(read_picture(data, "the picture"))),))


def _sign(source: Any, target: Any, form: str, chain: Chain, manifest: dict[str, Any], *, embed: bool) -> bytes:
    c2pa = load_c2pa()
    try:
        with make_context() as context, c2pa.Builder(manifest, context=context) as builder:
            if not embed:
                builder.set_no_embed()
            info = c2pa.C2paSignerInfo(b"es256", chain.certificates, chain.secret_pem(), None)
            with c2pa.Signer.from_info(info) as signer:
                return bytes(builder.sign(signer, form, source, target))
    except c2pa.C2paError as error:
        reason = f"{error}"[:300]
        hint = (
            "studbook provenance chain renew FOLDER"
            if "not valid at time" in reason
            else "is the file whole, and are the certificates C2PA's?"
        )
        raise ProvenanceError(f"the credential can't be made: {reason}", hint=hint) from error


class _Nowhere(io.RawIOBase):
    """A file that forgets what is written: a sidecar's signer would copy what it signs."""

    def __init__(self) -> None:
        super().__init__()
        self._place = self._size = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._place += len(data)
        self._size = max(self._size, self._place)
        return len(data)

    def readinto(self, _buffer: Any) -> int:
        return 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place
