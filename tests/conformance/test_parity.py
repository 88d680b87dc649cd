"""Our server and Google's emulator, asked the same: every difference is one that is judged."""

import re

from tests.support.parity import document, judgement, judgements, probe_both
from tests.support.parity_calls import http_probes, probes


def test_every_difference_is_judged():
    found = probe_both()
    assert [each for each in [*found.different, *found.http] if judgement(each) is None] == []
    assert found.ours_apart == []
    assert "**Ours.**" not in document(found)


def names():
    over_grpc = [probe.name for probe in probes()]
    return [
        *over_grpc,
        *(f"HTTP: {name}" for name in over_grpc),
        *(probe.name for probe in http_probes()),
    ]


def test_probes_are_hundreds_and_named_apart():
    assert len(set(names())) == len(names())
    assert len(probes()) > 400
    assert len(http_probes()) > 50


def test_no_judgement_is_idle():
    for each in judgements():
        assert any(re.fullmatch(each.probes, name) for name in names()), each.probes
        assert each.whose in {"theirs", "ours", "open"}
        assert each.link.startswith("https://")
