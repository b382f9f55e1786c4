"""Whatever is sent to a verifier's node, it answers as its OpenAPI schema says, and never with a fault of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.xdist_group("verifier-hostile")
TOKEN = "a-caller-s-secret-token"
COMPANY = "sha256:" + 64 * "c"
PROBLEM = {"code", "message", "hint"}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    path = Path(__file__).parents[1] / "integration" / "verifier_site.py"
    spec = importlib.util.spec_from_file_location("verifier_site", path)
    helpers = importlib.util.module_from_spec(spec)
    sys.modules["verifier_site"] = helpers
    spec.loader.exec_module(helpers)
    site = helpers.build(tmp_path_factory.mktemp("site"))
    tokens = site.folder / "tokens"
    tokens.write_text(TOKEN)
    tokens.chmod(0o600)
    with helpers.running(site, "node", "--token-file", str(tokens), "--body-limit-kb", "256") as started:
        yield started
        assert started.process.poll() is None
        assert not any("Traceback" in line for line in started.log), "".join(started.log)


def test_schemathesis_finds_no_fault(node, tmp_path):
    """Its own program: boundary values and other methods of every route, generated requests, good ones and bad ones."""
    command = [
        str(Path(sys.executable).with_name("st")), "run", f"{node.url}/openapi.json", "--header", f"Authorization: Bearer {TOKEN}",
        "--phases", "examples,coverage,fuzzing", "--mode", "all", "--max-examples", "10",
        # Nothing generated is signed, so that no claim of the right form is accepted; all its other checks are made.
        "--exclude-checks", "positive_data_acceptance",
        "--generation-deterministic", "--seed", "1", "--continue-on-failure", "--no-color", "--warnings", "off", "--max-time", "25",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "No issues found" in done.stdout


BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b'{"claim": "\xff"}',
    "a lone surrogate": json.dumps({"claim": "\ud800{}", "evidence": "\udfff{}", "round": 32 * "0", "electorate": COMPANY}).encode(),
    "nested deeply": b"[" * 100_000,
    "a nested claim": json.dumps({"claim": "[" * 60_000, "evidence": "{}", "round": 32 * "0", "electorate": COMPANY}).encode(),
    "a long number": b'{"claim": ' + b"1" * 100_000 + b"}",
    "infinity in the claim": json.dumps({"claim": '{"a":1e999}', "evidence": "{}", "round": 32 * "0", "electorate": COMPANY}).encode(),
    "a surrogate in the claim": json.dumps(
        {"claim": '{"a":"\\ud800"}', "evidence": "{}", "round": 32 * "0", "electorate": COMPANY}
    ).encode(),
    "a strange key": json.dumps(
        {
            "claim": json.dumps(
                {"key": "\ud800", "payload": {}, "schema": "studbook.signed/1", "signature": "", "sums": {}}, separators=(",", ":")
            ),
            "evidence": "{}",
            "round": 32 * "0",
            "electorate": COMPANY,
        }
    ).encode(),
    "a list": b"[]",
    "NaN": b"NaN",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_strange_bodies_are_typed_refusals(node, body):
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    for path in ("/claims", f"/jobs/{32 * '0'}/reveal"):
        refused = httpx.post(node.url + path, content=body, headers=headers)
        assert refused.status_code in {400, 422}
        assert set(refused.json()) == PROBLEM


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/jobs/../../etc/passwd", 404),
        ("GET", f"/jobs/{32 * '0'}", 404),
        ("GET", "/jobs/%00", 422),
        ("GET", "/jobs/%F0%9F%92%A9", 422),
        ("DELETE", "/claims", 405),
        ("OPTIONS", "/health", 405),
        ("TRACE", "/models", 405),
        ("POST", f"/jobs/{32 * '0'}/reveal", 422),
        ("GET", "/docs", 404),
        ("GET", "/claims/", 404),
    ],
)
def test_strange_routes_are_typed_refusals(node, method, path, status):
    refused = httpx.request(method, node.url + path, headers={"Authorization": f"Bearer {TOKEN}"})
    assert refused.status_code == status
    assert set(refused.json()) == PROBLEM
    assert "site-packages" not in refused.text and "/tmp" not in refused.text


def exchange(node, data: bytes) -> bytes:
    host, port = node.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as line:
        with contextlib.suppress(OSError):
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
        parts = []
        with contextlib.suppress(OSError):
            while part := line.recv(65536):
                parts.append(part)
        return b"".join(parts)


HEAD = f"POST /claims HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n".encode()


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"Content-Length: 10\r\n\r\n{",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        HEAD + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
        b"POST /claims HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\nContent-Length: 0\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AA==\r\n\r\n",
    ],
)
def test_strange_bytes_leave_the_node_alive(node, data):
    answer = exchange(node, data)
    assert not answer.startswith((b"HTTP/1.1 5", b"HTTP/1.0 5"))
    assert httpx.get(f"{node.url}/health").status_code == 200


def test_a_body_is_bounded_while_it_is_read(node):
    """A length that lies, and a body without one: no more than the limit is held, and the answer is 413."""
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    answer = exchange(node, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 12 + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413") and b"too-large" in answer


def test_many_callers_at_once_are_served_or_told_to_wait(node):
    host, port = node.url.removeprefix("http://").split(":")
    lines = [socket.create_connection((host, int(port)), timeout=20) for _ in range(100)]
    for line in lines:
        line.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
    busy = httpx.get(f"{node.url}/health")
    assert busy.status_code == 503 and busy.json()["code"] == "busy" and busy.headers["retry-after"] == "1"
    for line in lines:
        line.close()
    for _ in range(100):
        if httpx.get(f"{node.url}/health").status_code == 200:
            return
    raise AssertionError("the node doesn't come back")
