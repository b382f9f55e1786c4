"""A run, a model and real pictures: signed by us, and read by the libraries of others."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from studbook import create_study, load_result, resume_study
from studbook.errors import ProvenanceError
from studbook.pictures import jpeg_bytes, png_bytes, read_picture
from studbook.provenance import (
    Chain,
    Statement,
    Trust,
    digest_of_binding,
    manifest_of,
    new_chain,
    read_credential,
    sign_folder,
    sign_picture,
    soft_binding_of,
    verify_credential,
    verify_folder,
    verify_recovered,
)
from studbook.records import Entry
from studbook.registry import Register


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> Chain:
    return new_chain(tmp_path_factory.mktemp("provenance") / "chain", "Example Laboratory")


@pytest.fixture(scope="module")
def trust(chain) -> Trust:
    return Trust.load([chain.folder])


@pytest.fixture
def run(tmp_path) -> Path:
    study = create_study(data="normal", learner="gaussian", metrics=["variance"], generations=5, replicates=4, samples=50)
    study.run(tmp_path / "run")
    return tmp_path / "run"


def test_a_run_of_a_study_is_an_artefact_that_can_be_verified(run, chain, trust):
    sign_folder(run, chain)
    found = verify_folder(run, trust=trust)
    assert "manifest.json" in found.sums
    assert any(name.startswith("units/") for name in found.sums)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["seconds"] = 0
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ProvenanceError, match=r"changed manifest\.json"):
        verify_folder(run, trust=trust)


def test_a_run_can_still_be_read_after_it_was_signed(run, chain, trust):
    sign_folder(run, chain)
    assert load_result(run).frame().height > 0
    assert verify_folder(run, trust=trust).signer == "Example Laboratory"


def test_a_finished_run_stays_as_it_was_signed(run, chain, trust):
    """Resuming it, or taking its lock, writes nothing."""
    sign_folder(run, chain)
    resume_study(run)
    assert verify_folder(run, trust=trust).signer == "Example Laboratory"


def test_others_verify_our_folders(tmp_path, chain):
    """OpenSSF's own command, with nothing of ours."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.safetensors").write_bytes(bytes(1000))
    sign_folder(tmp_path / "model", chain)
    command = [sys.executable, "-m", "model_signing", "verify", "certificate", str(tmp_path / "model"), "--signature",
               str(tmp_path / "model" / "model.sig"), "--certificate_chain", str(chain.folder / "root.pem")]  # fmt: skip
    assert subprocess.run(command, check=False, capture_output=True, timeout=120).returncode == 0
    (tmp_path / "model" / "weights.safetensors").write_bytes(bytes(1001))
    assert subprocess.run(command, check=False, capture_output=True, timeout=120).returncode != 0


def test_we_verify_the_folders_of_others(tmp_path, chain, trust):
    """Signed by OpenSSF's own command with our certificates."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.safetensors").write_bytes(bytes(1000))
    command = [sys.executable, "-m", "model_signing", "sign", "certificate", str(tmp_path / "model"), "--signature",
               str(tmp_path / "model.sig"), "--private_key", str(chain.folder / "signer.key"), "--signing_certificate",
               str(chain.folder / "signer.pem"), "--certificate_chain", str(chain.folder / "root.pem")]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert verify_folder(tmp_path / "model", trust=trust, signature=tmp_path / "model.sig").signer == "Example Laboratory"


@pytest.fixture(scope="module")
def flowers(shared_data) -> np.ndarray:
    with np.load(shared_data / "flowers17-64.npz") as file:
        return np.asarray(file["images"])


def test_stripped_credentials_of_real_pictures_are_recovered_and_stolen_ones_arent(flowers, chain, trust):
    """Flowers, saved again as JPEG 75. A radius of 8 bits lies between: a picture's own hash moves by less, another's by more.

    40 pictures, the credentials of 8 beside the pixels of 39 others: 312 thefts. Pictures are fixed, so nothing here is random.
    """
    pictures = [np.ascontiguousarray(flowers[i]) for i in range(0, len(flowers), len(flowers) // 40)][:40]
    stores = [manifest_of(sign_picture(png_bytes(each), chain, Statement(origin="generated", model="m"))) for each in pictures]
    limits = {"phash": 8}
    resaved = [read_picture(jpeg_bytes(each, 75), "resaved") for each in pictures]
    recovered = 0
    for store, again in zip(stores, resaved, strict=True):
        assert store is not None
        try:
            recovered += verify_recovered(store, again, trust=trust, max_distance=limits).model == "m"
        except ProvenanceError as error:
            assert "belongs to another picture" in str(error)
    assert recovered >= 38
    thefts = 0
    for i, store in enumerate(stores[:8]):
        for j, again in enumerate(resaved):
            if i == j:
                continue
            assert store is not None
            try:
                verify_recovered(store, again, trust=trust, max_distance=limits)
                thefts += 1
            except ProvenanceError as error:
                assert "belongs to another picture" in str(error)
    assert thefts == 0


def test_real_pictures_keep_their_pixels(flowers, chain, trust):
    for pixels in flowers[:20]:
        for data in (png_bytes(pixels), jpeg_bytes(pixels, 80)):
            signed = sign_picture(data, chain, Statement(origin="human"))
            assert verify_credential(signed, trust=trust).origin == "human"
            np.testing.assert_array_equal(read_picture(signed, "signed"), read_picture(data, "plain"))


def test_a_stripped_credential_is_found_in_the_register(flowers, chain, trust, tmp_path):
    """Signed, registered with its credential, saved again by somebody else, found by fingerprint, and verified."""
    with Register.open(tmp_path / "register.sqlite", create=True) as register:
        for pixels in flowers[:30]:
            signed = sign_picture(png_bytes(pixels), chain, Statement(origin="generated", model="flowers-1"))
            store, found = manifest_of(signed), verify_credential(signed, trust=trust)
            assert store is not None
            assert found.statement is not None
            content = f"sha256:{hashlib.sha256(signed).hexdigest()}"
            manifest = register.put_manifest(store)
            assert manifest == found.store
            register.add([Entry(content, "image", "generated", found.model, digests=found.statement.digests, manifest=manifest)])
        stripped = jpeg_bytes(flowers[7], 70)
        pixels = read_picture(stripped, "stripped")
        assert read_credential(stripped, trust=trust) is None
        match = register.find_digests([digest_of_binding(soft_binding_of(pixels))], radius=8)[0][0]
        store = register.manifest(match.entry.manifest)
        assert verify_recovered(store, pixels, trust=trust, max_distance={"phash": 8}).model == "flowers-1"
        with pytest.raises(ProvenanceError, match="belongs to another picture"):
            verify_recovered(store, flowers[8], trust=trust, max_distance={"phash": 8})
