"""Signed folders, and what data sets say of themselves."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from studbook.errors import ConfigError, DataError, FolderBusyError, ProvenanceError, StorageError
from studbook.provenance import (
    Chain,
    DatasetFacts,
    Statement,
    Trust,
    inspect_path,
    new_chain,
    read_folder_signature,
    sidecar_of,
    sign_folder,
    sign_path,
    verify_folder,
    verify_path,
    write_card,
    write_croissant,
)

SHA = "sha256:" + 64 * "a"
FACTS = DatasetFacts(
    name="texts", description="Texts that a model wrote.", license="cc-by-4.0", creator="Example Laboratory", models=(SHA,),
    derived_from=("wikitext", "https://example.org/data", SHA), language=("en",), records=50_000, published="2026-01-31",
)  # fmt: skip


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> Chain:
    return new_chain(tmp_path_factory.mktemp("provenance") / "chain", "Example Laboratory")


@pytest.fixture
def trust(chain) -> Trust:
    return Trust.load([chain.folder])


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "data"
    (made / "train").mkdir(parents=True)
    (made / "train" / "00.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    (made / "notes.jsonl").write_text('{"a": 1}\n')
    return made


def test_a_folder_is_signed_and_verified_wherever_it_lies(folder, chain, trust, tmp_path):
    file = sign_folder(folder, chain)
    assert file == folder / "model.sig"
    folder.rename(tmp_path / "elsewhere")
    found = verify_folder(tmp_path / "elsewhere", trust=trust)
    assert found.signer == "Example Laboratory"
    assert found.sums == {name: hashlib.sha256((tmp_path / "elsewhere" / name).read_bytes()).hexdigest() for name in found.sums}
    assert sorted(found.sums) == ["notes.jsonl", "train/00.parquet"]


def test_the_digest_names_the_content(folder, chain, trust):
    sign_folder(folder, chain)
    first = verify_folder(folder, trust=trust).digest
    sign_folder(folder, chain)
    assert verify_folder(folder, trust=trust).digest == first
    (folder / "more.txt").write_text("x")
    sign_folder(folder, chain)
    assert verify_folder(folder, trust=trust).digest != first


def test_the_signature_is_an_in_toto_statement_in_a_sigstore_bundle(folder, chain):
    import base64

    bundle = json.loads(sign_folder(folder, chain).read_text())
    assert bundle["mediaType"].startswith("application/vnd.dev.sigstore.bundle")
    assert bundle["dsseEnvelope"]["payloadType"] == "application/vnd.in-toto+json"
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert {each["algorithm"] for each in statement["predicate"]["resources"]} == {"sha256"}


def test_what_is_left_out_is_said(folder, chain, trust):
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_text("x")
    sign_folder(folder, chain, ignore=[".cache"])
    (folder / ".cache" / "x").write_text("y")
    assert ".cache" in verify_folder(folder, trust=trust).ignored
    assert read_folder_signature(folder / "model.sig")[0] == verify_folder(folder, trust=trust)


def test_a_signature_may_lie_elsewhere(folder, chain, trust, tmp_path):
    sign_folder(folder, chain).rename(tmp_path / "data.sig")
    assert verify_folder(folder, trust=trust, signature=tmp_path / "data.sig").signer == "Example Laboratory"


def test_what_isnt_a_folder_of_files_isnt_signed(folder, chain, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no files"):
        sign_folder(tmp_path / "empty", chain)
    with pytest.raises(DataError, match="isn't a folder"):
        sign_folder(folder / "notes.jsonl", chain)
    with pytest.raises(DataError, match="isn't there"):
        sign_path(tmp_path / "nothing", chain, Statement(origin="unknown"))


def test_a_folder_where_a_study_runs_isnt_signed(folder, chain):
    import fcntl

    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(FolderBusyError, match="another process"):
            sign_folder(folder, chain)
    sign_folder(folder, chain)


def test_a_path_is_signed_by_what_it_is(folder, chain, trust):
    text = folder / "notes.jsonl"
    assert sign_path(text, chain, Statement(origin="human")) == sidecar_of(text)
    found = verify_path(text, trust=trust)
    assert (found.origin, found.made[:2]) == ("human", "20")  # type: ignore[union-attr]
    assert inspect_path(text).claimed == found  # type: ignore[union-attr]
    assert sign_path(folder, chain, Statement(origin="unknown")).name == "model.sig"
    assert "notes.jsonl.c2pa" in verify_path(folder, trust=trust).sums  # type: ignore[union-attr]


def test_a_sidecar_that_isnt_one_is_refused(folder, trust):
    text = folder / "notes.jsonl"
    sidecar_of(text).write_bytes(bytes(9 << 20))
    with pytest.raises(ProvenanceError, match="no credential"):
        verify_path(text, trust=trust)
    with pytest.raises(StorageError, match="can't be read"):
        verify_path(text, trust=trust, signature=folder / "nothing.c2pa")


def terms(value: Any) -> set[str]:
    """Every key and type in a JSON-LD document outside its context."""
    if isinstance(value, list):
        return set().union(*map(terms, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    found = {key for key in value if not key.startswith("@")}
    types = value.get("@type", [])
    found |= {types} if isinstance(types, str) else set(types)
    return found.union(*(terms(each) for key, each in value.items() if key != "@context"))


def test_croissant_is_json_ld_with_what_its_specification_requires(folder):
    made = json.loads(write_croissant(folder, FACTS).read_text())
    context = made["@context"]
    assert made["@type"] == "sc:Dataset"
    assert made["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert {"name", "description", "license", "url", "creator", "datePublished", "distribution"} <= set(made)
    for term in terms(made):
        prefix, colon, _ = term.partition(":")
        # A term with a prefix needs the prefix in the context; any other is schema.org's by @vocab, or defined there.
        assert not colon or str(context[prefix]).startswith("http"), term
    identities = [each["@id"] for each in made["distribution"]]
    assert len(set(identities)) == len(identities) == 2
    for each in made["distribution"]:
        file = folder / each["contentUrl"]
        assert each["@type"] == "cr:FileObject"
        assert each["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert each["contentSize"] == f"{file.stat().st_size} B"
        assert re.fullmatch(r"[a-z]+/[a-z0-9.+-]+", each["encodingFormat"])


def test_croissant_says_what_the_data_come_from(folder):
    made = json.loads(write_croissant(folder, FACTS).read_text())
    assert made["prov:wasDerivedFrom"] == [
        {"@type": "prov:Entity", "prov:label": "wikitext"}, {"@id": "https://example.org/data"}, {"@id": f"urn:{SHA}"},
    ]  # fmt: skip
    assert made["prov:wasGeneratedBy"]["prov:wasAssociatedWith"] == {"@type": "prov:SoftwareAgent", "@id": f"urn:{SHA}"}
    assert made["license"] == "https://spdx.org/licenses/cc-by-4.0"


def test_croissant_is_written_again_without_itself(folder):
    first = write_croissant(folder, FACTS).read_bytes()
    assert write_croissant(folder, FACTS).read_bytes() == first


def yaml_of(card: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    return dict(yaml.safe_load(card.split("---\n")[1]))


def test_a_card_says_that_a_machine_made_it(folder):
    card = write_card(folder, FACTS).read_text()
    assert yaml_of(card) == {
        "pretty_name": "texts", "license": "cc-by-4.0", "language": ["en"], "language_creators": ["machine-generated"],
        "annotations_creators": ["machine-generated"], "source_datasets": list(FACTS.derived_from), "size_categories": ["10K<n<100K"],
        "tags": ["synthetic"],
    }  # fmt: skip
    assert SHA in card.split("## Provenance")[1]


def test_a_card_that_is_there_keeps_its_text_and_its_other_keys(folder):
    matter = "license: mit\nconfigs:\n- config_name: default\n  data_files: train/*.parquet\ntags:\n  - mine # : a note\n"
    old = f"---\n{matter}---\n\n# Mine\n\n---\ntext\n"
    (folder / "README.md").write_text(old)
    card = write_card(folder, FACTS).read_text()
    said = yaml_of(card)
    assert said["license"] == "cc-by-4.0"
    assert said["configs"] == [{"config_name": "default", "data_files": "train/*.parquet"}]
    assert said["tags"] == ["mine"]
    assert card.endswith("\n# Mine\n\n---\ntext\n")
    assert write_card(folder, FACTS).read_text() == card


def test_a_readme_without_front_matter_keeps_its_text(folder):
    (folder / "README.md").write_text("# Mine\n")
    card = write_card(folder, FACTS).read_text()
    assert card.endswith("---\n\n# Mine\n")
    assert yaml_of(card)["language_creators"] == ["machine-generated"]


@pytest.mark.parametrize("text", ['x"\n---\nlicense: mit', "a: b", "# no comment", "{a: b}", "yes", "\\", "ü\t&*!|>%@`"])
def test_whatever_a_name_holds_it_stays_a_text(folder, text):
    from dataclasses import replace

    card = write_card(folder, replace(FACTS, name=text)).read_text()
    said = yaml_of(card)
    assert (said["pretty_name"], said["license"]) == (text, "cc-by-4.0")


@pytest.mark.parametrize("old", ["---\nlicense: mit\n", "---\n{a: b}\n---\n", "---\na: 1\na: 2\n---\n", "---\n\x01\n---\n"])
def test_front_matter_that_isnt_keys_is_left_alone(folder, old):
    (folder / "README.md").write_text(old)
    with pytest.raises(DataError, match=r"README\.md"):
        write_card(folder, FACTS)
    assert (folder / "README.md").read_text() == old


def test_a_readme_that_isnt_text_is_left_alone(folder):
    (folder / "README.md").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="isn't UTF-8"):
        write_card(folder, FACTS)


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"license": " "}, {"creator": ""}, {"version": "1"}, {"published": "soon"}, {"records": -1}, {"name": "a\0"}]
)
def test_facts_that_cant_be_meant_are_refused(wrong):
    from dataclasses import replace

    with pytest.raises(ConfigError):
        replace(FACTS, **wrong)
