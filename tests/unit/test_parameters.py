"""Building dataclasses from plain tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import pytest

from studbook.errors import ConfigError
from studbook.parameters import build, conform, nearest, parameters_of


@dataclass(frozen=True, slots=True)
class Everything:
    share: float
    count: int = 3
    title: str = ""
    loud: bool = False
    mode: Literal["fast", "slow"] = "fast"
    columns: tuple[str, ...] = ()
    sizes: tuple[int, ...] = field(default_factory=tuple)
    bandwidth: float | None = None

    constant: ClassVar[str] = "not a parameter"

    def __post_init__(self) -> None:
        if self.share < 0:
            raise ConfigError(f"share is {self.share}, expected 0 or more")


def test_values_of_every_type_are_taken():
    table = {"share": 1, "count": 5, "title": "x", "loud": True, "mode": "slow", "columns": ["a", "b"], "sizes": [1, 2], "bandwidth": 0.5}
    built = build(Everything, table)
    assert built == Everything(1.0, 5, "x", True, "slow", ("a", "b"), (1, 2), 0.5)
    assert isinstance(built.share, float)


def test_defaults_fill_what_is_left_out():
    assert build(Everything, {"share": 0.25}) == Everything(0.25)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("share", "0.5", 'mix.share is "0.5" (a text), expected a number'),
        ("share", True, "mix.share is true, expected a number"),
        ("count", 1.5, "mix.count is 1.5, expected an integer"),
        ("count", True, "mix.count is true, expected an integer"),
        ("count", "7", 'mix.count is "7" (a text), expected an integer'),
        ("title", 3, "mix.title is 3, expected a text"),
        ("loud", 1, "mix.loud is 1, expected true or false"),
        ("loud", "yes", 'mix.loud is "yes" (a text), expected true or false'),
        ("mode", "slwo", 'mix.mode is "slwo" (a text), expected "fast" or "slow" (did you mean \'slow\'?)'),
        ("columns", "a", 'mix.columns is "a" (a text), expected a list of texts'),
        ("columns", ["a", 1], 'mix.columns is ["a", 1] (a list), expected a list of texts'),
        ("sizes", [1, 2.5], "mix.sizes is [1, 2.5] (a list), expected a list of integers"),
        ("bandwidth", "wide", 'mix.bandwidth is "wide" (a text), expected a number'),
        ("count", {"a": 1}, "mix.count is {'a': 1} (a table), expected an integer"),
    ],
)
def test_a_wrong_type_says_what_was_got_and_expected(name, value, said):
    with pytest.raises(ConfigError) as caught:
        build(Everything, {"share": 0.5, name: value}, where="mix")
    assert str(caught.value) == said


def test_a_long_value_is_shortened_in_the_message():
    with pytest.raises(ConfigError) as caught:
        build(Everything, {"share": "9" * 10_000})
    assert len(str(caught.value)) < 200


def test_an_unknown_parameter_names_the_nearest():
    with pytest.raises(ConfigError, match=r"mix has no parameter 'Shares' \(did you mean 'share'\?\)"):
        build(Everything, {"Shares": 0.5}, where="mix")


def test_an_unknown_parameter_far_from_all_lists_them():
    with pytest.raises(ConfigError, match="the parameters are share, count, title, loud, mode, columns, sizes, bandwidth"):
        build(Everything, {"share": 0.5, "zzz": 1})


def test_a_class_constant_is_no_parameter():
    with pytest.raises(ConfigError, match="no parameter 'constant'"):
        build(Everything, {"share": 0.5, "constant": "x"})


def test_a_missing_parameter_is_named():
    with pytest.raises(ConfigError, match=r"mix needs 'share', a number \(set mix.share\)"):
        build(Everything, {}, where="mix")


def test_what_the_class_refuses_itself_comes_through_unchanged():
    with pytest.raises(ConfigError, match=r"^share is -1.0, expected 0 or more$"):
        build(Everything, {"share": -1.0})


def test_a_class_without_parameters_says_so():
    @dataclass(frozen=True, slots=True)
    class Bare:
        pass

    with pytest.raises(ConfigError, match="there are no parameters"):
        build(Bare, {"x": 1})


def test_parameters_are_listed_with_expectation_and_default():
    listed = {parameter.name: parameter for parameter in parameters_of(Everything)}
    assert listed["share"].required
    assert not listed["mode"].required
    assert listed["mode"].expected == '"fast" or "slow"'
    assert str(listed["mode"]) == 'mode="fast"'
    assert str(listed["sizes"]) == "sizes=[]"
    assert listed["bandwidth"].expected == "a number"


def test_nearest_ignores_case():
    assert nearest("GAUSSIAN", ["gaussian", "poisson"]) == "did you mean 'gaussian'?"


@dataclass(frozen=True, slots=True)
class Inner:
    rate: float = 0.5
    name: str = "inner"


@dataclass(frozen=True, slots=True)
class Outer:
    size: int = 3
    inner: Inner = Inner(name="outer's")

    def __post_init__(self) -> None:
        conform(self, "outer")


def test_what_is_written_in_python_is_brought_to_its_type():
    built = Outer(np.int64(4), {"rate": 1})
    assert (type(built.size), built.size) == (int, 4)
    assert built.inner == Inner(1.0, "outer's")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"size": "4"}, r'outer.size is "4" \(a text\), expected an integer'),
        ({"size": None}, "outer.size is None"),
        ({"inner": {"rat": 1}}, "outer.inner has no parameter 'rat'"),
        ({"inner": 3}, "outer.inner is 3, expected a table"),
    ],
)
def test_a_wrong_type_in_python_is_refused(arguments, said):
    with pytest.raises(ConfigError, match=said):
        Outer(**arguments)
