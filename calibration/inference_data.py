"""Draws as ArviZ InferenceData, and as netCDF beside ``grm.json``."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.correlated import CorrelatedFit
from calibration.errors import SettingError
from calibration.results import Fit

with warnings.catch_warnings():
    # ArviZ announces its next major version once a day; that says nothing about these numbers.
    warnings.simplefilter("ignore", FutureWarning)
    import arviz as _arviz

_DIMENSIONS = {
    "discrimination": ["item"],
    "thresholds": ["item", "cut"],
    "theta": ["respondent"],
}
_OF_CORRELATED = {"theta": ["respondent", "trait"], "correlation": ["trait", "other_trait"]}


def to_inference_data(fit: Fit | CorrelatedFit) -> Any:  # noqa: ANN401  # ArviZ is untyped
    """Draws with named dimensions, the group ``posterior`` of an `arviz.InferenceData`.

    Dimensions are ``chain``, ``draw`` and those of the parameter: ``item``, ``cut`` (from 1; NaN
    beyond an item's own), ``respondent``, and of a correlated fit ``trait``.

    Args:
        fit: A posterior, of one trait or of correlated ones.

    Raises:
        SettingError: The fit has no draws (maximum likelihood).
    """
    if not fit.draws:
        raise SettingError(f"{fit.family}: method 'mml' has no draws: fit it by 'nuts'")
    of_one = _DIMENSIONS if isinstance(fit, Fit) else {**_DIMENSIONS, **_OF_CORRELATED}
    draws = {
        name: values if name in of_one else _scalar(values) for name, values in fit.draws.items()
    }
    coordinates: dict[str, Any] = {
        "item": [estimate.item for estimate in fit.estimates],
        "cut": np.arange(1, draws["thresholds"].shape[3] + 1),
        "respondent": list(fit.theta.respondents),
    }
    if isinstance(fit, CorrelatedFit):
        coordinates |= {"trait": list(fit.traits), "other_trait": list(fit.traits)}
    return _arviz.from_dict(
        posterior=draws,
        dims={name: of_one[name] for name in draws if name in of_one},
        coords=coordinates,
        posterior_attrs={
            "family": fit.family,
            "model": "grm",
            "seed": str(fit.diagnostics.seed),
            "divergences": fit.diagnostics.divergences,
            **{f"{name}_version": value for name, value in fit.diagnostics.versions.items()},
        },
    )


def write_netcdf(fit: Fit | CorrelatedFit, path: Path | str) -> Path:
    """Write the draws as netCDF-4, compressed; `arviz.from_netcdf` reads them back.

    Args:
        fit: A posterior.
        path: The file; what is there is replaced.

    Raises:
        SettingError: The fit has no draws.
    """
    return Path(to_inference_data(fit).to_netcdf(str(path)))


def _scalar(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without the last axis where a parameter is one number."""
    return values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
