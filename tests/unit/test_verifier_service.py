"""The parts of a verifier's service and of its coordinator that need no server."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace

import pytest

from studbook.cli.serve import app
from studbook.errors import (
    CalibrationError,
    ConfigError,
    EvidenceError,
    KeyFileError,
    RecordError,
    SignatureError,
    StorageError,
    VerifierError,
)
from studbook.provenance import SigningKey, open_signed, sign
from studbook.records import Claim, Digest, Environment, Evidence, ImageSampling, Opened, Recipe, merkle_root, open_merkle
from studbook.verification._node_client import Node, NodeClient, NodeFault, plain_text, problem_text
from studbook.verification.coordinator import nodes_of, parse_nodes, verify_claim
from studbook.verification.quorum import Quorum, new_round
from studbook.verification.token_files import read_node_tokens, read_tokens
from studbook.web.examiner import Examiner, Setup, resident_mb
from studbook.web.guard import Guard, Tokens, gate_of, is_loopback
from studbook.web.limits import Limits, Problem, RefusedError
from studbook.web.operating import check_binding, read_keys, read_setup
from studbook.web.verifier_node import VerifierNode

CLAIMANT = SigningKey.generate()
ROUND = 32 * "a"
COMPANY = "sha256:" + 64 * "c"
VOTE = (ROUND, COMPANY)
TOKEN = "a-token-of-some-length"


def recipe(**changes) -> Recipe:
    plain = Recipe(model="sha256:" + 64 * "1", request="1", sampling=ImageSampling(steps=2), seed=1, code="test", environment=Environment())
    return replace(plain, **changes)


def packet(nonce: str = ROUND, *, key: SigningKey = CLAIMANT, seed: int = 1) -> tuple[bytes, bytes]:
    """A claim in form, with evidence in form."""
    values = [b"one", b"two"]
    claim = Claim(
        recipe=recipe(seed=seed), tokens=(), digests=(Digest("phash", 1, (), bytes(8)),), commitment=merkle_root(values), nonce=32 * "1",
        made="2026-01-31T12:00:00Z",
    )  # fmt: skip
    opened = (Opened.of(values[0], open_merkle(values, 0)),)
    return sign(claim, CLAIMANT), sign(Evidence(claim=claim.id, nonce=nonce, projections=None, opened=opened), key)


def new_node(**changes) -> VerifierNode:
    """A node whose workers aren't started: what is queued stays there."""
    return VerifierNode(SigningKey.generate(), Setup((), ()), replace(Limits(queue=3, keep=2), **changes))


def refusal(call, *arguments) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        call(*arguments)
    return caught.value


# The node


def test_a_queue_takes_as_many_as_it_holds_and_names_the_place():
    node = new_node()
    views = [node.submit("me", *packet(seed=seed), VOTE) for seed in range(3)]
    assert [view.position for view in views] == [1, 2, 3]
    full = refusal(node.submit, "me", *packet(seed=3), VOTE)
    assert (full.status, full.problem.code, full.headers) == (429, "queue-full", {"Retry-After": "1"})
    again = node.submit("me", *packet(seed=1), VOTE)  # also where the queue is full
    assert (again.job, again.created, again.position) == (views[1].job, False, 2)


def test_jobs_are_their_caller_s_alone():
    node = new_node()
    view = node.submit("me", *packet(), VOTE)
    assert refusal(node.look, "you", view.job).status == 404
    assert refusal(node.reveal, "you", view.job, {}).status == 404
    assert refusal(node.submit, "you", *packet(), VOTE).status == 409
    assert refusal(node.reveal, "me", view.job, {}).status == 409  # no ballot yet


def test_a_round_has_one_evidence():
    node = new_node(accept_offline_evidence=True)
    node.submit("me", *packet(), VOTE)
    assert refusal(node.submit, "me", *packet(nonce=""), VOTE).status == 409


def test_a_round_has_one_electorate():
    """A coordinator can't have a ballot cast again in a company of its choice: the round is begun, with its voters."""
    node = new_node()
    job = node.submit("me", *packet(), VOTE)
    refused = refusal(node.submit, "me", *packet(), (ROUND, "sha256:" + 64 * "d"))
    assert (refused.status, refused.problem.code) == (409, "conflict") and "voters" in refused.problem.message
    assert node.submit("me", *packet(), VOTE).job == job.job
    assert node.n_queued == 1


