"""The parts of a register's service that need no server."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

from studbook.errors import ConfigError, DigestError, ProvenanceError, RegisterError, RegisterUnavailableError, StudbookError
from studbook.fingerprints import PerceptualHash
from studbook.pictures import jpeg_bytes, png_bytes
from studbook.provenance import Statement, binding_of, inspect_credential, manifest_of, new_chain, sign_picture
from studbook.records import Entry
from studbook.registry import Match, Register, picture_content, text_content
from studbook.web.guard import Tokens
from studbook.web.limits import RefusedError, RequestLimits
from studbook.web.manifest_stores import active_manifest
from studbook.web.rates import Rates
from studbook.web.register_access import Access, address_of
from studbook.web.register_matching import TEXT, Asset, algorithms, digest_of, manifests_of, match_asset, match_digests, score_of
from studbook.web.register_node import RegisterLimits, RegisterNode

PHASH = next(iter(algorithms()))
WRITER, READER = "a-writer-s-secret-token", "a-reader-s-secret-token"


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


# Rates


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def refused(rates: Rates, caller: str) -> int:
    """Seconds that a caller is told to wait; 0 for a request that was granted."""
    try:
        rates.spend(caller)
    except RefusedError as error:
        assert (error.status, error.problem.code) == (429, "too-many")
        return int(error.headers["Retry-After"])
    return 0


def test_a_bucket_empties_and_fills_evenly():
    clock = Clock()
    rates = Rates(0.5, 3, clock=clock)
    assert [refused(rates, "me") for _ in range(5)] == [0, 0, 0, 2, 2]
    assert refused(rates, "you") == 0
    clock.now_s = 2.0
    assert [refused(rates, "me") for _ in range(2)] == [0, 2]
    clock.now_s = 1e6  # never more than the burst
    assert [refused(rates, "me") for _ in range(4)] == [0, 0, 0, 2]


@pytest.mark.parametrize("seed", range(5))
def test_over_any_time_a_caller_gets_the_rate_and_one_burst(seed):
    """An exact bound, so that no seed can fail by chance."""
    rng, clock = np.random.default_rng(seed), Clock()
    rates, granted = Rates(2.0, 7, clock=clock), 0
    for step in rng.exponential(0.1, 2000):
        clock.now_s += step
        granted += refused(rates, "me") == 0
    assert 2.0 * clock.now_s - 1 <= granted <= 2.0 * clock.now_s + 7


def test_callers_are_forgotten_before_memory_runs_out():
    rates = Rates(0.001, 1, callers=100, clock=lambda: 0.0)
    assert refused(rates, "first") == 0
    for n in range(10_000):
        refused(rates, f"address:{n}")
        refused(rates, "first")  # who keeps asking isn't forgotten
    assert len(rates) == 100 and refused(rates, "first") > 0


@pytest.mark.parametrize(("per_s", "burst"), [(0.0, 1), (-1.0, 1), (float("nan"), 1), (1.0, 0), (1e9, 1)])
def test_rates_out_of_range(per_s, burst):
    with pytest.raises(ConfigError):
        Rates(per_s, burst)


# Access


def caller(access: Access, method: str, path: str, token: str | None = None, host: str = "127.0.0.1", client: str = "192.0.2.7"):
    """Who asks, or the status of the refusal."""
    headers = {"host": host, **({} if token is None else {"authorization": f"Bearer {token}"})}
    try:
        return access({"type": "http", "method": method, "path": path, "client": (client, 1)}, headers)
    except RefusedError as error:
        return error.status


CONTENT, ENTRY, ENTRIES = ("POST", "/matches/byContent"), ("GET", "/entries/x"), ("POST", "/entries")


def test_who_may_do_what():
    writers, readers = Tokens.of([WRITER]), Tokens.of([READER])
    both = Access(writers, readers)
    assert isinstance(caller(both, *ENTRIES, WRITER), str)
    assert caller(both, *ENTRIES, READER) == 403 and caller(both, *ENTRIES) == 401
    assert all(isinstance(caller(both, *asked, token), str) for asked in (CONTENT, ENTRY) for token in (WRITER, READER))
    assert caller(both, *CONTENT) == 401 and caller(both, *CONTENT, "somebody-else-s-token") == 401
    only = Access(writers)
    assert caller(only, *ENTRY) == 401 and caller(only, *ENTRY, READER) == 401 and isinstance(caller(only, *ENTRY, WRITER), str)
    opened = Access(writers, open_reads=True)
    assert caller(opened, *CONTENT, host="register.example") == "address:192.0.2.7" and caller(opened, *ENTRIES) == 401
    nobody = Access()
    assert caller(nobody, *CONTENT) == "address:192.0.2.7" and caller(nobody, *ENTRIES) == 403
    assert caller(nobody, *CONTENT, host="rebound.example") == 403


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST", "QUERY"])
def test_what_isn_t_known_to_read_writes(method):
    assert caller(Access(Tokens.of([WRITER]), open_reads=True), method, "/anything") == 401


def test_hosts_that_may_be_bound():
    for host in ("127.0.0.1", "::1", "localhost"):
        Access().check_host(host)
    for access in (Access(open_reads=True), Access(Tokens.of([WRITER])), Access(readers=Tokens.of([READER]))):
        access.check_host("0.0.0.0")
    with pytest.raises(ConfigError, match="anybody could read"):
        Access().check_host("0.0.0.0")
    with pytest.raises(ConfigError, match="reads are to be open"):
        Access(readers=Tokens.of([READER]), open_reads=True)


def test_a_caller_s_address_is_its_network():
    """Whoever has an IPv6 network can't ask from each of its addresses in turn."""
    addresses = {"2001:db8::1": "2001:db8::/64", "2001:db8::ffff:1": "2001:db8::/64", "::ffff:192.0.2.1": "192.0.2.1", "x": "unknown"}
    for given, name in addresses.items():
        assert address_of({"client": (given, 1)}) == f"address:{name}"
    assert address_of({"client": None}) == "address:unknown"


