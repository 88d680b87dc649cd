"""Graded-response calibration: arrays in, arrays out.

Importing it costs NumPy; what fits (and JAX with it) is loaded when first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calibration.artefact import GrmArtefact as GrmArtefact
    from calibration.conformal import Conformal as Conformal
    from calibration.conformal import predict_sets as predict_sets
    from calibration.correlated import CorrelatedFit as CorrelatedFit
    from calibration.correlated import fit_correlated as fit_correlated
    from calibration.correlated_scores import composite_scores as composite_scores
    from calibration.curves import category_probabilities as category_probabilities
    from calibration.curves import item_information as item_information
    from calibration.curves import test_information as test_information
    from calibration.data import Responses as Responses
    from calibration.errors import CalibrationError as CalibrationError
    from calibration.gates import Evidence as Evidence
    from calibration.gates import Gate as Gate
    from calibration.gates import judge as judge
    from calibration.grm import fit as fit
    from calibration.inference_data import to_inference_data as to_inference_data
    from calibration.inference_data import write_netcdf as write_netcdf
    from calibration.invariance import InvarianceRow as InvarianceRow
    from calibration.invariance import ItemInvariance as ItemInvariance
    from calibration.invariance import name_items as name_items
    from calibration.loo import Loo as Loo
    from calibration.loo import compare_models as compare_models
    from calibration.network import Network as Network
    from calibration.network import learn_network as learn_network
    from calibration.persons import OddRespondent as OddRespondent
    from calibration.persons import odd_respondents as odd_respondents
    from calibration.predictive import FitCheck as FitCheck
    from calibration.predictive import check_fit as check_fit
    from calibration.results import WEAK_PRIORS as WEAK_PRIORS
    from calibration.results import Fit as Fit
    from calibration.results import Priors as Priors
    from calibration.results import Progress as Progress
    from calibration.results import SamplerSettings as SamplerSettings
    from calibration.results import Summary as Summary
    from calibration.runtime import configure as configure
    from calibration.simulate import Truth as Truth
    from calibration.simulate import simulate_grades as simulate_grades
    from calibration.stability import Stability as Stability
    from calibration.stability import compare_versions as compare_versions
    from calibration.structures import compare_structures as compare_structures

_HOMES = {
    "CalibrationError": "errors",
    "Conformal": "conformal",
    "CorrelatedFit": "correlated",
    "Evidence": "gates",
    "Fit": "results",
    "FitCheck": "predictive",
    "Gate": "gates",
    "GrmArtefact": "artefact",
    "InvarianceRow": "invariance",
    "ItemInvariance": "invariance",
    "Loo": "loo",
    "Network": "network",
    "OddRespondent": "persons",
    "Priors": "results",
    "Progress": "results",
    "Responses": "data",
    "SamplerSettings": "results",
    "Stability": "stability",
    "Summary": "results",
    "Truth": "simulate",
    "WEAK_PRIORS": "results",
    "category_probabilities": "curves",
    "composite_scores": "correlated_scores",
    "check_fit": "predictive",
    "compare_models": "loo",
    "compare_structures": "structures",
    "compare_versions": "stability",
    "configure": "runtime",
    "fit": "grm",
    "fit_correlated": "correlated",
    "item_information": "curves",
    "judge": "gates",
    "learn_network": "network",
    "name_items": "invariance",
    "odd_respondents": "persons",
    "predict_sets": "conformal",
    "simulate_grades": "simulate",
    "test_information": "curves",
    "to_inference_data": "inference_data",
    "write_netcdf": "inference_data",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605  # one list of names, not two


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found
