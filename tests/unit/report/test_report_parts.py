"""The pure parts of the report: words, curves, estimates, lanes."""

import dataclasses
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.ports import StepStatus
from infra.report.curves import envelope
from infra.report.estimates import estimates_of, items_of, recovery, worst
from infra.report.timeline import in_slices, peak, timeline_of
from infra.report.words import MINUS, duration, number, plain, short, trim


def test_an_envelope_keeps_every_extreme():
    draws = np.random.default_rng(1).standard_normal(4000)
    draws[1234], draws[77] = 9.0, -9.0
    positions, kept = envelope(draws, slices=100)
    assert positions.size == 200
    assert (np.diff(positions) >= 0).all()
    assert kept.max() == 9.0
    assert kept.min() == -9.0
    np.testing.assert_array_equal(draws[positions.astype(int)], kept)


def test_a_short_trace_is_kept_whole():
    draws = np.arange(50.0)
    np.testing.assert_array_equal(envelope(draws)[1], draws)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (1.23456, 3, "1.235"),
        (-0.5, 3, f"{MINUS}0.500"),
        (-0.0, 3, "0.000"),
        (-20353.68487, 2, f"{MINUS}20,353.68"),
        (0.00001, 3, f"1.00e{MINUS}05"),
        (3e12, 0, "3.00e+12"),
    ],
)
def test_plain_numbers(value, digits, text):
    assert plain(value, digits) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_keeps_its_exact_value(value):
    kept = str(number(value)).split('"')[1]
    assert float(kept) == value


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "1", True])
def test_what_is_no_number_is_a_dash(value):
    assert "\N{EN DASH}" in number(value)
    assert "<data" not in number(value)


@pytest.mark.parametrize(
    ("value", "text"), [(400.0, "400"), (1.01, "1.01"), (0, "0"), (6543.25, "6,543.25")]
)
def test_trimmed_numbers(value, text):
    assert f">{text}<" in trim(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.0004, "0.4 ms"),
        (0.834, "834 ms"),
        (0.9999, "1.00 s"),
        (59.99, "59.99 s"),
        (59.999, "1 min 00 s"),
        (83.2, "1 min 23 s"),
        (3599.7, "1 h 00 min"),
        (7380.0, "2 h 03 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_short_names_are_one_line():
    assert short("a\n b\tc") == "a b c"
    assert len(short("x" * 100, 20)) == 20


def test_the_worst_parameters_are_named_by_both_measures(family):
    rows = estimates_of(items_of(family().grm))
    rows = tuple(dataclasses.replace(row, r_hat=1.0, ess_bulk=5000, ess_tail=5000) for row in rows)
    rows = (
        *rows[:3],
        dataclasses.replace(rows[3], r_hat=1.02),
        dataclasses.replace(rows[4], r_hat=1.05),
        dataclasses.replace(rows[5], ess_tail=90),
        dataclasses.replace(rows[6], ess_bulk=50),
        *rows[7:],
    )
    assert worst(rows) == (rows[4], rows[3], rows[6], rows[5])
    assert len(worst(rows[:3])) == 3
    assert worst(()) == ()


def test_recovery_leaves_out_items_whose_cuts_cannot_be_matched(family):
    fitted = family(items=("calm", "bold"), categories=4)
    items = items_of(fitted.grm)
    truth = {"calm": fitted.truth["calm"], "bold": (1.0, (0.0,)), "elsewhere": (1.0, (0.0,))}
    a, b = recovery(items, truth)
    assert [pair.estimate.item for pair in a.pairs] == ["calm", "bold"]
    assert {pair.estimate.item for pair in b.pairs} == {"calm"}
    assert recovery(items, None) == ()


def test_a_bar_shows_waiting_and_working_apart(step, started):
    line = timeline_of([step("smoke/0/shard/3", "merge", 1.0, 1.5, 4.0)], "smoke/0")
    (lane,) = line.lanes
    (bar,) = lane.bars
    assert (lane.label, bar.waited, bar.worked) == ("shard 3 · merge", 0.5, 2.5)
    assert (line.start, line.seconds) == (started + timedelta(seconds=1), 3.0)


def test_a_clock_that_runs_behind_never_gives_a_negative_wait(step):
    line = timeline_of([step("smoke/0/shard/3", "merge", 2.0, 1.5, 1.0)], "smoke/0")
    (bar,) = line.lanes[0].bars
    assert bar.waited == 0
    assert bar.worked == 0


def test_lanes_come_in_the_order_of_work_with_shards_by_number(step):
    steps = [
        step("smoke/0", "report", 20, 20, 21),
        step("smoke/0/family/openness", "training", 10, 11, 12),
        step("smoke/0/shard/10", "shards", 1, 2, 3),
        step("smoke/0/shard/2", "merge", 5, 6, 7),
        step("smoke/0/shard/2", "shards", 1, 3, 4),
        step("smoke/0", "saga", 0, 0, 1),
    ]
    labels = [lane.label for lane in timeline_of(steps, "smoke/0").lanes]
    assert labels == [
        "iteration · saga", "shard 2 · shards", "shard 2 · merge", "shard 10 · shards",
        "family openness · training", "iteration · report",
    ]  # fmt: skip


def test_what_is_under_way_lasts_until_the_end(step, started):
    steps = [step("smoke/0/shard/3", "merge", 0, 1, None)]
    line = timeline_of(steps, "smoke/0", ended_at=started + timedelta(seconds=5))
    (bar,) = line.listed
    assert (bar.ended, bar.worked, bar.status) == (None, None, StepStatus.CLAIMED)
    assert line.seconds == 5
    _, waiting, working = in_slices(line.lanes[0], line.seconds, slices=5)
    assert waiting.tolist() == [1, 0, 0, 0, 0]
    assert working.tolist() == [0, 1, 1, 1, 1]


def test_slices_and_peak_count_what_overlaps(step):
    steps = [
        step("smoke/0/shard/0", "merge", 0, 1, 2),
        step("smoke/0/shard/1", "merge", 0, 1, 3),
        step("smoke/0/shard/2", "merge", 0, 2, 4),
        step("smoke/0/shard/3", "merge", 0, 3.25, 3.5),
    ]
    line = timeline_of(steps * 13, "smoke/0")
    (lane,) = line.lanes
    _, waiting, working = in_slices(lane, line.seconds, slices=4)
    assert (working / 13).tolist() == [0, 2, 2, 2]
    assert (waiting / 13).tolist() == [4, 2, 1, 1]
    assert peak(lane, line.seconds) == 26


def test_no_steps_make_no_timeline():
    assert timeline_of([], "smoke/0").lanes == ()


def test_naming_what_a_report_is_made_of_loads_no_plotting():
    script = (
        "import sys, infra.report.data, infra.report.render\n"
        "print([name for name in ('matplotlib', 'jinja2') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