def test_the_same_claim_of_another_claimant_is_another_claim():
    """Its ballot names the claimant, so that it is examined for each of them."""
    node, other = new_node(), SigningKey.generate()
    claim, evidence = packet()
    theirs = [sign(open_signed(data, kind, "x").record, other) for data, kind in ((claim, Claim), (evidence, Evidence))]
    jobs = [node.submit("me", claim, evidence, VOTE), node.submit("you", *theirs, VOTE)]
    assert jobs[0].job != jobs[1].job
    assert [job.task.packet.claim.key for job in node._shelf.waiting] == [CLAIMANT.public, other.public]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((*packet(nonce=""), VOTE), "SB708"),
        ((*packet(nonce=32 * "b"), VOTE), "SB708"),
        ((*packet(key=SigningKey.generate()), VOTE), "SB703"),
        ((packet()[0], packet(seed=2)[1], VOTE), "SB702"),
        ((packet()[1], packet()[1], VOTE), "SB702"),
        ((b"", b"", VOTE), "SB702"),
    ],
)
def test_what_isn_t_a_claim_with_fresh_evidence_is_refused(arguments, code):
    node = new_node()
    refused = refusal(node.submit, "me", *arguments)
    assert (refused.status, refused.problem.code) == (422, code)
    assert node.n_queued == 0


def test_only_named_claimants_where_there_are_some():
    node = VerifierNode(SigningKey.generate(), Setup((), ()), Limits(), claimants={SigningKey.generate().public})
    assert refusal(node.submit, "me", *packet(), VOTE).problem.code == "SB703"


def test_a_node_that_stops_fails_what_waits_and_says_so():
    node = new_node()
    job = node.submit("me", *packet(), VOTE).job
    node.close(0.0)
    seen = node.look("me", job)
    assert (seen.state, seen.problem.code) == ("failed", "SB707") and "stopped" in seen.problem.message
    assert refusal(node.submit, "me", *packet(seed=2), VOTE).status == 503


def test_the_oldest_finished_jobs_are_dropped():
    node = new_node()
    jobs = [node.submit("me", *packet(seed=seed), VOTE).job for seed in range(3)]
    node.close(0.0)
    assert refusal(node.look, "me", jobs[0]).status == 404
    assert [node.look("me", job).state for job in jobs[1:]] == ["failed", "failed"]


# Workers


def test_whatever_a_claim_brings_about_is_a_failed_job_and_the_node_lives():
    """A real worker: a model that isn't registered, then something that no worker can be sent."""
    node = new_node()
    (examiner,) = node._examiners
    jobs = [node.submit("me", *packet(seed=seed), VOTE).job for seed in (1, 2)]
    first, second = node._shelf.waiting.popleft(), node._shelf.waiting.popleft()
    second.task = replace(second.task, round=lambda: "the operator's secret")
    try:
        node._examine(examiner, first)
        node._examine(examiner, second)
    finally:
        examiner.stop()
    seen = [node.look("me", job) for job in jobs]
    assert [(view.state, view.problem.code) for view in seen] == [("failed", "SB707")] * 2
    assert "isn't registered here" in seen[0].problem.message
    assert "unexpected" in seen[1].problem.message and "secret" not in seen[1].problem.message


def test_a_worker_beyond_its_memory_is_ended():
    examiner = Examiner(Setup((), ()), Limits(memory_limit_mb=1))
    with pytest.raises(VerifierError, match="more than 1 MiB of memory; there is no ballot"):
        examiner.start()
    assert resident_mb(os.getpid()) > 10
    assert resident_mb(1 << 30) == 0.0


def test_a_stopped_examiner_starts_no_worker():
    examiner = Examiner(Setup((), ()), Limits())
    examiner.stop()
    with pytest.raises(VerifierError, match="stopping"):
        examiner.start()


def test_errors_for_callers_hold_no_path_of_the_operator_s(tmp_path):
    examiner = Examiner(Setup((tmp_path / "secret",), ()), Limits())
    shown = examiner._for_caller(VerifierError(f"{tmp_path / 'secret'} holds a gpt", hint=f"see {tmp_path / 'secret'}"))
    assert isinstance(shown, VerifierError) and "secret" not in str(shown)
    hidden = examiner._for_caller(StorageError(f"{tmp_path} is full"))
    assert isinstance(hidden, VerifierError) and str(tmp_path) not in str(hidden)
    assert isinstance(examiner._for_caller(EvidenceError("for another claim")), EvidenceError)


# Before the service


