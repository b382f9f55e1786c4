"""The contract of the register, on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest

from studbook.registry import Register
from studbook.testing.registers import REGISTER_CHECKS


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def opener(request, tmp_path):
    """What opens the register of one test."""
    place = tmp_path / "register.db" if request.param == "sqlite" else request.getfixturevalue("postgres_server").new_database()
    return lambda: Register.open(place, create=True, index=tmp_path / "index")


@pytest.mark.parametrize("check", REGISTER_CHECKS, ids=lambda check: check.__name__)
def test_register_keeps_the_contract(check, opener, tmp_path):
    check(opener, tmp_path)
