"""Three nodes as processes of their own, and a coordinator: honest claims, cheats, and nodes that are down, slow, full or lying."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from studbook.errors import BallotError
from studbook.provenance import SigningKey, open_signed, sign
from studbook.records import Ballot, Claim, Environment, Outcome, Recipe
from studbook.verification.claimant import answer
from studbook.verification.coordinator import Node, nodes_of, parse_nodes, verify_claim
from studbook.verification.quorum import Quorum, check_receipt, make_receipt, new_round, seal_ballot

pytestmark = pytest.mark.xdist_group("verifier-service")
PATIENCE_S = 60.0


def load_helpers() -> ModuleType:
    path = Path(__file__).with_name("verifier_site.py")
    spec = importlib.util.spec_from_file_location("verifier_site", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["verifier_site"] = module
    spec.loader.exec_module(module)
    return module


HELPERS = load_helpers()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return HELPERS.build(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def nodes(site):
    """Three nodes; the first has a short time limit and a short queue."""
    options = {"a": ["--time-limit-s", "20", "--queue", "4"], "b": [], "c": []}
    ways = [HELPERS.running(site, name, *each) for name, each in options.items()]
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(3) as pool:
        started = list(pool.map(lambda way: way.__enter__(), ways))
        for way in ways:
            stack.push(way)
        yield started


def ask(site, nodes, claim: bytes, evidence: bytes, round_: str, *, timeout_s: float = PATIENCE_S, k: int = 2, retries: int = 1):
    """A round of votes, its verdict, and what the receipt says to a third party."""
    quorum = Quorum(k, tuple(node.key for node in nodes))
    seen: list[str] = []
    result = verify_claim(claim, evidence, nodes, quorum, round_, timeout_s=timeout_s, retries=retries, progress=seen.append)
    data = make_receipt(claim, result.ballots, quorum, round_, SigningKey.generate(), notes=result.notes, made="2026-01-31T12:00:00Z")
    receipt, _ = check_receipt(data)
    assert len(result.ballots) + len(result.faults) == len(nodes)
    assert seen
    return receipt.record.verdict, result


def wait_for(url: str, job: str, **headers: str) -> dict:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        seen = httpx.get(f"{url}/jobs/{job}", headers=headers).json()
        if seen["state"] in {"sealed", "failed"}:
            return seen
        time.sleep(0.05)
    raise AssertionError(f"the job isn't finished: {seen}")


COMPANY = "sha256:" + 64 * "c"
"""Voters of whom nothing more is known."""


def submission(claim: bytes, evidence: bytes, round_: str, electorate: str = COMPANY) -> dict[str, str]:
    return {"claim": claim.decode(), "evidence": evidence.decode(), "round": round_, "electorate": electorate}


def free_port_url() -> str:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_an_honest_claim_is_accepted_by_all(site, nodes):
    round_ = new_round()
    verdict, result = ask(site, [each.node for each in nodes], *site.claim("3", 5, round_), round_)
    assert (verdict.outcome, verdict.accepts, result.faults) == (Outcome.ACCEPT, 3, {})


@pytest.mark.parametrize(("drawn", "drawn_seed"), [("4", 5), ("3", 6)], ids=["another class", "another seed"])
def test_a_cheat_is_rejected_by_all(site, nodes, drawn, drawn_seed):
    round_ = new_round()
    claim, evidence = site.cheat("3", 5, round_, drawn=drawn, drawn_seed=drawn_seed)
    verdict, _ = ask(site, [each.node for each in nodes], claim, evidence, round_)
    assert (verdict.outcome, verdict.rejects) == (Outcome.REJECT, 3)


def test_a_node_that_is_down_is_a_note_and_two_decide(site, nodes):
    round_ = new_round()
    gone = Node(free_port_url(), SigningKey.generate().public)
    verdict, result = ask(site, [nodes[0].node, nodes[1].node, gone], *site.claim("1", 2, round_), round_)
    assert (verdict.outcome, verdict.missing) == (Outcome.ACCEPT, 1)
    assert gone.url in result.faults[gone.key] and " is down: " in result.faults[gone.key]


def test_a_node_that_is_stopped_is_slow_and_a_cheat_isn_t_accepted_for_it(site, nodes):
    round_ = new_round()
    claim, evidence = site.cheat("7", 5, round_, drawn="8", drawn_seed=5)
    os.kill(nodes[2].process.pid, signal.SIGSTOP)
    try:
        verdict, result = ask(site, [each.node for each in nodes], claim, evidence, round_, timeout_s=6.0)
    finally:
        os.kill(nodes[2].process.pid, signal.SIGCONT)
    assert (verdict.outcome, verdict.rejects, verdict.missing) == (Outcome.REJECT, 2, 1)
    assert " is slow: " in result.faults[nodes[2].key]


def test_two_faults_of_three_leave_it_undecided(site, nodes):
    round_ = new_round()
    gone = [Node(free_port_url(), SigningKey.generate().public) for _ in range(2)]
    verdict, _ = ask(site, [nodes[0].node, *gone], *site.claim("1", 3, round_), round_, retries=0)
    assert (verdict.outcome, verdict.accepts, verdict.missing) == (Outcome.INCONCLUSIVE, 1, 2)


class Liar:
    """A server of somebody who has no model: asks an honest node, and passes that one's ballot off as its own in some way."""

    def __init__(self, how: str, honest) -> None:
        self.how, self.honest, self.key = how, honest, SigningKey.generate()
        self.answers: dict[str, dict] = {}
        liar = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.reply(200, liar.look(self.path))

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self.reply(200, liar.post(self.path, body))

            def reply(self, status, value):
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def node(self) -> Node:
        return Node(f"http://127.0.0.1:{self.server.server_address[1]}", self.key.public)

    def look(self, path):
        if self.how == "chatters":
            return b"[" + b" " * (5 << 20)
        if self.how == "no json":
            return b"<html>"
        voter = self.honest.key if self.how == "another voter" else self.key.public
        return {"job": "0" * 32, "state": "sealed", "position": 0, "voter": str(voter), "seal": self.seal(), "error": None}

    def seal(self):
        if self.how == "copied seal":
            return self.seen()["seal"]
        if self.how == "no seal":
            return "sealed"
        return seal_ballot(self.ballot(), "0" * 32, self.key.public)

    def ballot(self) -> bytes:
        stolen = self.honest_ballot
        if self.how == "stranger's key":
            return sign(open_signed(stolen, Ballot, "stolen").record, SigningKey.generate())
        return stolen

    def post(self, path, body):
        if path == "/claims":
            if self.how == "copied seal":
                self.body = body
            else:  # a ballot of the honest node, for another round, got as a caller of its own
                self.honest_ballot = self.old_ballot
            return {"job": "0" * 32, "position": 0}
        return {"ballot": "{}" if self.how == "copied seal" else self.ballot().decode(), "salt": "0" * 32}

    def seen(self):
        job = httpx.post(f"{self.honest.url}/claims", json=self.body).json()["job"]
        return wait_for(self.honest.url, job)