# Matches


def match(manifest: int, distance: float, limit: float = 6.0, how: str = "near") -> Match:
    entry = Entry(f"sha256:{0:064x}", "image", "human", manifest=f"sha256:{manifest:064x}" if manifest else "")
    return Match(entry, how, "phash", distance, limit)


def test_scores_fall_from_100_to_0_at_the_limit():
    assert [score_of(match(1, distance)) for distance in range(7)] == [100, 83, 67, 50, 33, 17, 0]
    assert score_of(match(1, 0.0, 0.0, "exact")) == 100 and score_of(match(1, 0.0, 0.0)) == 100


def test_a_manifest_comes_once_with_its_best_score_and_entries_without_one_don_t():
    found = manifests_of([match(1, 5), match(2, 4), match(1, 1), match(0, 0), match(3, 6)], 2)
    assert [(each.manifest[-1], each.score) for each in found] == [("1", 83), ("2", 33)]


def test_bindings_that_can_be_looked_for():
    binding = binding_of(PerceptualHash().digest(picture(0)))
    assert digest_of(binding.alg, binding.value).bits == PerceptualHash().digest(picture(0)).bits
    with pytest.raises(ConfigError, match="isn't looked for here"):
        digest_of("com.example.mark.1", binding.value)
    for value in ("AAAA", "A", "ä", binding.value[:-1]):
        with pytest.raises(DigestError):
            digest_of(binding.alg, value)


@pytest.fixture
def register(tmp_path):
    with Register.open(tmp_path / "outputs.db", create=True) as opened:
        yield opened


def with_manifest(register, content, kind):
    register.add([Entry(content, kind, "generated", manifest=f"sha256:{1:064x}")])


def test_a_picture_s_name_is_its_file_s(register):
    data = png_bytes(picture(1))
    register.add_images([data])
    assert match_asset(register, Asset(data, "image/png", 1 << 20)) == []
    with_manifest(register, picture_content(data), "image")
    found = match_asset(register, Asset(data, "image/png", 1 << 20))
    assert found[0].how == "exact" and found[0].entry.content == picture_content(data)


