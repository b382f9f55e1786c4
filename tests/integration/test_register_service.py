"""A register's service as a process of its own: manifests that were stripped are found again, and stolen ones refused."""

from __future__ import annotations

import base64
import importlib.util
import os
import shutil
import signal
import sqlite3
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from studbook.fingerprints import PdqHash, PerceptualHash
from studbook.pictures import png_bytes, read_picture
from studbook.provenance import (
    Statement,
    binding_of,
    inspect_credential,
    manifest_of,
    new_chain,
    sign_bytes,
    sign_picture,
    verify_credential,
    verify_recovered,
)
from studbook.registry import DEFAULTS, Register
from studbook.web.register_matching import algorithms

pytestmark = pytest.mark.xdist_group("register-service")
PROBLEM = {"code", "message", "hint"}
JPEG = {"Content-Type": "image/jpeg"}
LIMITS = {name: DEFAULTS[name].value for name in ("phash", "pdq")}


def load_helpers() -> ModuleType:
    path = Path(__file__).with_name("register_site.py")
    spec = importlib.util.spec_from_file_location("register_site", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["register_site"] = module
    spec.loader.exec_module(module)
    return module


HELPERS = load_helpers()


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return HELPERS.build(tmp_path_factory.mktemp("register-site"))


@pytest.fixture(scope="module")
def service(site):
    with HELPERS.serving(site.location, *site.options, "--rate", "0") as started:
        yield started
        assert started.process.poll() is None
        assert not any("Traceback" in line for line in started.log), "".join(started.log)


@pytest.fixture(scope="module")
def kept(site, service):
    """Three signed pictures in the register, by seed: the file, and what the service answered."""
    found = {}
    with service.client() as client:
        for seed in range(3):
            data = HELPERS.signed(site, seed)
            answer = client.post("/manifests", json={"asset": text_of(data), "mediaType": "image/png"})
            assert answer.status_code == 200, answer.text
            found[seed] = data, answer.json()
    return found


def near(client: httpx.Client, data: bytes, **query: object) -> list[dict]:
    answer = client.post("/matches/byContent", content=data, headers=JPEG, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["matches"]


# What it is for


def test_a_stripped_manifest_is_found_again_by_content_and_verified(site, service, kept):
    with service.client(HELPERS.READER) as client:
        for seed, (data, answer) in kept.items():
            stripped = HELPERS.changed(data)
            assert manifest_of(stripped) is None
            best = near(client, stripped)[0]
            assert best["manifestId"] == answer["manifestId"] and 50 <= best["similarityScore"] <= 100
            store = client.get(f"/manifests/{best['manifestId']}")
            assert store.headers["content-type"] == "application/c2pa" and store.content == manifest_of(data)
            found = verify_recovered(store.content, read_picture(stripped, "x"), trust=site.trust, max_distance=LIMITS)
            assert (found.signer, found.origin, found.model) == ("Example Laboratory", "generated", "blots-1"), seed


def test_a_stripped_manifest_is_found_again_by_binding(service, kept):
    with service.client(HELPERS.READER) as client:
        data, answer = kept[1]
        for scheme in (PerceptualHash(), PdqHash()):
            binding = binding_of(scheme.digest(read_picture(HELPERS.changed(data), "x")))
            asked = {"alg": binding.alg, "value": binding.value}
            by_get = client.get("/matches/byBinding", params=asked)
            by_post = client.post("/matches/byBinding", json={**asked, "more": 1})
            assert by_get.json() == by_post.json() and by_get.status_code == 200
            assert [each["manifestId"] for each in by_get.json()["matches"]] == [answer["manifestId"]]
        same = binding_of(PerceptualHash().digest(read_picture(data, "x")))
        assert (
            client.get("/matches/byBinding", params={"alg": same.alg, "value": same.value}).json()["matches"][0]["similarityScore"] == 100
        )


def test_another_picture_finds_nothing(service, kept):
    with service.client(HELPERS.READER) as client:
        for seed in range(100, 110):
            assert near(client, HELPERS.changed(png_bytes(HELPERS.picture(seed)))) == []


def test_a_hint_is_looked_for_as_well(service, kept):
    hint = binding_of(PerceptualHash().digest(HELPERS.picture(2)))
    other = HELPERS.changed(png_bytes(HELPERS.picture(100)))
    with service.client(HELPERS.READER) as client:
        assert [each["manifestId"] for each in near(client, other, hintAlg=hint.alg, hintValue=hint.value)] == [kept[2][1]["manifestId"]]
        assert near(client, other, hintAlg="com.example.mark.1", hintValue="AAAA") == []
        assert client.post("/matches/byContent", content=other, headers=JPEG, params={"hintAlg": hint.alg}).status_code == 400


def test_one_algorithm_alone_and_few_results(service, kept):
    with service.client(HELPERS.READER) as client:
        stripped = HELPERS.changed(kept[0][0])
        assert len(near(client, stripped, alg="org.studbook.pdq.1", maxResults=1)) == 1
        wrong = client.post("/matches/byContent", content=stripped, headers=JPEG, params={"alg": list(algorithms())[2]})
        assert wrong.status_code == 400 and "isn't an algorithm for image/jpeg" in wrong.json()["message"]


def test_supported_algorithms_need_no_token(service):
    with service.client(None) as client:
        found = client.get("/services/supportedAlgorithms").json()
        assert [each["alg"].split(".")[:3] for each in found["fingerprints"]] == [
            ["org", "studbook", scheme] for scheme in ("phash", "pdq", "minhash")
        ]
        assert found["watermarks"] == []
        assert client.get("/health").json()["writes"] is True


def test_the_active_manifest_alone(site, service):
    """A picture that was signed twice has two manifests; the last one is active."""
    first = HELPERS.signed(site, 31)
    twice = sign_picture(first, site.chain, Statement(origin="generated", model="blots-2"), replace=True)
    with service.client() as client:
        answer = client.post("/manifests", json={"asset": text_of(twice), "mediaType": "image/png"})
        assert answer.status_code == 200, answer.text
        place = f"/manifests/{answer.json()['manifestId']}"
        whole, active = client.get(place).content, client.get(place, params={"returnActiveManifest": True}).content
    assert len(active) <= len(whole) and inspect_credential(twice, sidecar=active).claimed.model == "blots-2"


def test_a_signed_text_is_found_again_by_an_excerpt(site, service):
    words = " ".join(f"the keeper number {n} wrote {n * n} names into the book" for n in range(60))
    sidecar = sign_bytes(words.encode(), site.chain, Statement(origin="human"))
    body = {"asset": text_of(words.encode()), "mediaType": "text/plain", "manifest": text_of(sidecar)}
    plain = {"Content-Type": "text/plain; charset=utf-8"}
    with service.client() as client:
        answer = client.post("/manifests", json=body)
        assert answer.status_code == 200, answer.text
        found = client.post("/matches/byContent", content=words[: len(words) // 2].encode(), headers=plain).json()["matches"]
        assert [each["manifestId"] for each in found] == [answer.json()["manifestId"]]
        assert client.post("/matches/byContent", content=b"an altogether other text", headers=plain).json() == {"matches": []}
        entry = client.get(f"/entries/{answer.json()['content']}").json()["entries"][0]
        assert (entry["kind"], entry["origin"], entry["manifest"]) == ("text", "human", answer.json()["manifestId"])
        stolen = {**body, "asset": text_of(b"a text that somebody else wrote")}
        assert client.post("/manifests", json=stolen).status_code == 422


# Writing


def test_a_stolen_binding_is_refused(site, service, kept):
    """A real manifest, attached to another picture: its signed fingerprint gives it away. Nothing of it is kept."""
    real = manifest_of(kept[0][0])
    other = png_bytes(HELPERS.picture(50))
    with service.client() as client:
        refused = client.post("/manifests", json={"asset": text_of(other), "mediaType": "image/png", "manifest": text_of(real)})
        assert refused.status_code == 422 and "belongs to another picture" in refused.json()["message"]
        assert near(client, HELPERS.changed(other)) == []


def test_a_manifest_is_taken_with_what_became_of_its_picture(site, service):
    """Encoded again, so that only the fingerprint says that they belong together."""
    data = HELPERS.signed(site, 60)
    stripped = HELPERS.changed(data)
    body = {"asset": text_of(stripped), "mediaType": "image/jpeg", "manifest": text_of(manifest_of(data))}
    with service.client() as client:
        first, again = client.post("/manifests", json=body), client.post("/manifests", json=body)
        assert first.status_code == 200, first.text
        assert (first.json()["new"], again.json()["new"], again.json()["known"]) == (1, 0, 1)
        assert near(client, HELPERS.changed(data, side=80))[0]["manifestId"] == first.json()["manifestId"]


def test_a_forged_or_untrusted_manifest_is_refused(site, service, kept, tmp_path):
    stranger = new_chain(tmp_path / "stranger", "Somebody Else")
    theirs = sign_picture(png_bytes(HELPERS.picture(70)), stranger, Statement(origin="human"))
    changed = bytearray(manifest_of(kept[0][0]))
    changed[len(changed) // 2] ^= 1
    unsigned = png_bytes(HELPERS.picture(71))
    with service.client() as client:
        for asset, manifest in ((theirs, None), (kept[0][0], bytes(changed)), (unsigned, None), (unsigned, b"none")):
            body = {"asset": text_of(asset), "mediaType": "image/png", "manifest": None if manifest is None else text_of(manifest)}
            refused = client.post("/manifests", json=body)
            assert refused.status_code == 422 and refused.json()["code"] == "SB803", refused.text


def test_entries_in_bulk_are_whole_and_idempotent(service):
    digest = PerceptualHash().digest(HELPERS.picture(80)).to_json()
    entries = [{"content": f"sha256:{n:064x}", "kind": "image", "origin": "generated", "model": "m"} for n in range(1, 400)]
    entries[0]["digests"] = [digest]
    with service.client() as client:
        assert client.post("/entries", json={"entries": entries}).json() == {"new": 399, "known": 0}
        assert client.post("/entries", json={"entries": entries}).json() == {"new": 0, "known": 399}
        found = client.get(f"/entries/sha256:{1:064x}").json()["entries"]
        assert found[0]["digests"] == [digest] and found[0]["model"] == "m" and found[0]["manifest"] == ""
        # Known, but without a manifest: nothing for the resolution API.
        assert near(client, HELPERS.changed(png_bytes(HELPERS.picture(80)))) == []
        assert client.get(f"/entries/sha256:{999_999:064x}").status_code == 404
        bad = [{**entries[1], "content": f"sha256:{5000:064x}"}, {**entries[1], "manifest": f"sha256:{1:064x}"}]
        assert client.post("/entries", json={"entries": bad}).status_code == 400
        assert client.get(f"/entries/sha256:{5000:064x}").status_code == 404


def test_many_callers_write_and_read_at_once(site, service):
    def turn(n: int) -> int:
        data = HELPERS.signed(site, 200 + n)
        with service.client() as client:
            answer = client.post("/manifests", json={"asset": text_of(data), "mediaType": "image/png"})
            assert answer.status_code == 200, answer.text
            return int(near(client, HELPERS.changed(data))[0]["manifestId"] == answer.json()["manifestId"])

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(turn, range(24))) == 24


# Who may


def test_readers_don_t_write_and_strangers_do_nothing(service):
    with service.client(HELPERS.READER) as client:
        for path in ("/entries", "/manifests"):
            refused = client.post(path, json={})
            assert refused.status_code == 403 and HELPERS.READER not in refused.text
        assert client.get(f"/entries/sha256:{0:064x}").status_code == 404
    for token in (None, HELPERS.READER + "x", HELPERS.READER[:-1]):
        with service.client(token) as client:
            for method, path in (("POST", "/entries"), ("POST", "/matches/byContent"), ("GET", f"/manifests/sha256:{0:064x}")):
                assert client.request(method, path).status_code == 401


def test_without_tokens_only_loopback_reads_and_nobody_writes(site):
    with HELPERS.serving(site.location, "--index", str(site.folder / "index")) as started, started.client(None) as client:
        assert client.get(f"/entries/sha256:{0:064x}").status_code == 404
        assert client.post("/entries", json={}).status_code == 403
        rebound = {"Host": "rebound.example"}
        assert client.get("/matches/byBinding", headers=rebound).status_code == 403
        assert client.get("/services/supportedAlgorithms", headers=rebound).status_code == 403


def test_open_reads_and_a_caller_s_rate(site):
    options = ["--open-reads", "--write-token-file", str(site.folder / "writers"), "--rate", "0.01", "--burst", "5"]
    with HELPERS.serving(site.location, *options, "--index", str(site.folder / "index")) as started, started.client(None) as client:
        codes = [client.get("/services/supportedAlgorithms", headers={"Host": "register.example"}).status_code for _ in range(7)]
        assert codes == [200] * 5 + [429] * 2
        slow = client.get(f"/entries/sha256:{0:064x}")
        assert slow.status_code == 429 and int(slow.headers["retry-after"]) > 50 and set(slow.json()) == PROBLEM
        with started.client() as writer:  # a bucket of its own
            assert writer.post("/entries", json={"entries": []}).status_code == 400
        assert client.post("/entries", json={}).status_code == 401


# What goes wrong


def test_a_file_that_goes_away_and_comes_back(tmp_path):
    site = HELPERS.build(tmp_path / "moving")
    data = HELPERS.signed(site, 1)
    place = Path(site.location)
    with HELPERS.serving(site.location, *site.options) as started, started.client() as client:
        assert client.post("/manifests", json={"asset": text_of(data), "mediaType": "image/png"}).status_code == 200
        with sqlite3.connect(place) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        away = tmp_path / "away.db"
        shutil.copy(place, away)
        place.unlink()
        for path in (f"/manifests/sha256:{0:064x}", f"/entries/sha256:{0:064x}"):
            gone = client.get(path)
            assert gone.status_code == 503 and gone.headers["retry-after"] == "5"
            assert str(tmp_path) not in gone.text
        for left in tmp_path.glob("moving/outputs.db-*"):
            left.unlink()
        place.write_bytes(b"no database at all, but as long as a header of one")
        assert (
            client.post("/entries", json={"entries": [{"content": f"sha256:{1:064x}", "kind": "image", "origin": "human"}]}).status_code
            == 503
        )
        replaced = tmp_path / "moving" / "copy.db"
        shutil.copy(away, replaced)
        replaced.replace(place)
        assert len(near(client, HELPERS.changed(data))) == 1
        os.kill(started.process.pid, signal.SIGTERM)
        assert started.process.wait(30) == 0


@pytest.mark.postgres
def test_a_server_that_stops_and_starts(postgres_server, tmp_path):
    site = HELPERS.build(tmp_path / "served", postgres_server.new_database())
    data = HELPERS.signed(site, 1)
    body = {"asset": text_of(data), "mediaType": "image/png"}
    with HELPERS.serving(site.location, *site.options) as started, started.client() as client:
        assert client.post("/manifests", json=body).status_code == 200
        assert len(near(client, HELPERS.changed(data))) == 1
        postgres_server.stop()
        try:
            for answer in (client.post("/matches/byContent", content=data, headers=JPEG), client.post("/manifests", json=body)):
                assert answer.status_code == 503 and answer.json()["code"] == "SB802" and "postgresql" not in answer.text
        finally:
            postgres_server.start()
        assert len(near(client, HELPERS.changed(data))) == 1
        assert client.post("/manifests", json=body).json()["known"] == 1
        assert postgres_server.password not in "".join(started.log)


def test_what_was_taken_is_finished_after_sigterm(site):
    """A write waits for another process's; the service is told to stop meanwhile."""
    entry = {"content": f"sha256:{7777:064x}", "kind": "bytes", "origin": "unknown"}
    other = sqlite3.connect(site.location, isolation_level=None)
    sent = threading.Event()

    def ask() -> httpx.Response:
        with started.client() as client:
            client.event_hooks = {"request": [lambda _request: sent.set()]}
            return client.post("/entries", json={"entries": [entry]})

    with HELPERS.serving(site.location, *site.options) as started, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN IMMEDIATE")
        asked = pool.submit(ask)
        assert sent.wait(60.0)
        time.sleep(2.0)
        assert not asked.done()
        with started.client() as client:  # a writer who waits keeps no reader waiting
            assert client.get(f"/entries/{entry['content']}").status_code == 404
        os.kill(started.process.pid, signal.SIGTERM)
        with started.client() as client:
            until = time.monotonic() + 30.0
            while client.get(f"/entries/{entry['content']}").json()["code"] != "stopping":
                assert time.monotonic() < until
                time.sleep(0.1)
        other.execute("ROLLBACK")
        other.close()
        assert asked.result().json() == {"new": 1, "known": 0}
        assert started.process.wait(30) == 0


def test_pictures_of_another_process_are_found(site, service):
    """The service follows a register that others write to."""
    data = HELPERS.signed(site, 300)
    with Register.open(site.location, index=site.folder / "index") as register:
        name = register.put_manifest(manifest_of(data))
        register.add_images([data])
        entry = register.find_images([data])[0][0].entry
        register.add([replace(entry, manifest=name)])
    with service.client() as client:
        assert near(client, HELPERS.changed(data))[0]["manifestId"] == name
    assert verify_credential(data, trust=site.trust).store == name