@pytest.mark.parametrize("how", ["another's ballot", "stranger's key", "copied seal", "no seal", "another voter", "no json", "chatters"])
def test_a_lying_node_has_no_vote_and_takes_none(site, nodes, how):
    liar, round_, earlier = Liar(how, nodes[1]), new_round(), new_round()
    made = HELPERS.draw_pictures(site.engine, ["2"], HELPERS.SAMPLING, [9])[0]
    claim, evidence = site.signed(made, round_)
    liar.old_ballot = cast_ballot(nodes[1], submission(claim, site.signed(made, earlier)[1], earlier))
    try:
        verdict, result = ask(site, [nodes[0].node, nodes[1].node, liar.node], claim, evidence, round_)
    finally:
        liar.server.shutdown()
    assert (verdict.outcome, verdict.accepts, verdict.missing) == (Outcome.ACCEPT, 2, 1)
    assert " is lying: " in result.faults[liar.key.public]


def test_a_voter_that_signs_for_another_round_is_lying(site, nodes):
    """An old ballot of the node itself, replayed by somebody who answers in its place."""
    liar, round_, earlier = Liar("replay", nodes[1]), new_round(), new_round()
    made = HELPERS.draw_pictures(site.engine, ["2"], HELPERS.SAMPLING, [10])[0]
    claim, evidence = site.signed(made, round_)
    liar.old_ballot = cast_ballot(nodes[1], submission(claim, site.signed(made, earlier)[1], earlier))
    liar.key = type("Key", (), {"public": nodes[1].key})
    try:
        _, result = ask(site, [nodes[0].node, liar.node], claim, evidence, round_)
    finally:
        liar.server.shutdown()
    assert "is for the round" in result.faults[nodes[1].key]


