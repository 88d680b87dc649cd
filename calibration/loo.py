"""Does the graded response model predict new respondents better than simpler models?

Leave-one-respondent-out predictive densities by Pareto-smoothed importance sampling (Vehtari,
Gelman & Gabry 2017; the smoothing is ArviZ's). A respondent is left out with all answers, and
theta is integrated out: with theta kept, leaving out an answer tells of the answer's luck, not of
the model (Merkle, Furr & Rabe-Hesketh 2019).
"""

import warnings
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from calibration import coordinates, density, grm, nuts, scores
from calibration.data import Responses
from calibration.errors import SettingError
from calibration.newton import find_mode
from calibration.results import Fit, SamplerSettings

with warnings.catch_warnings():
    # ArviZ announces its next major version once a day; that says nothing about these numbers.
    warnings.simplefilter("ignore", FutureWarning)
    import arviz as _arviz

Model = Literal["grm", "equal_discrimination", "independence"]
_DRAWS = 400

_Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Loo:
    """How well a model predicts a respondent that it has not seen.

    Attributes:
        model: ``"grm"``; ``"equal_discrimination"``: all items share one a; or
            ``"independence"``: no trait, each item's shares of its categories.
        elpd: Expected log predictive density, summed over respondents.
        se: Its standard error.
        p_loo: Effective number of parameters.
        pareto_k_max: Largest Pareto shape over respondents.
        unreliable: Respondents whose shape is above 0.7 (or what so many draws allow): their
            part of ``elpd`` can't be trusted.
        difference: ``elpd`` less that of the graded response model; below 0 it predicts worse.
        difference_se: Standard error of the difference, respondents paired.
    """

    model: Model
    elpd: float
    se: float
    p_loo: float
    pareto_k_max: float
    unreliable: int
    difference: float
    difference_se: float


def compare_models(fit: Fit, responses: Responses, *, seed: int) -> tuple[Loo, ...]:
    """The graded response model against an equal discrimination, and against no trait at all.

    Args:
        fit: A posterior of ``responses``.
        responses: What it was calibrated on.
        seed: Of the simpler models' draws.

    Raises:
        NotConvergedError: The model of equal discriminations has no mode.
        SettingError: The fit has no draws (maximum likelihood).
    """
    if not fit.draws:
        raise SettingError(f"{fit.family}: method 'mml' has no draws: fit it by 'nuts'")
    rng = np.random.default_rng((seed, 17))
    a, b = (fit.draws[name] for name in ("discrimination", "thresholds"))
    by_model: dict[Model, _Table] = {
        "grm": _by_respondent(responses, a, b),
        "equal_discrimination": _by_respondent(responses, *_equal_slopes(responses, seed)),
        "independence": _independent(responses, rng),
    }
    parts = {model: smoothed(table) for model, table in by_model.items()}
    best = parts["grm"][0]
    return tuple(_row(model, by_model[model], *parts[model], best) for model in by_model)


def smoothed(log_likelihood: _Table) -> tuple[_Table, _Table]:
    """Leave-one-out log densities and Pareto shapes, each of shape (n_respondents,).

    Args:
        log_likelihood: Draws by respondents, shape (n_draws, n_respondents).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # large shapes are told by `Loo.unreliable`
        log_weight, shape = _arviz.psislw(-log_likelihood.T)
    total = np.asarray(log_weight) + log_likelihood.T
    top = total.max(1)
    return top + np.log(np.exp(total - top[:, None]).sum(1)), np.asarray(shape, float)


def _row(
    model: Model, log_likelihood: _Table, pointwise: _Table, shape: _Table, reference: _Table
) -> Loo:
    n_draws, n = log_likelihood.shape
    top = log_likelihood.max(0)
    seen = top + np.log(np.exp(log_likelihood - top).mean(0))
    apart = pointwise - reference
    return Loo(
        model,
        float(pointwise.sum()),
        float(np.sqrt(n) * pointwise.std(ddof=1)),
        float((seen - pointwise).sum()),
        float(shape.max()),
        int((shape > min(1.0 - 1.0 / np.log10(n_draws), 0.7)).sum()),
        float(apart.sum()),
        float(np.sqrt(n) * apart.std(ddof=1)),
    )


def _by_respondent(responses: Responses, a: _Table, b: _Table) -> _Table:
    """Log-likelihoods of spread-out draws, shape (n_draws, n_respondents)."""
    flat_a, flat_b = a.reshape(-1, a.shape[-1]), b.reshape(-1, *b.shape[-2:])
    thin = np.linspace(0, len(flat_a) - 1, min(_DRAWS, len(flat_a))).astype(int)
    return np.stack(
        [scores.integrate(responses, flat_a[s], flat_b[s]).log_likelihood for s in thin]
    )


def _equal_slopes(responses: Responses, seed: int) -> tuple[_Table, _Table]:
    """Draws of a and b where a is shared."""
    everyone = np.ones(responses.n_respondents, bool)
    data = grm.marginal_data(responses, [everyone], prior_weight=1.0)
    n_items, n_cuts = data.used.shape
    start = grm.start_items(responses)[n_items - 1 :]
    mode = find_mode(density.equal_slopes_log_density, start, data)
    whitened = nuts.Whitened(jnp.asarray(mode.y), jnp.asarray(nuts.whitening(mode.hessian)), data)
    chains = nuts.sample(
        density.equal_slopes_log_density,
        whitened,
        seed=seed,
        settings=SamplerSettings(draws=250),
        tell=lambda *_: None,
    )
    y = np.concatenate([np.repeat(chains.y[..., :1], n_items, -1), chains.y[..., 1:]], -1)
    log_a, lowest, gaps = coordinates.unpack_items(y, n_items, n_cuts)
    used = np.asarray(data.used)
    return np.exp(log_a), coordinates.thresholds_of(log_a, lowest, gaps, used)


def _independent(responses: Responses, rng: np.random.Generator) -> _Table:
    """Log-likelihoods under shares of the categories drawn from Dirichlet posteriors."""
    total = np.zeros((_DRAWS, responses.n_respondents))
    for j, observed in enumerate(responses.categories):
        counts = responses.counts[:, j, : len(observed)]
        share = rng.dirichlet(1.0 + counts.sum(0), _DRAWS)
        total += np.log(share) @ counts.T
    return total
