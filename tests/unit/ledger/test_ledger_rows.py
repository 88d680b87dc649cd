from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.ledger import rows
from infra.ports import Receipt

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.datetimes(timezones=st.timezones()))
def test_a_time_comes_back_to_the_microsecond(time):
    # Beyond these years the time in UTC is none that Python has.
    if datetime(2, 1, 1, tzinfo=UTC) < time < datetime(9999, 1, 1, tzinfo=UTC):
        assert rows.to_datetime(rows.to_microseconds(time)) == time.astimezone(UTC)


def test_a_time_comes_back_in_utc():
    east = datetime(2026, 1, 1, 5, tzinfo=timezone(timedelta(hours=5)))
    assert rows.to_datetime(rows.to_microseconds(east)).isoformat() == "2026-01-01T00:00:00+00:00"


def test_a_time_without_a_zone_is_refused_by_name():
    with pytest.raises(ValueError, match=r"2026-01-01T00:00:00 has no zone: pass datetime\.now"):
        rows.to_microseconds(datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_a_receipt_comes_back_as_it_was(details):
    receipt = Receipt("sha256:0", {"rows": 2**60}, {"x": "file:///ü"}, details)
    assert rows.to_receipt(rows.receipt_to_json(receipt)) == receipt
