"""Respondents whose answers fit the model poorly. NumPy only."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.correlated_scores import composite_scores
from calibration.data import Responses
from calibration.predictive import category_shares, point_estimates, theta_of_items
from calibration.results import Fit

if TYPE_CHECKING:
    from calibration.correlated import CorrelatedFit

_FEWEST_ANSWERS = 4  # with fewer, a sum of log probabilities is nowhere near normal


@dataclass(frozen=True, slots=True)
class OddRespondent:
    """A respondent and how improbable the answers are.

    Attributes:
        respondent: Name.
        lz: Standardised log-likelihood of the answers at the score; below 0 is less probable
            than the model's respondents are.
        score: EAP of the trait, or of the composite of correlated ones.
        n_answers: Answers given.
    """

    respondent: str
    lz: float
    score: float
    n_answers: int


def person_fit(fit: "Fit | CorrelatedFit", responses: Responses) -> NDArray[np.float64]:
    """The standardised log-likelihood lz (Drasgow, Levine & Williams 1985), shape (n_respondents,).

    At the EAP, so that its spread is somewhat below 1 (Snijders 2001): what is odd by it is odd.
    NaN with fewer than four answers.
    """
    a, b = point_estimates(fit)
    p = category_shares(responses, a, b, theta_of_items(fit, fit.theta.mean)).transpose(2, 0, 1)
    log_p = np.log(np.maximum(p, 1e-300))
    answers = responses.counts.sum(2)
    expected = (p * log_p).sum(2)
    variance = (answers * ((p * log_p**2).sum(2) - expected**2)).sum(1)
    observed = (responses.counts * log_p).sum((1, 2))
    lz = (observed - (answers * expected).sum(1)) / np.sqrt(np.maximum(variance, 1e-12))
    known: NDArray[np.float64] = np.where(answers.sum(1) >= _FEWEST_ANSWERS, lz, np.nan)
    return known


def odd_respondents(
    fit: "Fit | CorrelatedFit", responses: Responses, *, limit: float = -3.0, most: int = 10
) -> tuple[int, tuple[OddRespondent, ...]]:
    """How many lie below ``limit``, and the first of them, the oddest first."""
    lz = person_fit(fit, responses)
    below = np.flatnonzero(lz < limit)
    order = below[np.argsort(lz[below], kind="stable")][:most]
    answers = responses.counts.sum((1, 2))
    score = (fit.theta if isinstance(fit, Fit) else composite_scores(fit)).mean
    return below.size, tuple(
        OddRespondent(responses.respondents[i], float(lz[i]), float(score[i]), int(answers[i]))
        for i in order
    )
