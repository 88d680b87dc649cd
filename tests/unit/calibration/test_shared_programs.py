from dataclasses import replace

from calibration import density, grm, nuts
from calibration.data import Responses
from calibration.results import SamplerSettings


def test_families_of_one_shape_share_one_compiled_program(
    smoke: Responses, short: SamplerSettings
) -> None:
    other = replace(smoke, family="other", items=smoke.items[::-1], counts=smoke.counts[:, ::-1])
    grm.fit(smoke, seed=3, sampler=short)
    program = nuts._program(
        density.joint_log_density,
        short.warmup,
        short.target_accept,
        short.max_tree_depth,
        short.chains,
    )
    compiled = [program.start._cache_size(), program.advance._cache_size()]
    again = grm.fit(other, seed=4, sampler=short)
    assert again.family == "other"
    assert [program.start._cache_size(), program.advance._cache_size()] == compiled
