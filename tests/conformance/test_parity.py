"""Our server and Google's emulator, asked the same: every difference is one that is judged."""

import re

from tests.support.parity import judgements, probe_both
from tests.support.parity_calls import probes


def test_every_difference_is_judged():
    written = []
    assert probe_both(written.append) == []
    assert "**Ours.**" not in written[0]


def test_probes_are_hundreds_and_named_apart():
    names = [probe.name for probe in probes()]
    assert len(set(names)) == len(names)
    assert len(names) > 400


def test_no_judgement_is_idle():
    names = [probe.name for probe in probes()]
    for each in judgements():
        assert any(re.fullmatch(each.probes, name) for name in names), each.probes
        assert each.whose in {"theirs", "ours", "open"}
        assert each.link.startswith("https://")