def guarded(limits: Limits, tokens: Tokens | None, headers: dict[str, str], parts: list[bytes], *, pause_s: float = 0.0):
    """Send a request by ASGI; the answer's status and the body that the service saw."""
    seen: dict[str, object] = {}

    async def service(scope, receive, send):
        seen["body"], seen["caller"] = (await receive())["body"], scope["state"]["caller"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    waiting = list(parts)

    async def receive():
        await asyncio.sleep(pause_s)
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)} if waiting else {"type": "http.disconnect"}

    async def send(message):
        seen.setdefault("status", message.get("status"))

    scope = {"type": "http", "path": "/claims", "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]}
    asyncio.run(Guard(service, limits.requests, gate_of(tokens))(scope, receive, send))
    return seen


def test_the_guard_hands_on_a_whole_body_and_its_caller():
    seen = guarded(Limits(), Tokens.of([TOKEN]), {"authorization": f"bearer {TOKEN}"}, [b"a", b"b"])
    assert (seen["status"], seen["body"]) == (200, b"ab")
    assert TOKEN not in str(seen["caller"]) and TOKEN not in repr(Tokens.of([TOKEN]))


@pytest.mark.parametrize("header", [{}, {"authorization": TOKEN}, {"authorization": f"Bearer {TOKEN}x"}, {"authorization": "Bearer ÿ"}])
def test_the_guard_turns_strangers_away(header):
    seen = guarded(Limits(), Tokens.of([TOKEN]), header, [b"a"])
    assert seen["status"] == 401 and "body" not in seen


@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 413), (100_000, 413)])
def test_the_guard_bounds_bodies_whatever_their_header_says(size, status):
    parts = [b"x" * min(100, size - start) for start in range(0, size, 100)]
    seen = guarded(Limits(body_bytes=1000), None, {"host": "localhost:1", "content-length": "1"}, parts)
    assert seen["status"] == status


def test_the_guard_waits_for_no_slow_body():
    start = time.monotonic()
    seen = guarded(Limits(body_timeout_s=0.1), None, {"host": "127.0.0.1"}, [b"a"] * 100, pause_s=0.05)
    assert seen["status"] == 408 and time.monotonic() - start < 4.0


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1:8471", 200), ("[::1]:8471", 200), ("rebound.example:8471", 403), ("", 403)])
def test_without_tokens_only_loopback_names_are_served(host, status):
    assert guarded(Limits(), None, {"host": host}, [b""])["status"] == status


def test_problems_are_json_whatever_they_quote():
    assert Problem("invalid", "\ud800 \x00 ü", None).body().decode("ascii")


# The operator


@pytest.mark.parametrize("changes", [{"queue": 0}, {"keep": 0}, {"time_limit_s": 0.0}, {"memory_limit_mb": -1}, {"workers": 10_000}])
def test_limits_out_of_range(changes):
    with pytest.raises(ConfigError):
        Limits(**changes)


def test_only_loopback_without_tokens():
    check_binding("127.0.0.1", None)
    check_binding("0.0.0.0", Tokens.of([TOKEN]))
    with pytest.raises(ConfigError, match="there are no tokens"):
        check_binding("0.0.0.0", None)
    assert [is_loopback(host) for host in ("::1", "localhost", "127.8.8.8", "10.0.0.1", "example.org", "")] == [True] * 3 + [False] * 3


def test_files_of_tokens(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"# callers\n\n{TOKEN}\n  another-long-token \n")
    with pytest.raises(KeyFileError, match="can be read by others"):
        read_tokens(path)
    path.chmod(0o600)
    assert read_tokens(path) == (TOKEN, "another-long-token")
    for text in ("", "# none", "short", "two long-enough-words", "ünïcode-is-no-token"):
        path.write_text(text)
        with pytest.raises(KeyFileError):
            read_tokens(path)
    with pytest.raises(KeyFileError):
        read_tokens(tmp_path / "none")


def test_files_of_nodes_tokens(tmp_path):
    path, key = tmp_path / "tokens", SigningKey.generate().public
    path.write_text(f"{key} {TOKEN}\nhttps://b.example  {TOKEN}-2\n")
    path.chmod(0o600)
    assert read_node_tokens(path) == {str(key): TOKEN, "https://b.example": f"{TOKEN}-2"}
    named = f"http://127.0.0.1:1#{key},https://b.example#{SigningKey.generate().public}"
    assert [node.token for node in nodes_of(named, path)] == [TOKEN, f"{TOKEN}-2"]
    with pytest.raises(ConfigError, match="isn't asked"):
        nodes_of(f"http://127.0.0.1:1#{key}", path)
    for text in (TOKEN, f"{key} {TOKEN}\n{key} {TOKEN}", f"{key} short"):
        path.write_text(text)
        with pytest.raises(KeyFileError):
            read_node_tokens(path)