def test_what_shows_nothing_is_near_nothing(register):
    register.add_images([picture(1)])
    flat = Asset(png_bytes(np.zeros((32, 32, 3), np.uint8)), "image/png", 1 << 20)
    assert match_asset(register, flat) == match_asset(register, flat, PHASH) == []
    assert match_digests(register, [digest_of(PHASH, "AAAAAAAAAAA=")]) == []


def test_texts_in_utf_8(register):
    register.add_texts(["ein Zuchtbuch hält fest, wer von wem abstammt"])
    with_manifest(register, text_content("ein Zuchtbuch hält fest, wer von wem abstammt"), "text")
    asked = Asset("ein Zuchtbuch hält fest, wer von wem abstammt, und mehr".encode(), TEXT, 1)
    assert match_asset(register, asked)[0].how == "near"
    for data in (b"\xff", b""):
        with pytest.raises(StudbookError):
            match_asset(register, Asset(data, TEXT, 1))


# Manifest stores


def test_the_active_manifest_alone_says_the_same(tmp_path):
    data = sign_picture(png_bytes(picture(0)), new_chain(tmp_path / "chain", "Somebody"), Statement(origin="human"))
    store = manifest_of(data)
    alone = active_manifest(store)
    assert alone == store  # there is no other one in it
    assert inspect_credential(data, sidecar=alone).claimed.origin == "human"
    # Two manifests: the same one before itself.
    description = 8 + int.from_bytes(store[8:12], "big")
    inner = store[8:description] + 2 * store[description:]
    twice = (8 + len(inner)).to_bytes(4, "big") + b"jumb" + inner
    assert active_manifest(twice) == store


@pytest.mark.parametrize("seed", range(3))
def test_stores_that_are_none(seed):
    rng = np.random.default_rng(seed)
    for n in (0, 1, 7, 8, 30, 200):
        data = rng.bytes(n)
        for store in (data, (8 + n).to_bytes(4, "big") + b"jumb" + data):
            with pytest.raises(ProvenanceError):
                active_manifest(store)


# The node


def new_node(tmp_path, **changes) -> RegisterNode:
    Register.open(tmp_path / "outputs.db", create=True).close()
    limits = replace(RegisterLimits(RequestLimits(body_timeout_s=0.2)), **changes)
    return RegisterNode(str(tmp_path / "outputs.db"), limits)


def test_work_that_takes_long_is_given_up_by_its_caller_alone(tmp_path):
    node, go_on = new_node(tmp_path, answer_timeout_s=0.2, threads=1), threading.Event()

    async def asked() -> list[object]:
        found: list[object] = []
        for _ in range(2):  # the second one waits for the first one's thread, and never begins
            with pytest.raises(RefusedError) as caught:
                await node.read(lambda _register: (found.append("begun"), go_on.wait(30)))
            assert caught.value.status == 503 and caught.value.problem.code == "slow"
        found.append(await node.write(lambda register: register.stats().entries))
        go_on.set()
        return found

    assert asyncio.run(asked()) == ["begun", 0]
    node.close(5.0)


def test_a_node_that_stops_takes_nothing(tmp_path):
    node = new_node(tmp_path)
    node.close(0.0)
    node.close(0.0)
    with pytest.raises(RefusedError, match="stopping"):
        asyncio.run(node.read(lambda register: register.stats()))


def test_the_event_loop_goes_on_while_threads_work(tmp_path):
    """The thread ends only because the loop told it to."""
    node, told = new_node(tmp_path), threading.Event()

    async def both() -> bool:
        work = asyncio.ensure_future(node.read(lambda _register: told.wait(30)))
        await asyncio.sleep(0.05)
        told.set()
        return await work

    assert asyncio.run(both())
    node.close(1.0)


