"""Graded-response calibration: arrays in, arrays out.

Importing it costs NumPy; what fits (and JAX with it) is loaded when first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calibration.artefact import GrmArtefact as GrmArtefact
    from calibration.data import Responses as Responses
    from calibration.errors import CalibrationError as CalibrationError
    from calibration.gates import Gate as Gate
    from calibration.gates import judge as judge
    from calibration.grm import fit as fit
    from calibration.invariance import InvarianceRow as InvarianceRow
    from calibration.results import Fit as Fit
    from calibration.results import Progress as Progress
    from calibration.results import SamplerSettings as SamplerSettings
    from calibration.results import Summary as Summary
    from calibration.runtime import configure as configure
    from calibration.simulate import Truth as Truth
    from calibration.simulate import simulate_grades as simulate_grades

_HOMES = {
    "CalibrationError": "errors",
    "Fit": "results",
    "Gate": "gates",
    "GrmArtefact": "artefact",
    "InvarianceRow": "invariance",
    "Progress": "results",
    "Responses": "data",
    "SamplerSettings": "results",
    "Summary": "results",
    "Truth": "simulate",
    "configure": "runtime",
    "fit": "grm",
    "judge": "gates",
    "simulate_grades": "simulate",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605  # one list of names, not two


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found
