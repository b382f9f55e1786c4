"""Messages between coordinator and nodes that are cut off, forged or oversized; nodes that answer garbage; wrong tokens."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from studbook.errors import ConfigError, RecordError, UnitFailedError, WorkerLostError
from studbook.execution import HttpCluster
from studbook.protocols import Host, Local, Lost, Message, Node, Optimiser, Patience, Plan, Quadratic, TrainingSpec, train
from studbook.protocols.messages import error_message, raise_error
from studbook.protocols.values import decode

SENT = Message("adopt", {"step": 3, "loss": float("nan")}, {"a": {"w": np.ones((2, 3), np.float32)}, "b": {}})


def test_messages_come_back():
    read = Message.decode(SENT.encode(), "it")
    assert read.encode() == SENT.encode()
    assert read.array_bytes == SENT.array_bytes


def test_every_cut_is_found():
    data = SENT.encode()
    for end in range(len(data)):
        with pytest.raises(RecordError):
            Message.decode(data[:end], "it")
    with pytest.raises(RecordError):
        Message.decode(data + b"x", "it")


def test_flipped_bytes_never_give_anything_else_than_a_message_or_a_typed_error():
    data = SENT.encode()
    rng = np.random.default_rng(0)
    for _ in range(2000):
        changed = bytearray(data)
        changed[rng.integers(len(data))] ^= int(rng.integers(1, 256))
        with contextlib.suppress(RecordError):
            Message.decode(bytes(changed), "it")


@pytest.mark.parametrize(
    "header",
    [
        {}, [], 3, {"kind": 1, "fields": {}, "arrays": []}, {"kind": "x", "fields": [], "arrays": []},
        {"kind": "x", "fields": {}, "arrays": [["a"]]}, {"kind": "x", "fields": {}, "arrays": [["a", -1]]},
        {"kind": "x", "fields": {}, "arrays": [["a", True]]}, {"kind": "x", "fields": {}, "arrays": [["a", 1 << 40]]},
        {"kind": "x", "fields": {}, "arrays": 7},
    ],
)  # fmt: skip
def test_headers_of_another_form(header):
    text = json.dumps(header).encode()
    with pytest.raises(RecordError):
        Message.decode(len(text).to_bytes(8, "little") + text, "it")


@pytest.mark.parametrize("shape", [[1 << 31, 1 << 31, 1 << 31, 0], [0, 1 << 62], [0, 1 << 80], [1 << 20, 1 << 20], [0] * 9, [-1, 0]])
def test_arrays_that_no_machine_has(shape):
    text = json.dumps({"arrays": [["w", shape]]}).encode()
    with pytest.raises(RecordError, match="impossible arrays"):
        decode(len(text).to_bytes(8, "little") + text, "it")


def test_deep_headers_and_impossible_lengths():
    for text in (b"[" * 100_000, b"\xff\xfe"):
        with pytest.raises(RecordError):
            Message.decode(len(text).to_bytes(8, "little") + text, "it")
    with pytest.raises(RecordError):
        Message.decode((1 << 62).to_bytes(8, "little") + b"{}", "it")


def host() -> Host:
    return Host(Node(0, Quadratic(dimension=2), np.arange(20), 5, Optimiser(), 0))


@pytest.mark.parametrize(
    ("message", "match"),
    [
        (Message("__init__"), "was asked for"), (Message("advance", {"step": 5, "until": 6}), "asked for step 5"),
        (Message("advance", {"step": 0, "until": 1 << 60}), "until"), (Message("advance", {"step": 0, "until": "1"}), "until"),
        (Message("apply", {"step": 0}), "has no gradient"), (Message("restore", {"step": -1}), "no node's state"),
        (Message("apply", {"step": 0}, {"gradient": {"w": np.ones(3, np.float32)}}), "differ"),
        (Message("adopt", {"step": 0}, {"parameters": {"v": np.ones(2, np.float32)}}), "differ"),
        (Message("restore", {"step": 1}, {"parameters": {"w": np.ones(2, np.float32)}, "optimiser/x": {"w": np.ones(2, np.float32)}}), "x"),
    ],
)  # fmt: skip
def test_a_node_refuses_and_stays_as_it_is(message, match):
    asked = host()
    before = asked.answer(Message("pull")).encode()
    answer = asked.answer(message)
    assert answer.kind == "error"
    assert match in answer.fields["message"]
    assert asked.answer(Message("pull")).encode() == before


def test_errors_keep_their_class_and_strangers_become_ours():
    with pytest.raises(ConfigError, match="node 3: no"):
        raise_error(error_message(ConfigError("no")), "node 3")
    with pytest.raises(UnitFailedError, match="ZeroDivisionError"):
        raise_error(error_message(ZeroDivisionError("by zero")), "node 3")
    with pytest.raises(UnitFailedError):
        raise_error(Message("error", {"code": "Exception", "message": ["x"] * 3, "hint": 7}), "node 3")


class Liar(BaseHTTPRequestHandler):
    """Answers as its server's ``told`` says."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        status, body, drip = self.server.told
        self.send_response(status)
        self.send_header("content-length", str(getattr(self.server, "claimed", len(body))))
        self.end_headers()
        try:
            for k in range(0, len(body), drip or len(body) or 1):
                self.wfile.write(body[k : k + (drip or len(body))])
                time.sleep(0.05 if drip else 0)
        except OSError:
            pass

    def log_message(self, *_):
        pass