def test_an_unknown_model_is_a_typed_failure_and_nobody_s_vote(site, nodes):
    round_ = new_round()
    made = HELPERS.draw_pictures(site.engine, ["2"], HELPERS.SAMPLING, [9])[0]
    plain = made.claim.recipe
    recipe = Recipe(model="sha256:" + 64 * "1", request="2", sampling=plain.sampling, seed=9, code=plain.code, environment=Environment())
    other = HELPERS.claim_picture(recipe, made.pixels, made.states)
    claim, evidence = site.signed(other, round_)
    company = Quorum(2, tuple(each.key for each in nodes)).electorate
    job = httpx.post(f"{nodes[0].url}/claims", json=submission(claim, evidence, round_, company)).json()["job"]
    seen = wait_for(nodes[0].url, job)
    assert (seen["state"], seen["error"]["code"], seen["seal"]) == ("failed", "SB707", None)
    assert "isn't registered here" in seen["error"]["message"]
    reveal = httpx.post(f"{nodes[0].url}/jobs/{job}/reveal", json={"seals": {str(nodes[0].key): 64 * "0"}})
    assert reveal.status_code == 409
    verdict, result = ask(site, [each.node for each in nodes], claim, evidence, round_)
    assert (verdict.outcome, verdict.missing) == (Outcome.INCONCLUSIVE, 3)
    assert all("SB707" in fault for fault in result.faults.values())


def test_the_same_again_is_the_same_job_and_a_round_has_one_evidence(site, nodes):
    round_ = new_round()
    made = HELPERS.draw_pictures(site.engine, ["2"], HELPERS.SAMPLING, [11])[0]
    claim, evidence = site.signed(made, round_)
    url = nodes[1].url
    first = httpx.post(f"{url}/claims", json=submission(claim, evidence, round_))
    again = httpx.post(f"{url}/claims", json=submission(claim, evidence, round_))
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["job"] == again.json()["job"]
    claimed = HELPERS.answer(made.claim, made.states, round_)
    changed = HELPERS.replace(claimed, opened=claimed.opened[:1])
    other = httpx.post(f"{url}/claims", json=submission(claim, sign(changed, site.claimant), round_))
    assert (other.status_code, other.json()["code"]) == (409, "conflict")


def cast_ballot(node, body: dict[str, str]) -> bytes:
    """A ballot of a node, got as its coordinator gets it."""
    job = httpx.post(f"{node.url}/claims", json=body).json()["job"]
    seal = wait_for(node.url, job)["seal"]
    return httpx.post(f"{node.url}/jobs/{job}/reveal", json={"seals": {str(node.key): seal}}).json()["ballot"].encode()


def test_a_coordinator_cannot_have_a_ballot_in_another_electorate(site, nodes):
    """Two nodes reject, a third accepts for its own reasons; whoever coordinates can't name a company in which the one decides: its ballot
    doesn't count there, and in this round the node casts no other."""
    round_ = new_round()
    claim, evidence = site.claim("4", 17, round_)
    whole, alone = Quorum(2, tuple(each.key for each in nodes)), Quorum(1, (nodes[1].key,))
    ballot = cast_ballot(nodes[1], submission(claim, evidence, round_, whole.electorate))
    opened = open_signed(claim, Claim, "claim")
    assert whole.judge(opened, [ballot], round_=round_).accepts == 1
    for other in (alone, Quorum(2, (nodes[1].key, nodes[2].key)), Quorum(3, whole.voters), Quorum(1, (nodes[0].key,))):
        with pytest.raises(BallotError):
            make_receipt(claim, [ballot], other, round_, SigningKey.generate(), made="2026-01-31T12:00:00Z")
    again = httpx.post(f"{nodes[1].url}/claims", json=submission(claim, evidence, round_, alone.electorate))
    assert (again.status_code, again.json()["code"]) == (409, "conflict") and "voters" in again.json()["message"]
    result = verify_claim(claim, evidence, [nodes[1].node], alone, round_, timeout_s=PATIENCE_S, retries=1)
    assert result.ballots == () and "other evidence or voters" in result.faults[nodes[1].key]
    # A round of its own for the smaller company is a vote of its own; the reader of a receipt says whose votes it expects.
    later = new_round()
    forged = cast_ballot(nodes[1], submission(*site.claim("4", 17, later), later, alone.electorate))
    assert open_signed(forged, Ballot, "ballot").record.electorate == alone.electorate


def test_a_ballot_that_was_cast_in_another_company_is_a_lie(site, nodes):
    """Somebody between coordinator and node shows the node's own ballot, of this round, cast with fewer voters."""
    liar, round_ = Liar("replay", nodes[1]), new_round()
    claim, evidence = site.claim("4", 18, round_)
    liar.old_ballot = cast_ballot(nodes[1], submission(claim, evidence, round_, Quorum(1, (nodes[1].key,)).electorate))
    liar.key = type("Key", (), {"public": nodes[1].key})
    try:
        verdict, result = ask(site, [nodes[0].node, liar.node], claim, evidence, round_)
    finally:
        liar.server.shutdown()
    assert "is for the electorate" in result.faults[nodes[1].key]
    assert (verdict.outcome, verdict.accepts, verdict.missing) == (Outcome.INCONCLUSIVE, 1, 1)