def test_a_file_that_isn_t_there_or_goes_away(tmp_path):
    node = RegisterNode(str(tmp_path / "none.db"), RegisterLimits())
    with pytest.raises(RegisterError, match="there is no register"):
        node.start()
    node = new_node(tmp_path)
    node.start()
    (tmp_path / "outputs.db").rename(tmp_path / "away.db")
    with pytest.raises(RegisterUnavailableError, match="is gone"):
        asyncio.run(node.read(lambda register: register.stats()))
    (tmp_path / "outputs.db").write_text("something else, and not a database at all")
    with pytest.raises(RegisterUnavailableError, match="is something else"):
        asyncio.run(node.read(lambda register: register.stats()))
    (tmp_path / "away.db").replace(tmp_path / "outputs.db")
    assert asyncio.run(node.read(lambda register: register.stats().entries)) == 0
    node.close(1.0)


@pytest.mark.parametrize("changes", [{"threads": 0}, {"threads": 13}, {"pixels": 0}, {"pixels": 1 << 27}, {"answer_timeout_s": 0.0}])
def test_limits_out_of_range(changes):
    with pytest.raises(ConfigError):
        RegisterLimits(**changes)
    with pytest.raises(ConfigError):
        RequestLimits(body_bytes=0)


# The application, without a server


def test_a_slow_body_is_waited_for_no_longer_than_its_limit(tmp_path):
    pytest.importorskip("fastapi")
    from studbook.web.register_service import create_app

    node = new_node(tmp_path)
    app, sent = create_app(node, Access()), []

    async def receive():
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": "/matches/byContent", "raw_path": b"/",
        "query_string": b"", "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"image/jpeg")], "client": ("127.0.0.1", 1),
        "root_path": "", "scheme": "http", "server": ("127.0.0.1", 1),
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 408
    node.close(0.0)


def test_a_fault_of_the_disk_or_the_database_tells_no_path(tmp_path):
    pytest.importorskip("fastapi")
    from studbook.errors import StorageError
    from studbook.web.register_service import _refuse

    for error in (StorageError("no space in /srv/secret"), RegisterUnavailableError("postgresql://me@db is gone")):
        answer = _refuse(None, error)
        assert answer.status_code == 503 and b"secret" not in answer.body and b"postgresql" not in answer.body
    own, damaged = RegisterError("it descends from itself"), RegisterError("the register /srv/secret is damaged")
    damaged.__cause__ = OSError()
    assert [_refuse(None, error).status_code for error in (own, damaged)] == [409, 503]
    assert b"secret" not in _refuse(None, damaged).body


def test_the_official_paths_and_names_are_in_the_schema(tmp_path):
    """As C2PA's OpenAPI document has them."""
    pytest.importorskip("fastapi")
    from studbook.web.register_service import create_app

    paths = create_app(new_node(tmp_path), Access()).openapi()["paths"]
    named = {
        (path, method): [each["name"] for each in route.get("parameters", ())]
        for path, routes in paths.items()
        for method, route in routes.items()
    }
    assert named["/services/supportedAlgorithms", "get"] == []
    assert named["/matches/byBinding", "get"] == ["alg", "value", "maxResults"]
    assert named["/matches/byBinding", "post"] == ["maxResults"]
    assert named["/matches/byContent", "post"] == ["alg", "maxResults", "hintAlg", "hintValue"]
    assert sorted(named["/manifests/{manifestId}", "get"]) == ["manifestId", "returnActiveManifest"]
    assert list(paths["/manifests/{manifestId}"]["get"]["responses"]["200"]["content"]) == ["application/c2pa"]
    assert "image/jpeg" in paths["/matches/byContent"]["post"]["requestBody"]["content"]


def test_jpeg_of_the_same_picture_is_found(register):
    smooth = np.kron(np.random.default_rng(3).integers(0, 256, (8, 8, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    register.add_images([png_bytes(smooth)])
    with_manifest(register, picture_content(png_bytes(smooth)), "image")
    found = match_asset(register, Asset(jpeg_bytes(smooth, 80), "image/jpeg", 1 << 20), PHASH)
    assert found and found[0].scheme == "phash"