@pytest.fixture
def liar():
    server = HTTPServer(("127.0.0.1", 0), Liar)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ((200, b"\x80\x04K\x01.", 0), "garbage"), ((200, b"", 0), "garbage"), ((500, b"oops", 0), "garbage"),
        ((200, SENT.encode()[:-1], 0), "garbage"), ((200, b"x" * 1000, 1), "slow"),
    ],
)  # fmt: skip
def test_garbage_over_http_is_a_lost_node(liar, told, why):
    liar.told = told
    cluster = HttpCluster.at(TrainingSpec("quadratic", nodes=1), [f"http://127.0.0.1:{liar.server_port}"], "a token of sixteen letters")
    found = cluster.ask({0: Message("pull")}, timeout_s=0.5)[0]
    assert isinstance(found, Lost)
    assert found.why == why
    cluster.close()


@pytest.mark.parametrize("status", [401, 403, 413, 429, 500])
def test_a_node_that_has_answered_cannot_stop_the_others_by_refusing(liar, status):
    cluster = HttpCluster.at(TrainingSpec("quadratic", nodes=1), [f"http://127.0.0.1:{liar.server_port}"], "a token of sixteen letters")
    liar.told = (200, Message("done").encode(), 0)
    assert isinstance(cluster.ask({0: Message("pull")}, timeout_s=5.0)[0], Message)
    liar.told = (status, b"no", 0)
    found = cluster.ask({0: Message("pull")}, timeout_s=5.0)[0]
    assert isinstance(found, Lost)
    assert found.why == "garbage"
    cluster.close()


def test_an_answer_longer_than_any_message_is_refused_before_it_is_read(liar):
    cluster = HttpCluster.at(TrainingSpec("quadratic", nodes=1), [f"http://127.0.0.1:{liar.server_port}"], "a token of sixteen letters")
    liar.told, liar.claimed = (200, b"x" * 10, 0), 1 << 29
    found = cluster.ask({0: Message("pull")}, timeout_s=5.0)[0]
    assert isinstance(found, Lost)
    assert found.why == "garbage"
    assert "536,870,912 bytes long, expected 268,435,456 at most" in found.text
    cluster.close()


def test_an_answer_to_another_question_is_garbage(liar):
    liar.told = (200, Message("done", {"step": 0}).encode(), 0)
    cluster = HttpCluster.at(TrainingSpec("quadratic", nodes=2), [f"http://127.0.0.1:{liar.server_port}"] * 2, "a token of sixteen letters")
    with pytest.raises(WorkerLostError, match="garbage: its answer has no parameters"):
        train(cluster, Local(2), Plan(steps=2), patience=Patience(timeout_s=5.0))
    cluster.close()


def test_nobody_there():
    cluster = HttpCluster.at(TrainingSpec("quadratic", nodes=1), ["http://127.0.0.1:9"], "a token of sixteen letters")
    found = cluster.ask({0: Message("pull")}, timeout_s=2.0)[0]
    assert isinstance(found, Lost)
    assert found.why == "down"
    assert not cluster.revive(0, fresh=True)
    cluster.close()


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1:1", "http://example.org:80", "http://127.0.0.1", "http://127.0.0.1:1/x", "x", "http://[", "http://127.0.0.1:99999"],
)
def test_addresses_that_are_none(url):
    with pytest.raises(ConfigError, match="no node's address"):
        HttpCluster.at(TrainingSpec("quadratic", nodes=1), [url], "a token of sixteen letters")


def test_a_wrong_token_and_a_body_that_is_too_long():
    with HttpCluster(TrainingSpec("quadratic", nodes=1), loopback=True, body_bytes=10_000) as cluster:
        url = f"http://127.0.0.1:{cluster._lines[0].address[1]}"
        stranger = HttpCluster.at(TrainingSpec("quadratic", nodes=1), [url], "another token of letters")
        with pytest.raises(ConfigError, match="refuses the token"):
            stranger.ask({0: Message("pull")}, timeout_s=10.0)
        stranger.close()
        with pytest.raises(ConfigError, match="takes no message of"):
            cluster.ask({0: Message("adopt", {}, {"parameters": {"w": np.ones(10_000, np.float32)}})}, timeout_s=10.0)
        assert cluster.ask({0: Message("pull")}, timeout_s=10.0)[0].kind == "parameters"


def test_an_impossible_spec_is_refused_by_the_node_process():
    with pytest.raises(ConfigError, match="3 nodes share 2 rows"):
        HttpCluster(TrainingSpec("quadratic", {"rows": 2}, nodes=3))