def test_a_contradiction_is_a_rejection_of_every_node(site, nodes):
    """A step that wasn't opened: no failed job and no missing vote, but a ballot that rejects and says by which check."""
    round_ = new_round()
    made = HELPERS.draw_pictures(site.engine, ["2"], HELPERS.SAMPLING, [19])[0]
    claimed = HELPERS.answer(made.claim, made.states, round_)
    evidence = sign(HELPERS.replace(claimed, opened=claimed.opened[:1]), site.claimant)
    verdict, result = ask(site, [each.node for each in nodes], sign(made.claim, site.claimant), evidence, round_)
    assert (verdict.outcome, verdict.rejects, result.faults) == (Outcome.REJECT, 3, {})
    assert [each.broken for each in verdict.findings if each.finding == "execution"] == [("contradiction",)]


def test_what_isn_t_a_claim_with_fresh_evidence_isn_t_queued(site, nodes):
    round_ = new_round()
    claim, evidence = site.claim("2", 12, round_)
    url = nodes[1].url
    stranger = SigningKey.generate()
    made = HELPERS.draw_pictures(site.engine, ["2"], HELPERS.SAMPLING, [12])[0]
    cases = {
        "SB703": submission(claim.replace(b'"seed":12', b'"seed":13'), evidence, round_),
        "SB708": submission(claim, evidence, new_round()),
        "SB702": submission(evidence, evidence, round_),
        "invalid": {**submission(claim, evidence, round_), "round": "1"},
    }
    for electorate in ("", "1", COMPANY.upper(), COMPANY + "\n", None):
        refused = httpx.post(f"{url}/claims", json={**submission(claim, evidence, round_), "electorate": electorate})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
    for code, body in cases.items():
        refused = httpx.post(f"{url}/claims", json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, code)
    forged = sign(answer(made.claim, made.states, round_), stranger)
    assert httpx.post(f"{url}/claims", json=submission(sign(made.claim, site.claimant), forged, round_)).status_code == 422
    offline = submission(*site.signed(made, ""), round_)
    assert httpx.post(f"{url}/claims", json=offline).json()["code"] == "SB708"


def test_a_full_queue_answers_429_and_loses_nothing(site, nodes):
    url, worker = nodes[0].url, nodes[0].workers[0]
    rounds = [new_round() for _ in range(12)]
    bodies = [submission(*site.claim("5", seed, round_), round_) for seed, round_ in enumerate(rounds, 100)]
    os.kill(worker, signal.SIGSTOP)  # nothing leaves the queue meanwhile
    try:
        answers = [httpx.post(f"{url}/claims", json=body) for body in bodies]
    finally:
        os.kill(worker, signal.SIGCONT)
    accepted = [each.json()["job"] for each in answers if each.status_code == 202]
    full = [each for each in answers if each.status_code == 429]
    assert len(accepted) + len(full) == 12 and len(accepted) in {4, 5}
    assert all(int(each.headers["retry-after"]) >= 1 and each.json()["code"] == "queue-full" for each in full)
    assert all(wait_for(url, job)["state"] == "sealed" for job in accepted)
    again = [httpx.post(f"{url}/claims", json=body) for body in bodies[:4]]  # what was accepted is still known
    assert [each.status_code for each in again] == [200] * 4


def test_coordinators_wait_for_a_full_queue(site, nodes):
    """More claims at once than the queue holds: each coordinator is told 429, waits, and has its ballot in the end."""
    quorum = Quorum(1, (nodes[0].key,))
    rounds = [new_round() for _ in range(9)]
    claims = [site.claim("6", seed, round_) for seed, round_ in enumerate(rounds)]

    def vote(i):
        return verify_claim(*claims[i], [nodes[0].node], quorum, rounds[i], timeout_s=PATIENCE_S)

    with ThreadPoolExecutor(9) as pool:
        results = list(pool.map(vote, range(9)))
    assert [len(each.ballots) for each in results] == [1] * 9


