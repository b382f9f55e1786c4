"""Whatever is sent to a register's service, it answers as its OpenAPI schema says, and never with a fault of its own."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.xdist_group("register-hostile")
PROBLEM = {"code", "message", "hint"}
TOKEN = "a-writer-s-secret-token"
LIMIT_KB = 256


@pytest.fixture(scope="module")
def helpers():
    path = Path(__file__).parents[1] / "integration" / "register_site.py"
    spec = importlib.util.spec_from_file_location("register_site", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["register_site"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def service(helpers, tmp_path_factory):
    site = helpers.build(tmp_path_factory.mktemp("register-site"))
    limits = ["--rate", "0", "--body-limit-kb", str(LIMIT_KB), "--pixel-limit-mp", "1"]
    with helpers.serving(site.location, *site.options, *limits) as started:
        yield started
        assert started.process.poll() is None
        assert not any("Traceback" in line for line in started.log), "".join(started.log)


def headers(kind: str = "application/json") -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind}


def refusal(answer: httpx.Response, *statuses: int) -> str:
    assert answer.status_code in statuses, answer.text
    assert set(answer.json()) == PROBLEM
    assert "site-packages" not in answer.text and "/tmp" not in answer.text
    return answer.json()["message"]


def test_schemathesis_finds_no_fault(service, tmp_path):
    """Its own program: boundary values and other methods of every route, generated requests, good ones and bad ones."""
    command = [
        str(Path(sys.executable).with_name("st")), "run", f"{service.url}/openapi.json", "--header", f"Authorization: Bearer {TOKEN}",
        "--phases", "examples,coverage,fuzzing", "--mode", "all", "--max-examples", "5",
        # Nothing generated is a picture, a fingerprint of the right length, or signed; all its other checks are made.
        "--exclude-checks", "positive_data_acceptance",
        "--generation-deterministic", "--seed", "1", "--continue-on-failure", "--no-color", "--warnings", "off", "--max-time", "14",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "No issues found" in done.stdout


BINDINGS = {
    "not base64": ("org.studbook.phash.1", "!!!!"),
    "url alphabet": ("org.studbook.phash.1", "_-8A_wD_AP8="),
    "too short": ("org.studbook.phash.1", "AAAA"),
    "too long": ("org.studbook.phash.1", "A" * 400),
    "nothing": ("org.studbook.phash.1", ""),
    "no such algorithm": ("com.example.mark.1", "AAAAAAAAAAA="),
    "another version": ("org.studbook.phash.9", "AAAAAAAAAAA="),
    "other parameters": ("org.studbook.phash.1.size-9999", "AAAAAAAAAAA="),
    "a simple hash": ("org.studbook.simhash.1", "AAAAAAAAAAA="),
    "no Unicode": ("\ud800", "\udfff"),
    "a long name": ("a" * 4000, "AAAA"),
}


@pytest.mark.parametrize(("alg", "value"), BINDINGS.values(), ids=BINDINGS)
def test_strange_bindings_are_typed_refusals(service, alg, value):
    body = json.dumps({"alg": alg, "value": value}).encode()
    refusal(httpx.post(f"{service.url}/matches/byBinding", content=body, headers=headers()), 400)
    if alg.isascii():
        refusal(httpx.get(f"{service.url}/matches/byBinding", params={"alg": alg, "value": value}, headers=headers()), 400)


@pytest.mark.parametrize("most", ["0", "-1", "1.5", "x", "1" * 5000])
def test_strange_numbers_of_results(service, most):
    asked = {"alg": "org.studbook.phash.1", "value": "/wD/AP8A/wA=", "maxResults": most}
    refusal(httpx.get(f"{service.url}/matches/byBinding", params=asked, headers=headers()), 400)


def test_no_result_is_no_refusal(service):
    """A fingerprint without a bit set is that of whatever shows nothing; very many results are as many as there are."""
    for value in ("AAAAAAAAAAA=", "/wD/AP8A/wA="):
        asked = {"alg": "org.studbook.phash.1", "value": value, "maxResults": 10**30}
        assert httpx.get(f"{service.url}/matches/byBinding", params=asked, headers=headers()).json() == {"matches": []}


def test_a_long_value_goes_into_a_body(service):
    asked = {"alg": "org.studbook.phash.1", "value": "A" * 10_000}
    assert "send it by POST" in httpx.get(f"{service.url}/matches/byBinding", params=asked, headers=headers()).text
    refusal(httpx.get(f"{service.url}/matches/byBinding", params=asked, headers=headers()), 414)


def png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")


ASSETS = {
    "a billion pixels": png(40_000, 25_000, bytes(1000)),
    "just too many": png(1001, 1000, bytes(1001 * 3001)),
    "cut off": png(500, 500, bytes(100)),
    "no picture": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "nothing": b"",
    "a damaged manifest": png(8, 8, bytes(8 * 25))[:33] + struct.pack(">I4s", 0xFFFFFFF0, b"caBX"),
}


@pytest.mark.parametrize("data", ASSETS.values(), ids=ASSETS)
def test_strange_pictures_are_typed_refusals(service, data):
    refusal(httpx.post(f"{service.url}/matches/byContent", content=data, headers=headers("image/png")), 400)
    body = {"asset": base64.b64encode(data).decode(), "mediaType": "image/png"}
    refusal(httpx.post(f"{service.url}/manifests", json=body, headers=headers()), 400, 422)


def test_a_compression_bomb_is_refused_by_its_header(service):
    """200 kB that would be 192 MB of pixels."""
    bomb = png(8000, 8000, bytes(8000 * 24_001))
    assert len(bomb) < LIMIT_KB << 10
    message = refusal(httpx.post(f"{service.url}/matches/byContent", content=bomb, headers=headers("image/png"), timeout=60), 400)
    assert "8,000 x 8,000 pixels" in message
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    peak_kb = int(status.split("VmHWM:")[1].split()[0])
    assert peak_kb < 1_000_000  # Numba and c2pa have some 400 MB of it


@pytest.mark.parametrize(
    ("kind", "status"),
    [("audio/mpeg", 415), ("image/svg+xml", 415), ("", 415), ("text/plain; charset=latin-1", 415), ("text/plain", 400), ("a" * 3000, 415)],
)
def test_assets_of_other_kinds(service, kind, status):
    refusal(httpx.post(f"{service.url}/matches/byContent", content=b"\xff\xfe", headers=headers(kind)), status)


BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b'{"alg": "\xff"}',
    "nested deeply": b"[" * 100_000,
    "a list": b"[]",
    "NaN": b"NaN",
    "a long number": b'{"entries": ' + b"1" * 100_000 + b"}",
    "no entries": b'{"entries": []}',
    "too many entries": json.dumps({"entries": [{}] * 5000}).encode(),
    "a name with controls": json.dumps(
        {"entries": [{"content": "sha256:" + 64 * "0", "kind": "text", "origin": "human", "model": "\u0000"}]}
    ).encode(),
    "half a surrogate pair": json.dumps(
        {"entries": [{"content": "sha256:" + 64 * "0", "kind": "text", "origin": "human", "source": "\ud800"}]}
    ).encode(),
    "a digest of no scheme": json.dumps(
        {
            "entries": [
                {
                    "content": "sha256:" + 64 * "0",
                    "kind": "text",
                    "origin": "human",
                    "digests": [{"scheme": "\u0000", "version": 1, "parameters": {}, "bits": "AAAA"}],
                }
            ]
        }
    ).encode(),
    "a version without end": b'{"entries": [{"content": "sha256:' + b"0" * 64 + b'", "kind": "text", "origin": "human", "digests": '
    b'[{"scheme": "phash", "version": 99999999999999999999999, "parameters": {"size": 1e400}, "bits": "AAAA"}]}]}',
    "an asset that isn't base64": b'{"asset": "!!!!", "mediaType": "image/png"}',
}  # fmt: skip


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_strange_bodies_are_typed_refusals(service, body):
    for path in ("/entries", "/manifests", "/matches/byBinding"):
        refusal(httpx.post(service.url + path, content=body, headers=headers()), 400, 415)


def test_an_entry_that_descends_from_itself_is_refused_and_nothing_is_kept(service):
    one, other = (f"sha256:{n:064x}" for n in (1, 2))
    entries = [{"content": child, "kind": "text", "origin": "human", "parents": [parent]} for child, parent in ((one, other), (other, one))]
    refusal(httpx.post(f"{service.url}/entries", json={"entries": entries}, headers=headers()), 409)
    refusal(httpx.get(f"{service.url}/entries/{one}", headers=headers()), 404)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/manifests/../../etc/passwd", 404),
        ("GET", "/manifests/..%2F..%2Fetc%2Fpasswd", 404),
        ("GET", "/manifests/urn:c2pa:0b7a1c5e", 400),
        ("GET", f"/manifests/sha256:{64 * '0'}", 404),
        ("GET", f"/manifests/sha256:{64 * '0'}?returnActiveManifest=perhaps", 400),
        ("GET", "/entries/%00", 400),
        ("GET", "/entries/%F0%9F%92%A9", 400),
        ("PUT", "/entries", 405),
        ("DELETE", f"/manifests/sha256:{64 * '0'}", 405),
        ("OPTIONS", "/matches/byContent", 405),
        ("TRACE", "/entries", 405),
        ("POST", "/matches/byReference", 501),
        ("GET", "/docs", 404),
        ("GET", "/manifests/", 404),
    ],
)
def test_strange_routes_are_typed_refusals(service, method, path, status):
    answer = httpx.request(method, service.url + path, headers={**headers(), "Origin": "https://page.example"})
    refusal(answer, status)
    assert "access-control-allow-origin" not in answer.headers


def test_head_is_refused_without_a_body(service):
    answer = httpx.head(f"{service.url}/services/supportedAlgorithms")
    assert (answer.status_code, answer.headers["allow"], answer.content) == (405, "GET", b"")


def exchange(service, data: bytes) -> bytes:
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as line:
        with contextlib.suppress(OSError):
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
        parts = []
        with contextlib.suppress(OSError):
            while part := line.recv(65536):
                parts.append(part)
        return b"".join(parts)


HEAD = f"POST /matches/byContent HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: image/png\r\n".encode()


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"Content-Length: 10\r\n\r\n{",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /entries HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_strange_bytes_leave_the_service_alive(service, data):
    answer = exchange(service, data)
    assert not answer.startswith((b"HTTP/1.1 5", b"HTTP/1.0 5"))
    assert httpx.get(f"{service.url}/health").status_code == 200


def test_a_body_is_bounded_while_it_is_read(service):
    """A length that lies, and a body without one: no more than the limit is held, and the answer is 413."""
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    answer = exchange(service, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 12 + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413") and b"too-large" in answer


def test_many_callers_at_once_are_served_or_told_to_wait(service):
    host, port = service.url.removeprefix("http://").split(":")
    lines = [socket.create_connection((host, int(port)), timeout=20) for _ in range(100)]
    for line in lines:
        line.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
    busy = httpx.get(f"{service.url}/health")
    assert busy.status_code == 503 and busy.json()["code"] == "busy" and busy.headers["retry-after"] == "1"
    for line in lines:
        line.close()
    for _ in range(100):
        if httpx.get(f"{service.url}/health").status_code == 200:
            return
    raise AssertionError("the service doesn't come back")
