"""``[[grid.case]]``: keys that vary together."""

from __future__ import annotations

import tomllib

import pytest

from studbook.errors import ConfigError
from studbook.study.config import expand

STUDY = """
[study]
name = "cases"
generations = 2
samples = 50
[data]
source = "normal"
[learner]
kind = "gaussian"
[mix]
kind = "replace"
[metrics]
names = ["std"]
"""


def cells(text: str):
    return expand(tomllib.loads(STUDY + text))


def test_keys_of_a_case_vary_together():
    found = cells("""
[[grid.case]]
name = "small"
[[grid.case]]
name = "large, kept"
"study.samples" = 500
mix = { kind = "keep", share = 0.1 }
""")
    assert [(c.label, c.study.samples, type(c.mix).__name__) for c in found] == [("small", 50, "Replace"), ("large, kept", 500, "Keep")]
    assert [dict(c.keys) for c in found] == [{"case": "small"}, {"case": "large, kept"}]


def test_cases_combine_with_other_keys():
    found = cells("""
[grid]
"learner.ddof" = [0, 1]
[[grid.case]]
name = "a"
[[grid.case]]
name = "b"
"study.samples" = 7
""")
    assert [(c.keys["case"], c.study.samples, c.learner.ddof) for c in found] == [("a", 50, 0), ("b", 7, 0), ("a", 50, 1), ("b", 7, 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[grid.case]]\n"study.samples" = 5', "expected tables with a name"),
        ("[grid]\ncase = [3]", "expected tables with a name"),
        ('[[grid.case]]\nname = "x"\n[[grid.case]]\nname = "x"', "two cases have the name 'x'"),
        ('[[grid.case]]\nname = "x"\n"stdy.samples" = 5', "did you mean study"),
        ('[[grid.case]]\nname = "x"\n"mix.shar" = 5', "no parameter 'shar'"),
    ],
)
def test_what_is_not_a_case_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        cells(text)


def test_paths_in_the_grid_are_called_by_their_last_names(tmp_path):
    values = "\n".join(["x", *map(str, range(9))])
    for name in ("a.csv", "b.csv", "more/a.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(values)

    def labels(*names: str) -> list[str]:
        quoted = ", ".join(f'"{tmp_path / name}"' for name in names)
        return [c.keys["data.source"] for c in cells(f'[grid]\n"data.source" = [{quoted}]')]

    assert labels("a.csv", "b.csv") == ["a.csv", "b.csv"]
    assert labels("a.csv", "more/a.csv") == [str(tmp_path / "a.csv"), str(tmp_path / "more/a.csv")]
