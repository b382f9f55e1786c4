"""The contract of the register, on SQLite and on PostgreSQL."""

from __future__ import annotations

import numpy as np
import pytest

from studbook.fingerprints import ExactText, MinHash
from studbook.records import Entry
from studbook.registry import Register, text_content
from studbook.testing.registers import REGISTER_CHECKS


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def opener(request, tmp_path):
    """What opens the register of one test."""
    place = tmp_path / "register.db" if request.param == "sqlite" else request.getfixturevalue("postgres_server").new_database()
    return lambda: Register.open(place, create=True, index=tmp_path / "index")


@pytest.mark.parametrize("check", REGISTER_CHECKS, ids=lambda check: check.__name__)
def test_register_keeps_the_contract(check, opener, tmp_path):
    check(opener, tmp_path)


def test_entries_without_a_manifest_take_nobodys_place(opener):
    """However many are nearer: where only entries with a manifest are asked for, the others don't count."""
    words = [f"w{i}" for i in range(120)]
    asked, far = " ".join(words), " ".join([*words[:-12], *(f"changed{i}" for i in range(12))])
    manifest = f"sha256:{64 * 'a'}"
    with opener() as register:
        register.add_texts([asked, *(" ".join([*words, str(i)]) for i in range(80))], model="crowd")
        register.add([Entry(text_content(far), "text", "generated", "m", digests=(MinHash().digest(far),), manifest=manifest)])
        assert {match.entry.model for match in register.find_texts([asked])[0]} == {"crowd"}
        (match,) = register.find_texts([asked], with_manifest=True)[0]
        assert (match.how, match.entry.model, match.entry.manifest) == ("near", "m", manifest)
        assert register.find_digests([MinHash().digest(asked), ExactText().digest(asked)], with_manifest=True) == [(match,), ()]
        assert [each.how for each in register.find_texts([far], with_manifest=True)[0]] == ["exact"]
        assert register.find_images([np.eye(32, dtype=np.uint8)], with_manifest=True) == [()]