def test_keys_are_given_as_such_or_in_files(tmp_path):
    one, two, three = (SigningKey.generate().public for _ in range(3))
    file = tmp_path / "keys"
    file.write_text(f"# ours\n{two}\n{three}\n")
    assert read_keys([str(one), str(file)]) == {one, two, three}
    with pytest.raises(SignatureError):
        read_keys(["ed25519:short"])
    with pytest.raises(KeyFileError):
        read_keys([str(tmp_path / "none")])


def test_a_setup_needs_models_calibrations_and_somebody_who_signs_them(tmp_path):
    key = SigningKey.generate()
    file = tmp_path / "calibration.json"
    file.write_bytes(packet()[0])
    for arguments, error in (
        (([], [file], {key.public}), ConfigError),
        (([tmp_path], [], {key.public}), CalibrationError),
        (([tmp_path], [file], set()), ConfigError),
        (([tmp_path], [file], {key.public}), SignatureError),
        (([tmp_path], [file], {CLAIMANT.public}), RecordError),
        (([tmp_path], [tmp_path / "none"], {key.public}), ConfigError),
    ):
        with pytest.raises(error):
            read_setup(*arguments, whole=True, offline=False)


def test_the_command_has_help():
    from typer.testing import CliRunner

    shown = CliRunner().invoke(app, ["verifier", "--help"])
    assert shown.exit_code == 0 and "--trust-calibrations" in shown.output


# The coordinator


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8471", "ftp://a", "http://", "http://a:0", "http://a:99999", "http://u:p@a", "http://a?x", "file:///etc/passwd"]
)
def test_what_isn_t_a_node_s_url(url):
    with pytest.raises(ConfigError):
        Node(url, SigningKey.generate().public)


def test_tokens_don_t_travel_unencrypted():
    key = SigningKey.generate().public
    assert TOKEN not in repr(Node("http://localhost:1", key, TOKEN))
    assert Node("https://a.example", key, TOKEN).token == TOKEN
    for url, token in (("http://a.example", TOKEN), ("https://a.example", "a\r\nb: c"), ("https://a.example", "")):
        with pytest.raises(ConfigError):
            Node(url, key, token)


def test_a_node_is_named_with_its_key():
    with pytest.raises(ConfigError, match="named without its key"):
        parse_nodes(["http://127.0.0.1:1"])
    with pytest.raises(VerifierError, match="doesn't say its key"):
        parse_nodes(["http://127.0.0.1:1"], trust_on_first_use=True)


def test_nodes_are_of_expected_voters_and_the_claim_is_one():
    ours, other = SigningKey.generate().public, SigningKey.generate().public
    quorum, claim = Quorum(1, (ours,)), packet()
    for nodes in ([], [Node("http://127.0.0.1:1", other)], [Node("http://127.0.0.1:1", ours)] * 2):
        with pytest.raises(ConfigError):
            verify_claim(*claim, nodes, quorum, ROUND)
    node = Node("http://127.0.0.1:1", ours)
    with pytest.raises(ConfigError):
        verify_claim(*claim, [node], quorum, ROUND, timeout_s=0.0)
    with pytest.raises(RecordError):
        verify_claim(b"{}", claim[1], [node], quorum, ROUND)


def test_voters_without_a_node_are_named_in_the_notes():
    ours, other = SigningKey.generate().public, SigningKey.generate().public
    result = verify_claim(*packet(), [Node("http://127.0.0.1:1", ours)], Quorum(2, (ours, other)), new_round(), retries=0)
    assert not result.ballots and "no node was named" in result.faults[other]
    assert [line.split(": ")[0] for line in sorted(result.notes)] == sorted(map(str, (ours, other)))


def test_waiting_ends_at_the_deadline():
    client = NodeClient(Node("http://127.0.0.1:1", CLAIMANT.public), None, time.monotonic() + 0.2, 0)
    client.pause(0.0, NodeFault("slow", "never"))
    with pytest.raises(NodeFault, match="slow: still"):
        client.pause(5.0, NodeFault("slow", "still"))


def test_other_people_s_texts_are_plain_and_short():
    assert plain_text("a\x1b[31m\n\u202eb" + 1000 * "c").startswith("a [31m b")
    assert len(plain_text(10_000 * "x")) == 300
    assert problem_text({"code": "x", "message": 3}) == problem_text(None) == "without saying why"
    assert problem_text({"code": "SB707", "message": "no", "hint": "ask\nlater"}) == "SB707: no (ask later)"
