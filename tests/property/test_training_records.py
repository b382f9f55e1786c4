"""Records of a training run: round trips, only form, and openings of single steps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studbook.errors import RecordError, StudbookError
from studbook.records import (
    Checkpoint,
    Contact,
    Environment,
    ReplayCalibration,
    StepRecord,
    TrainingCommitment,
    TrainingTask,
    check_opening,
    from_bytes,
    merkle_root,
    open_merkle,
    to_bytes,
)
from studbook.records.step_lines import read_link, read_step, write_step

SHA = st.binary(min_size=32, max_size=32).map(lambda data: "sha256:" + data.hex())
ARRAYS = st.binary(min_size=32, max_size=32).map(lambda data: "blake3:" + data.hex())
HEX32 = st.binary(min_size=16, max_size=16).map(bytes.hex)
CONTACTS = st.builds(
    Contact, kind=st.sampled_from(["gradient", "parameters"]), value=ARRAYS,
    peers=st.lists(st.integers(0, 2**32 - 1), max_size=5, unique=True).map(tuple),
)  # fmt: skip
STEPS = st.builds(
    StepRecord, step=st.integers(0, 2**24 - 1), before=ARRAYS, optimiser=SHA, batch=SHA,
    path=st.builds(lambda seed, node, step: f"{seed}/node/{node}/step/{step}", *[st.integers(0, 2**31)] * 3),
    update=ARRAYS, after=ARRAYS, optimiser_after=SHA, contact=st.none() | CONTACTS,
)  # fmt: skip


@st.composite
def commitments(draw):
    steps, every = draw(st.integers(1, 200)), draw(st.integers(1, 50))
    task = TrainingTask(
        objective=draw(SHA), optimiser=draw(SHA), rows=draw(SHA), batch=draw(st.integers(1, 99)), seed=draw(st.integers(0, 2**53 - 1)),
        node=draw(st.integers(0, 99)), start=draw(ARRAYS),
    )  # fmt: skip
    return TrainingCommitment(
        training=task, steps=steps, root=draw(st.binary(min_size=32, max_size=32)).hex(), every=every,
        end=Checkpoint(steps, draw(ARRAYS), draw(SHA)),
        environment=Environment(), run=draw(HEX32), made="2026-01-31T12:00:00Z",
    )  # fmt: skip


@given(record=st.one_of(STEPS, commitments()))
@settings(max_examples=60, deadline=None)
def test_round_trip(record):
    data = to_bytes(record)
    assert from_bytes(type(record), data, "it") == record
    with pytest.raises(StudbookError):
        from_bytes(type(record), data[:-1], "it")
    with pytest.raises(StudbookError):
        from_bytes(type(record), data.replace(b'/2"', b'/3"', 1), "it")


@given(step=STEPS, data=st.data())
@settings(max_examples=200, deadline=None)
def test_the_form_of_a_step_is_its_canonical_json(step, data):
    """Written and read as ``to_bytes`` and ``from_bytes`` do; whatever a byte is changed to, both readers say the same."""
    line = write_step(step)
    assert line == to_bytes(step)
    assert read_step(line, "it") == step
    assert read_link(line, "it").left == (step.left, step.optimiser_after)
    changed = bytearray(line)
    changed[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))
    assert read(read_step, bytes(changed)) == read(partial(from_bytes, StepRecord), bytes(changed))


def read(reader, line):
    try:
        return reader(line, "it")
    except StudbookError as error:
        return type(error)


@given(records=st.lists(STEPS, min_size=1, max_size=12), place=st.integers(0, 11), other=STEPS)
@settings(max_examples=60, deadline=None)
def test_any_step_opens_and_no_other_does(records, place, other):
    values, place = [to_bytes(each) for each in records], place % len(records)
    root, opening = merkle_root(values), open_merkle(values, place)
    check_opening(root, values[place], opening)
    if to_bytes(other) != values[place]:
        with pytest.raises(RecordError):
            check_opening(root, to_bytes(other), opening)


@given(commitment=commitments())
@settings(max_examples=30, deadline=None)
def test_parts_that_do_not_belong_together(commitment):
    for changes in (
        {"end": replace(commitment.end, step=commitment.steps - 1)}, {"steps": commitment.steps + 1}, {"root": commitment.root[:-1]},
        {"run": ""},
        {"steps": 0}, {"every": 0}, {"made": "yesterday"},
    ):  # fmt: skip
        with pytest.raises(RecordError):
            replace(commitment, **changes)


def test_steps_that_cannot_be():
    sha = "sha256:" + 64 * "0"
    arrays = "blake3:" + 64 * "0"
    how = dict.fromkeys(("before", "update", "after"), arrays) | dict.fromkeys(("optimiser", "batch", "optimiser_after"), sha)
    StepRecord(step=0, path="7/node/0/step/0", **how)
    for changes in ({"step": -1}, {"step": 1 << 24}, {"path": ""}, {"path": "7"}, {"path": "../node"}, {"before": sha}, {"batch": arrays}):
        with pytest.raises(RecordError):
            StepRecord(**{"step": 0, "path": "7/node/0/step/0", **how, **changes})
    for peers in ((1, 1), (-1,), (1 << 32,)):
        with pytest.raises(RecordError):
            Contact(kind="gradient", value=arrays, peers=peers)


def test_limits_that_promise_nothing():
    sha, place, other = "sha256:" + 64 * "0", Environment(), Environment(dtype="bf16")
    how = {"objective": sha, "committed": other, "replayed": place, "steps": 9, "confidence": 0.95, "made": "2026-01-31T12:00:00Z"}
    ReplayCalibration(**how, limit=0.01, false_alarm=0.05, units=59)
    for changes in (
        {"limit": 0.0, "false_alarm": 0.05, "units": 59}, {"limit": 0.0, "false_alarm": 0.0, "units": 0},  # bit for bit in other numerics
        {"limit": 1.0, "false_alarm": 0.05, "units": 59}, {"limit": 0.01, "false_alarm": 0.0, "units": 59},
        {"limit": 0.01, "false_alarm": 0.05, "units": 0}, {"limit": 0.01, "false_alarm": 0.05, "units": 59, "steps": 0},
    ):  # fmt: skip
        with pytest.raises(RecordError):
            ReplayCalibration(**{**how, **changes})
