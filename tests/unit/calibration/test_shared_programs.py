from dataclasses import replace
from typing import Any

import pytest

from calibration import grm, nuts
from calibration.data import Responses
from calibration.results import SamplerSettings


def test_families_of_one_shape_share_one_compiled_program(
    smoke: Responses, short: SamplerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Any] = []
    find = nuts._program

    def watched(*how: Any) -> Any:
        used.append(find(*how))
        return used[-1]

    monkeypatch.setattr(nuts, "_program", watched)
    other = replace(smoke, family="other", items=smoke.items[::-1], counts=smoke.counts[:, ::-1])
    grm.fit(smoke, seed=3, sampler=short)
    compiled = [used[0].start._cache_size(), used[0].advance._cache_size()]
    assert grm.fit(other, seed=4, sampler=short).family == "other"
    assert used[1] is used[0]
    assert [used[0].start._cache_size(), used[0].advance._cache_size()] == compiled