def test_the_time_limit_ends_the_worker_and_the_node_goes_on(site):
    with HELPERS.running(site, "hasty", "--time-limit-s", "10") as node:
        round_ = new_round()
        (worker,) = node.workers
        os.kill(worker, signal.SIGSTOP)  # an examination that never ends
        job = httpx.post(f"{node.url}/claims", json=submission(*site.claim("1", 20, round_), round_)).json()["job"]
        seen = wait_for(node.url, job)
        assert (seen["state"], seen["error"]["code"]) == ("failed", "SB707")
        assert "longer than 10 s" in seen["error"]["message"]
        job = httpx.post(f"{node.url}/claims", json=submission(*site.claim("1", 21, round_), round_)).json()["job"]
        assert wait_for(node.url, job)["state"] == "sealed"
        assert node.workers != [worker]


def test_a_worker_that_is_killed_is_replaced(site, nodes):
    round_ = new_round()
    (worker,) = nodes[2].workers
    os.kill(worker, signal.SIGKILL)
    first = submission(*site.claim("1", 30, round_), round_)
    seen = wait_for(nodes[2].url, httpx.post(f"{nodes[2].url}/claims", json=first).json()["job"])
    assert seen["state"] == "sealed" or "SIGKILL" in seen["error"]["message"]
    second = submission(*site.claim("1", 31, round_), round_)
    seen = wait_for(nodes[2].url, httpx.post(f"{nodes[2].url}/claims", json=second).json()["job"])
    assert seen["state"] == "sealed"


def test_tokens_sizes_and_a_polite_end(site, tmp_path):
    """One node with tokens: who may ask, how much, whose jobs are whose; and SIGTERM finishes what was accepted."""
    tokens = tmp_path / "tokens"
    tokens.write_text("# callers\nthe-first-caller-s-token\nthe-second-caller-s-token\n")
    tokens.chmod(0o600)
    options = ("--token-file", str(tokens), "--body-limit-kb", "64", "--accept-offline-evidence", "--one-step")
    with HELPERS.running(site, "guarded", *options) as node:
        mine, theirs = ({"Authorization": f"Bearer the-{who}-caller-s-token"} for who in ("first", "second"))
        body = submission(*site.claim("1", 40, ""), new_round())
        assert httpx.get(f"{node.url}/health").json()["key"] == str(node.key)
        for headers in ({}, {"Authorization": "Bearer the-first-caller-s-tokem"}, {"Authorization": "Basic dXNlcjpwYXNz"}):
            refused = httpx.post(f"{node.url}/claims", json=body, headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
            assert refused.headers["www-authenticate"] == "Bearer"
        big = {**body, "claim": "x" * (1 << 20)}
        for send in ({"json": big}, {"content": (json.dumps(big).encode() for _ in range(3))}):  # with a length, and in chunks
            refused = httpx.post(f"{node.url}/claims", headers={**mine, "Content-Type": "application/json"}, **send)
            assert (refused.status_code, refused.json()["code"]) == (413, "too-large")
        models = httpx.get(f"{node.url}/models", headers=mine).json()["models"]
        assert [(each["family"], each["calibrations"]) for each in models] == [("image", [site.calibration.id])]
        job = httpx.post(f"{node.url}/claims", json=body, headers=mine).json()["job"]
        assert httpx.get(f"{node.url}/jobs/{job}", headers=theirs).status_code == 404
        assert httpx.post(f"{node.url}/claims", json=body, headers=theirs).status_code == 409
        node.process.terminate()
        seen = wait_for(node.url, job, **mine)
        late = submission(*site.claim("1", 41, ""), new_round())
        assert httpx.post(f"{node.url}/claims", json=late, headers=mine).status_code == 503
        seals = {str(node.key): seen["seal"], str(SigningKey.generate().public): 64 * "0"}
        shown = httpx.post(f"{node.url}/jobs/{job}/reveal", json={"seals": seals}, headers=mine).json()
        assert seal_ballot(shown["ballot"].encode(), shown["salt"], node.key) == seen["seal"]
        assert "phash" not in shown["ballot"]  # one step alone
        assert node.process.wait(20) == 0


def test_a_stranger_s_node_isn_t_reached_without_its_key(site, nodes, tmp_path):
    found = parse_nodes([each.url for each in nodes], trust_on_first_use=True)
    assert [each.key for each in found] == [each.key for each in nodes]
    named = ",".join(f"{each.url}#{each.key}" for each in nodes)
    assert [each.key for each in nodes_of(named)] == [each.key for each in nodes]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--host", "0.0.0.0"], "there are no tokens"),
        (["--queue", "0"], "queue is 0"),
        (["--trust-calibrations", str(SigningKey.generate().public), "--calibration", "nowhere.json"], "nowhere.json"),
    ],
)
def test_a_node_that_can_t_be_meant_doesn_t_start(site, options, says):
    with pytest.raises(RuntimeError, match=says), HELPERS.running(site, "wrong", *options):
        pass
