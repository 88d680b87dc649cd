from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.errors import SettingError
from calibration.inference_data import to_inference_data, write_netcdf
from calibration.results import Fit


def test_draws_have_named_dimensions_and_outlive_the_file(smoke_fit: Fit, tmp_path: Path) -> None:
    import arviz

    data = to_inference_data(smoke_fit)
    posterior = data.posterior
    assert dict(posterior.sizes) == {
        "chain": 4,
        "draw": 4000,
        "item": 6,
        "cut": 4,
        "respondent": 10,
    }
    assert posterior["log_discrimination_sd"].dims == ("chain", "draw")
    art = posterior["thresholds"].sel(item="art", cut=2)
    np.testing.assert_array_equal(art.values, smoke_fit.draws["thresholds"][:, :, 0, 1])
    again = arviz.from_netcdf(str(write_netcdf(smoke_fit, tmp_path / "draws.nc"))).posterior
    assert again.attrs["family"] == "openness"
    np.testing.assert_array_equal(again["theta"].values, posterior["theta"].values)
    assert float(arviz.rhat(again, var_names=["discrimination"])["discrimination"].max()) < 1.005


def test_one_item_keeps_its_dimension(smoke_fit: Fit) -> None:
    of_items = ("discrimination", "thresholds")
    draws = {
        name: values[:, :, :1] if name in of_items else values
        for name, values in smoke_fit.draws.items()
    }
    alone = replace(smoke_fit, estimates=smoke_fit.estimates[:1], draws=draws)
    posterior = to_inference_data(alone).posterior
    assert posterior["discrimination"].dims == ("chain", "draw", "item")
    assert posterior["thresholds"].dims == ("chain", "draw", "item", "cut")


def test_maximum_likelihood_has_no_draws_to_write(openness_mml: Fit, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="method 'mml' has no draws"):
        write_netcdf(openness_mml, tmp_path / "draws.nc")
