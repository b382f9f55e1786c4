"""Credentials and signed folders that are forged, expired, damaged, oversized, or of something else."""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import c2pa
import numpy as np
import pytest
from PIL import Image

from studbook.errors import DataError, FolderBusyError, ProvenanceError, StorageError, StudbookError
from studbook.pictures import jpeg_bytes, png_bytes, read_picture
from studbook.provenance import (
    Chain,
    Statement,
    Trust,
    inspect_credential,
    manifest_of,
    new_chain,
    read_credential,
    sign_bytes,
    sign_folder,
    sign_path,
    sign_picture,
    verify_credential,
    verify_folder,
    verify_path,
    verify_recovered,
)
from studbook.provenance._c2pa import make_context
from studbook.provenance.jumbf import MAX_STORE, check_store
from studbook.provenance.statements import definition

GENERATED = Statement(origin="generated", model="pixels-1")
TEXT = b"A text that was generated. " * 20
PIXELS = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)


def webp_bytes(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP")
    return file.getvalue()


PICTURES = {"png": png_bytes(PIXELS), "jpeg": jpeg_bytes(PIXELS, 90), "webp": webp_bytes(PIXELS)}


def flipped(data: bytes, place: int, bit: int = 0) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    return bytes(changed)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("provenance")
    new_chain(folder / "chain", "Lab")
    new_chain(folder / "evil", "Lab")  # the same name, another root
    return folder


@pytest.fixture(scope="module")
def chain(place: Path) -> Chain:
    return Chain.load(place / "chain")


@pytest.fixture(scope="module")
def trust(place: Path) -> Trust:
    return Trust.load([place / "chain"])


@pytest.fixture(scope="module")
def sidecar(chain: Chain) -> bytes:
    return sign_bytes(TEXT, chain, GENERATED)


def undetected(trust: Trust, places, change) -> list[tuple[int, int]]:
    """Which of the flipped bits nobody notices."""
    found = []
    for place, bit in places:
        try:
            change(place, bit)
        except ProvenanceError:
            continue
        found.append((place, bit))
    return found


def test_any_flipped_bit_of_a_sidecar_is_found(sidecar, trust):
    places = [(i, i % 8) for i in range(0, len(sidecar), 2)]
    assert not undetected(trust, places, lambda i, b: verify_credential(TEXT, sidecar=flipped(sidecar, i, b), trust=trust))


@pytest.mark.slow
def test_every_flipped_bit_of_a_sidecar_is_found(sidecar, trust):
    places = [(i, bit) for i in range(len(sidecar)) for bit in range(8)]
    assert not undetected(trust, places, lambda i, b: verify_credential(TEXT, sidecar=flipped(sidecar, i, b), trust=trust))


def test_any_flipped_bit_of_the_content_is_found(sidecar, trust):
    places = [(i, i % 8) for i in range(len(TEXT))]
    assert not undetected(trust, places, lambda i, b: verify_credential(flipped(TEXT, i, b), sidecar=sidecar, trust=trust))


@pytest.mark.parametrize("form", PICTURES)
def test_any_flipped_bit_of_a_signed_picture_is_found(form, chain, trust):
    signed = sign_picture(PICTURES[form], chain, GENERATED)
    places = [(i, i % 8) for i in range(0, len(signed), 3)]
    if form == "jpeg":  # the number that tells one store's segments from another's says nothing, and only there nothing is found
        number = signed.index(b"JP", 20) + 2
        places = [(i, bit) for i, bit in places if i not in (number, number + 1)]
    assert not undetected(trust, places, lambda i, b: verify_credential(flipped(signed, i, b), trust=trust))


def test_any_flipped_bit_of_a_recovered_credential_is_found(chain, trust):
    store = manifest_of(sign_picture(PICTURES["png"], chain, GENERATED))
    assert store is not None
    limits = {"phash": 0}
    assert verify_recovered(store, PIXELS, trust=trust, max_distance=limits).model == "pixels-1"
    places = [(i, i % 8) for i in range(0, len(store), 3)]
    assert not undetected(trust, places, lambda i, b: verify_recovered(flipped(store, i, b), PIXELS, trust=trust, max_distance=limits))


def test_a_sidecar_of_another_file_or_cut_off_is_refused(sidecar, trust):
    with pytest.raises(ProvenanceError, match="belongs to other content"):
        verify_credential(b"Another text.", sidecar=sidecar, trust=trust)
    for length in (0, 1, 7, 8, 100, 1500, len(sidecar) - 1):
        with pytest.raises(ProvenanceError):
            verify_credential(TEXT, sidecar=sidecar[:length], trust=trust)
    with pytest.raises(ProvenanceError, match="damaged or was changed"):
        verify_credential(TEXT, sidecar=sidecar + b"\0", trust=trust)
    with pytest.raises(ProvenanceError, match="damaged or was changed"):
        verify_credential(TEXT, sidecar=sidecar + sidecar, trust=trust)


def test_a_signer_of_the_same_name_under_another_root_is_refused(place, trust):
    forged = sign_bytes(TEXT, Chain.load(place / "evil"), GENERATED)
    with pytest.raises(ProvenanceError, match="isn't trusted here"):
        verify_credential(TEXT, sidecar=forged, trust=trust)


def test_a_swapped_certificate_is_refused(chain, place, trust):
    """Somebody else's key under the certificate of the one who is trusted."""
    evil = Chain.load(place / "evil")
    mixed = Chain(chain.certificates, chain.folder, evil._secret)
    forged = sign_bytes(TEXT, mixed, GENERATED)
    with pytest.raises(ProvenanceError, match="forged, or was changed"):
        verify_credential(TEXT, sidecar=forged, trust=trust)


def test_a_credential_of_another_picture_is_refused(chain, trust):
    """The store of one picture, put into another."""
    mine, other = sign_picture(PICTURES["png"], chain, GENERATED), png_bytes(255 - PIXELS)
    store = manifest_of(mine)
    assert store is not None
    chunk = struct.pack(">I", len(store)) + b"caBX" + store + struct.pack(">I", zlib.crc32(b"caBX" + store))
    stolen = other[:33] + chunk + other[33:]
    assert manifest_of(stolen) == store
    with pytest.raises(ProvenanceError, match="belongs to other content"):
        verify_credential(stolen, trust=trust)
    with pytest.raises(ProvenanceError, match="2 credentials"):
        verify_credential(mine[:33] + chunk + mine[33:], trust=trust)


def test_the_place_of_a_credential_cant_hold_another_picture(chain, trust):
    """The place of an embedded credential isn't under its own sum. Whoever puts pixels there and hands the credential on beside the file
    shows another picture under a real signature.
    """
    for plain in PICTURES.values():
        signed = sign_picture(plain, chain, GENERATED)
        store = manifest_of(signed)
        assert store is not None
        begin, end = signed.index(store[:40]), signed.index(store[-40:]) + 40
        for head, filling in ((8, b"\0"), (0, b"\xff"), (4, b" ")):
            changed = signed[: begin - head] + filling * (end - begin + head) + signed[end:]
            assert len(changed) == len(signed)
            with pytest.raises(ProvenanceError):
                verify_credential(changed, sidecar=store, trust=trust)
    pixels = zlib.compress(b"".join(b"\0" + bytes(48) for _ in range(16)))
    signed = sign_picture(PICTURES["png"], chain, GENERATED)
    store = manifest_of(signed)
    assert store is not None
    begin, size = signed.index(b"caBX") - 4, len(store) + 12
    black = _chunk(b"IDAT", pixels)
    black += _chunk(b"tEXt", bytes(size - len(black) - 12))
    changed = signed[:begin] + black + signed[begin + size :]
    assert not read_picture(changed, "changed").any()
    moved = changed[:-12] + _chunk(b"caBX", store) + changed[-12:]
    for data, sidecar in ((changed, store), (moved, store), (moved, None)):
        with pytest.raises(ProvenanceError):
            verify_credential(data, sidecar=sidecar, trust=trust)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_expired_credentials_and_folders_are_refused(tmp_path):
    chain = new_chain(tmp_path / "chain", "Lab", valid=dt.timedelta(seconds=5))
    trust = Trust.load([tmp_path / "chain"])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_bytes(TEXT)
    sign_folder(tmp_path / "data", chain)
    sidecar, signed = sign_bytes(TEXT, chain, GENERATED), sign_picture(PICTURES["png"], chain, GENERATED)
    time.sleep(max(0.0, (chain.leaf.not_valid_after_utc - dt.datetime.now(dt.UTC)).total_seconds()) + 1.1)
    for check in (
        lambda: verify_credential(TEXT, sidecar=sidecar, trust=trust),
        lambda: verify_credential(signed, trust=trust),
        lambda: verify_folder(tmp_path / "data", trust=trust),
    ):
        with pytest.raises(ProvenanceError, match="expired"):
            check()
    with pytest.raises(ProvenanceError, match="expired"):
        sign_folder(tmp_path / "data", chain)


def test_an_oversized_credential_is_refused_before_it_is_read(trust, sidecar):
    box = struct.pack(">I4s", MAX_STORE + 1, b"jumb") + bytes(MAX_STORE - 7)
    with pytest.raises(ProvenanceError, match="expected at most"):
        verify_credential(TEXT, sidecar=box, trust=trust)
    png = PICTURES["png"]
    chunk = struct.pack(">I", len(box)) + b"caBX" + box + struct.pack(">I", zlib.crc32(b"caBX" + box))
    with pytest.raises(ProvenanceError, match="expected at most"):
        verify_credential(png[:33] + chunk + png[33:], trust=trust)
    part = struct.pack(">2sHI", b"JP", 1, 1) + box[:60_000]
    jpeg = PICTURES["jpeg"]
    segments = b"".join(
        b"\xff\xeb" + struct.pack(">H", len(each) + 2) + each
        for each in (struct.pack(">2sHI", b"JP", 1, n) + part[8:] for n in range(1, MAX_STORE // 59_000 + 2))
    )
    with pytest.raises(ProvenanceError, match="more than"):
        verify_credential(jpeg[:2] + segments + jpeg[2:], trust=trust)


def test_boxes_within_boxes_end(trust):
    description = struct.pack(">I4s", 30, b"jumd") + b"c2ma" + bytes.fromhex("00110010800000aa00389b71") + b"\x03x\0\0\0"
    inner = b""
    for _ in range(10_000):
        inner = struct.pack(">I4s", 8 + len(description) + len(inner), b"jumb") + description + inner
        if len(inner) > MAX_STORE // 64:
            break
    with pytest.raises(ProvenanceError):
        check_store(inner, "it")
    deep = struct.pack(">I4s", 8, b"cbor")
    for _ in range(40):
        deep = struct.pack(">I4s", 8 + len(deep), b"jumb") + deep
    with pytest.raises(ProvenanceError):
        check_store(deep, "it")


def test_foreign_bytes_in_the_padding_are_found(sidecar, trust):
    """The library takes them; they would hide a message, and give one credential many digests."""
    start = sidecar.index(b"padY") + 6
    changed = sidecar[:start] + b"hidden message" + sidecar[start + 14 :]
    with c2pa.Reader("application/octet-stream", io.BytesIO(TEXT), changed, context=make_context(trust.anchors)) as reader:
        assert reader.get_validation_state() == "Trusted"
    with pytest.raises(ProvenanceError, match="padding"):
        verify_credential(TEXT, sidecar=changed, trust=trust)


def test_noise_is_refused_and_nothing_else_happens(sidecar, trust):
    """Seeded: bytes at random, and the parts of a real credential in another order."""
    rng = np.random.default_rng(7)
    for _ in range(300):
        data = bytearray(sidecar if rng.random() < 0.7 else rng.bytes(int(rng.integers(1, 400))))
        for _ in range(int(rng.integers(1, 12))):
            begin, size = int(rng.integers(0, len(data))), int(rng.integers(0, 40))
            data[begin : begin + size] = rng.bytes(int(rng.integers(0, 40)))
        try:
            verify_credential(TEXT, sidecar=bytes(data), trust=trust)
        except ProvenanceError:
            continue
        assert bytes(data) == sidecar


def test_noise_in_pictures_is_refused_and_nothing_else_happens(chain, trust):
    rng = np.random.default_rng(8)
    for form, plain in PICTURES.items():
        signed = sign_picture(plain, chain, GENERATED)
        for _ in range(60):
            data = bytearray(signed)
            begin = int(rng.integers(0, len(data)))
            data[begin : begin + int(rng.integers(1, 300))] = rng.bytes(int(rng.integers(0, 300)))
            try:
                found = read_credential(bytes(data), trust=trust)
            except ProvenanceError:
                continue
            assert found is None, form  # stripped


def test_a_statement_that_cant_be_read_is_refused(chain, trust):
    """A trusted signer with another program: what is under our name must be ours."""
    for said in ({"json": "{}"}, {"json": 3}, {"json": '{"schema":"studbook.statement/9"}'}, {"json": "[" * 5000}, []):
        manifest = definition(GENERATED, "t")
        manifest["assertions"][1]["data"] = said
        info = c2pa.C2paSignerInfo(b"es256", chain.certificates, chain.secret_pem(), None)
        with make_context() as context, c2pa.Builder(manifest, context=context) as builder, c2pa.Signer.from_info(info) as signer:
            builder.set_no_embed()
            made = builder.sign(signer, "application/octet-stream", io.BytesIO(TEXT), io.BytesIO())
        with pytest.raises(ProvenanceError, match="can't be read"):
            verify_credential(TEXT, sidecar=made, trust=trust)


def test_what_others_sign_as_a_models_is_generated(chain, trust):
    """A credential without our statement, of a picture that was edited with a model's help."""
    kind = "http://cv.iptc.org/newscodes/digitalsourcetype/"
    for source, origin in (
        ("compositeWithTrainedAlgorithmicMedia", "generated"),
        ("digitalCapture", "human"),
        ("virtualRecording", "unknown"),
    ):
        manifest = definition(GENERATED, "t")
        manifest["assertions"] = manifest["assertions"][:1]
        manifest["assertions"][0]["data"]["actions"][0]["digitalSourceType"] = kind + source
        info = c2pa.C2paSignerInfo(b"es256", chain.certificates, chain.secret_pem(), None)
        made = io.BytesIO()
        with make_context() as context, c2pa.Builder(manifest, context=context) as builder, c2pa.Signer.from_info(info) as signer:
            builder.sign(signer, "image/png", io.BytesIO(PICTURES["png"]), made)
        found = verify_credential(made.getvalue(), trust=trust)
        assert (found.origin, found.statement, found.model) == (origin, None, "")


def test_a_credential_somewhere_else_is_never_fetched(chain, trust):
    """A picture that names an address for its credential, on a server that counts who asks."""
    asked = []

    class Counting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Counting)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        info = c2pa.C2paSignerInfo(b"es256", chain.certificates, chain.secret_pem(), None)
        made = io.BytesIO()
        with make_context() as context, c2pa.Builder(definition(GENERATED, "t"), context=context) as builder:
            builder.set_no_embed()
            builder.set_remote_url(f"http://127.0.0.1:{server.server_port}/manifest.c2pa")
            with c2pa.Signer.from_info(info) as signer:
                store = builder.sign(signer, "image/png", io.BytesIO(PICTURES["png"]), made)
        assert b"manifest.c2pa" in made.getvalue()
        assert read_credential(made.getvalue(), trust=trust) is None
        assert inspect_credential(made.getvalue()) is None
        assert verify_credential(made.getvalue(), sidecar=store, trust=trust).origin == "generated"
    finally:
        server.shutdown()
        thread.join()
    assert asked == []


WITHOUT = """
import sys
for name in ("c2pa", "model_signing", "OpenSSL"):
    sys.modules[name] = None
from pathlib import Path
from studbook.errors import MissingExtraError
from studbook.provenance import *
place = Path(sys.argv[1])
chain = new_chain(place / "chain", "Lab")
(place / "data").mkdir()
(place / "data" / "a.txt").write_text("a")
for work in (lambda: sign_bytes(b"x", chain, Statement(origin="human")), lambda: sign_folder(place / "data", chain)):
    try:
        work()
    except MissingExtraError as error:
        print(error.hint)
"""


def test_without_the_extra_the_pip_line_is_said(tmp_path):
    done = subprocess.run([sys.executable, "-c", WITHOUT, str(tmp_path)], check=False, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == 2 * ["pip install 'studbook[provenance]'"], done.stderr


OFFLINE = """
import sys
from pathlib import Path
from studbook.provenance import *
place = Path(sys.argv[1])
chain = new_chain(place / "chain", "Lab")
trust = Trust.load([place / "chain"])
print(verify_credential(b"x", sidecar=sign_bytes(b"x", chain, Statement(origin="human")), trust=trust).signer)
(place / "data").mkdir()
(place / "data" / "a.txt").write_text("a")
sign_folder(place / "data", chain)
print(verify_folder(place / "data", trust=trust).signer)
"""


def test_all_of_it_works_without_a_network(tmp_path):
    """In a name space of its own, with no interface at all."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rn", "true"], check=False, capture_output=True).returncode:
        pytest.skip("unshare isn't allowed here")
    done = subprocess.run(
        [unshare, "-rn", sys.executable, "-c", OFFLINE, str(tmp_path)], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["Lab", "Lab"], done.stderr


@pytest.fixture
def signed_folder(tmp_path, chain) -> Path:
    folder = tmp_path / "model"
    (folder / "shards").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    for i in range(3):
        (folder / "shards" / f"{i}.safetensors").write_bytes(bytes([i]) * 100)
    (folder / ".lock").touch()
    sign_folder(folder, chain)
    return folder


def test_the_file_that_was_changed_is_named(signed_folder, trust):
    assert set(verify_folder(signed_folder, trust=trust).sums) == {"config.json", *(f"shards/{i}.safetensors" for i in range(3))}
    (signed_folder / "shards" / "1.safetensors").write_bytes(bytes([1]) * 99 + b"\0")
    with pytest.raises(ProvenanceError, match=r"changed shards/1\.safetensors"):
        verify_folder(signed_folder, trust=trust)
    (signed_folder / "config.json").unlink()
    (signed_folder / "shards" / "evil.pkl").write_bytes(b"x")
    (signed_folder / ".hidden").write_bytes(b"x")
    with pytest.raises(ProvenanceError, match=r"changed shards/1\.safetensors; missing config\.json; added \.hidden, shards/evil\.pkl"):
        verify_folder(signed_folder, trust=trust)


def test_a_folder_signed_by_somebody_else_is_refused(signed_folder, trust, place):
    sign_folder(signed_folder, Chain.load(place / "evil"))
    with pytest.raises(ProvenanceError, match="isn't trusted here"):
        verify_folder(signed_folder, trust=trust)
    with pytest.raises(ProvenanceError, match="isn't signed"):
        verify_folder(place / "chain", trust=trust)


def test_any_flipped_bit_of_a_folders_signature_is_found(signed_folder, trust):
    file = signed_folder / "model.sig"
    good = file.read_bytes()

    def check(place: int, bit: int) -> None:
        file.write_bytes(flipped(good, place, bit))
        verify_folder(signed_folder, trust=trust)

    assert not undetected(trust, [(i, i % 7) for i in range(0, len(good), 5)], check)


def test_a_statement_under_an_old_signature_is_refused(signed_folder, trust):
    """The sums of the changed file, written into a statement that somebody else signed."""
    bundle = json.loads((signed_folder / "model.sig").read_text())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    statement["predicate"]["serialization"]["ignore_paths"].append("shards")
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    (signed_folder / "model.sig").write_text(json.dumps(bundle))
    with pytest.raises(ProvenanceError, match="forged or was changed"):
        verify_folder(signed_folder, trust=trust)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"verificationMaterial": 3}', b'{"dsseEnvelope": {}}']
)
def test_what_is_no_signature_is_refused(signed_folder, trust, data):
    (signed_folder / "model.sig").write_bytes(data)
    with pytest.raises(ProvenanceError, match="no signature of a folder"):
        verify_folder(signed_folder, trust=trust)


def test_links_and_devices_are_refused(signed_folder, trust, chain):
    (signed_folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(ProvenanceError, match="is a link"):
        verify_folder(signed_folder, trust=trust)
    with pytest.raises(DataError, match="is a link"):
        sign_folder(signed_folder, chain)
    (signed_folder / "link").unlink()
    os.mkfifo(signed_folder / "pipe")
    with pytest.raises(ProvenanceError, match="no plain file"):
        verify_folder(signed_folder, trust=trust)


def test_names_that_arent_text(signed_folder, chain, trust):
    odd = signed_folder / os.fsdecode(b"\xff\x1b[31m.txt")
    odd.write_bytes(TEXT)
    with pytest.raises(DataError, match="isn't UTF-8"):
        sign_folder(signed_folder, chain)
    with pytest.raises(ProvenanceError, match="isn't UTF-8"):
        verify_folder(signed_folder, trust=trust)
    sign_path(odd, chain, GENERATED)
    assert verify_path(odd, trust=trust).signer == "Lab"


def test_a_signers_name_cant_control_a_terminal(tmp_path):
    """A stranger's certificate, shown before anything is verified."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    from studbook.provenance.certificates import common_name

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Lab\x1b[2J\nverified yes")])
    assert common_name(name) == "Lab\\x1b[2J\\nverified yes"


def test_a_folder_that_is_being_written_isnt_signed(signed_folder, chain):
    (signed_folder / ".writing-x").touch()
    with pytest.raises(FolderBusyError, match="being written"):
        sign_folder(signed_folder, chain)


def test_names_out_of_the_folder_arent_ignored(signed_folder, chain):
    for name in ("..", "/etc", "a/../../b", ""):
        with pytest.raises(StudbookError, match="within the folder"):
            sign_folder(signed_folder, chain, ignore=[name])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cant_be_read_is_said(signed_folder, trust):
    (signed_folder / "config.json").chmod(0)
    with pytest.raises(StorageError, match="can't be read"):
        verify_folder(signed_folder, trust=trust)
