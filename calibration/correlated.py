"""The graded response model with correlated traits: theta_p ~ N(0, Omega), Omega ~ LKJ(2).

For few respondents with many answers each, such as personas: every trait of every respondent is
sampled, together with the items and the correlations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from calibration import (
    coordinates,
    correlated_density,
    correlated_scores,
    grm,
    layout,
    nuts,
    scores,
    summaries,
)
from calibration.correlated_density import CorrelatedData
from calibration.data import Responses
from calibration.errors import NotConvergedError, SettingError, ShapeError, TooFewItemsError
from calibration.newton import Mode, find_centre, second_derivatives
from calibration.results import (
    Diagnostics,
    Fit,
    ItemEstimate,
    Priors,
    Progress,
    RespondentScores,
    SamplerSettings,
    Summary,
)

MOST_TRAITS_OF_RESPONDENTS = 1000
_DRAWS = 4000
_ACCEPT = 0.9
_SHORT = 16
_FLATNESS = 0.5
_RIDGE = 0.5

_Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Correlation:
    """Correlation of two traits over respondents."""

    first: str
    second: str
    value: Summary


@dataclass(frozen=True, slots=True)
class CorrelatedFit:
    """Traits that were calibrated together.

    Attributes:
        family: Name of the responses.
        traits: Names of the traits.
        trait_of_item: Index of each item's trait, shape (n_items,).
        estimates: One per item, on the N(0, 1) scale of its trait.
        theta: Respondents' scores, `mean` and `sd` of shape (n_respondents, n_traits).
        correlations: One per two traits.
        diagnostics: Worst figures over everything that was drawn.
        draws: As in `Fit`, with ``theta`` (chains, draws, n_respondents, n_traits) and
            ``correlation`` (chains, draws, n_traits, n_traits).
        by_trait: A fit of each trait's items, as `calibration.fit` gives one: with its artefact,
            gates and curves. Its figures of the chains are those of all traits together.
        log_likelihood: Of the responses with all traits integrated out, at the estimates.
        marginal_reliability: Share of the scores' variance that is the traits', on average.
    """

    family: str
    traits: tuple[str, ...]
    trait_of_item: tuple[int, ...]
    estimates: tuple[ItemEstimate, ...]
    theta: RespondentScores
    correlations: tuple[Correlation, ...]
    diagnostics: Diagnostics
    n_respondents: int
    n_responses: int
    draws: dict[str, _Table]
    by_trait: tuple[Fit, ...]
    log_likelihood: float
    marginal_reliability: float
    notes: tuple[str, ...] = ()

    @property
    def correlation_mean(self) -> _Table:
        """Posterior means of the correlations, shape (n_traits, n_traits)."""
        mean: _Table = self.draws["correlation"].mean((0, 1))
        return mean


def fit_correlated(
    responses: Responses,
    *,
    seed: int,
    traits: Sequence[str] | None = None,
    sampler: SamplerSettings | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> CorrelatedFit:
    """Calibrate traits together with their correlations.

    The same seed, settings and platform give the same numbers.

    Args:
        responses: The data; n_respondents times traits at most 1,000.
        seed: Of the chains, 0 to 2**63 - 1.
        traits: Name of each item's trait, shape (n_items,); without it each item is a trait of
            its own, which needs several answers per respondent and item.
        sampler: How NUTS is run; 4,000 draws at a target of 0.9 without it. Half of
            ``warmup`` goes before, half after 400 draws that only serve to scale the coordinates.
        progress: Told how far it is.

    Raises:
        NotConvergedError: No mode was found.
        SettingError: A seed out of range, fewer than two traits, or too many to sample.
        ShapeError: Not one trait per item, or fewer than three respondents.
        TooFewItemsError: A trait of one item that nobody answered twice.
    """
    if not 0 <= seed < 2**63:
        raise SettingError(f"seed = {seed}: give 0 to 2**63 - 1")
    names, of_item = _traits_of(responses, traits)
    data = correlated_data(responses, of_item)
    given = sampler or SamplerSettings()
    settings = replace(
        given,
        draws=given.draws or _DRAWS,
        target_accept=given.target_accept or _ACCEPT,
    )
    tell = progress or (lambda _: None)
    tell(Progress(responses.family, "mode", 0, 0))
    mode = _mode(responses, data)
    tell(Progress(responses.family, "mode", mode.iterations, mode.iterations))
    chains = _chains(mode, data, seed, settings, _to(tell, responses.family))
    draws = stated_draws(responses, chains.y, data, seed)
    return _result(responses, names, of_item, (chains, mode, seed), draws)


def correlated_data(responses: Responses, of_item: NDArray[np.int64]) -> CorrelatedData:
    """The data of `correlated_density.log_density`; ``of_item`` is each item's trait."""
    counts = layout.cut_counts(responses)
    loads = np.eye(int(of_item.max()) + 1)[of_item]
    rough = np.stack([coordinates.rough_scores(responses, load > 0) for load in loads.T], 1)
    constant = np.ones(len(rough))
    basis = [
        np.linalg.qr(np.stack([constant, column], 1), mode="complete")[0][:, 2:]
        for column in rough.T
    ]
    parts: tuple[Any, ...] = (
        counts.above.reshape(len(rough), -1),
        (counts.above + counts.below).reshape(len(rough), -1),
        counts.middle,
        counts.used,
        rough,
        np.stack(basis),
        loads,
        0.0,
        1.0,
    )
    return CorrelatedData(*map(jnp.asarray, parts))


def _traits_of(
    responses: Responses, traits: Sequence[str] | None
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    labels = list(responses.items if traits is None else traits)
    if len(labels) != len(responses.items):
        raise ShapeError(
            f"{responses.family}: {len(labels)} traits for {len(responses.items)} items: "
            "name each item's trait"
        )
    names = tuple(dict.fromkeys(labels))
    n = responses.n_respondents
    if len(names) < 2:
        raise SettingError(
            f"{responses.family}: the items share the trait {names[0]}: name two traits or more, "
            "or use calibration.fit"
        )
    if n < 3:
        raise ShapeError(f"{responses.family}: {n} respondents: correlations need 3 or more")
    if n * len(names) > MOST_TRAITS_OF_RESPONDENTS:
        raise SettingError(
            f"{responses.family}: {n} respondents times {len(names)} traits are more than "
            f"{MOST_TRAITS_OF_RESPONDENTS}: fit each trait by calibration.fit, or fewer respondents"
        )
    of_item = np.array([names.index(label) for label in labels])
    for c, name in enumerate(names):
        answers = responses.counts[:, of_item == c].sum((1, 2))
        if answers.max() < 2:
            raise TooFewItemsError(
                f"{responses.family}, trait {name}: one answer per respondent says nothing about "
                "a trait behind it: add an item, or leave it out"
            )
    return names, of_item


def _to(tell: Callable[[Progress], None], family: str) -> nuts.Tell:
    return lambda phase, *done: tell(Progress(family, phase, *done))


def _mode(responses: Responses, data: CorrelatedData) -> Mode:
    n, c = data.rough.shape
    start = np.concatenate(
        [
            np.zeros((n - 1) * c),
            np.full(c, 0.5 * np.log(n)),
            np.zeros(c * (c - 1) // 2),
            coordinates.from_lowest_to_middle(grm.start_items(responses), np.asarray(data.used)),
        ]
    )
    try:
        return find_centre(correlated_density.log_density, start, data)
    except NotConvergedError as error:
        known = "; ".join(responses.notes) or "nothing odd was seen in the responses"
        raise NotConvergedError(f"{responses.family}: {error}. Notes: {known}") from error


def _chains(
    mode: Mode, data: CorrelatedData, seed: int, settings: SamplerSettings, tell: nuts.Tell
) -> nuts.Chains:
    """Draws whitened at the mode, then draws whitened by those."""
    return nuts.sample_rescaled(
        correlated_density.log_density,
        _flattened(mode, data),
        seed=seed,
        settings=settings,
        tell=tell,
        short_every=_SHORT,
    )


def _flattened(mode: Mode, data: CorrelatedData) -> nuts.Whitened:
    """The Laplace approximation at the mode, moved to the coordinates that are sampled.

    In those the density need have no mode: the search is done where it has one.
    """
    n, c = data.rough.shape
    loads = np.asarray(data.loads)
    share = _FLATNESS * loads / loads.sum(0)
    first_item = n * c + c * (c - 1) // 2
    steepness = share.T @ mode.y[first_item : first_item + len(loads)]
    w = mode.y[: (n - 2) * c].reshape(c, n - 2) * np.exp(steepness)[:, None]
    centre = np.concatenate([w.ravel(), mode.y[w.size :]])
    moved = data._replace(flatness=jnp.asarray(_FLATNESS), ridge=jnp.asarray(_RIDGE))
    hessian = second_derivatives(correlated_density.log_density, centre, moved)
    return nuts.Whitened(jnp.asarray(centre), jnp.asarray(nuts.whitening(hessian)), moved)


def stated_draws(
    responses: Responses, y: _Table, data: CorrelatedData, seed: int
) -> dict[str, _Table]:
    """The coordinates' draws as draws of the stated model; `parameters`, for all draws at once."""
    loads, used = np.asarray(data.loads), np.asarray(data.used)
    n, c = data.rough.shape
    ends = np.cumsum([(n - 2) * c, c, c, c * (c - 1) // 2])
    w, shift, log_diagonal, below, items = np.split(y, ends, axis=-1)
    log_a, lowest, log_gap = coordinates.unpack_from_middle(items, used)
    steepness = _FLATNESS * (log_a @ loads) / loads.sum(0)
    off = w.reshape(*y.shape[:-1], c, n - 2) * np.exp(-steepness)[..., None] / np.sqrt(4 * n)
    square = (off**2).sum(-1)[..., None, :]
    along = np.einsum("cnw,...cw->...nc", np.asarray(data.basis), off) * np.sqrt(4 * n)
    u = (np.asarray(data.rough) * (1 - square) + along) / (1 + square)
    lower = np.zeros((*y.shape[:-1], c, c))
    lower[..., *np.tril_indices(c, -1)] = below
    lower[..., np.arange(c), np.arange(c)] = np.exp(log_diagonal)
    root = np.linalg.cholesky(u.swapaxes(-1, -2) @ u + _RIDGE * np.eye(c))
    spread = np.linalg.solve(lower, root.swapaxes(-1, -2))
    scale = 1.0 / np.sqrt((spread**2).sum(-2))
    shift = (spread * shift[..., None]).sum(-2) / np.sqrt(n)
    correlation = np.einsum("...ki,...kj->...ij", spread, spread)
    correlation *= scale[..., :, None] * scale[..., None, :]
    lowest = lowest + shift @ loads.T * np.exp(log_a)
    log_a = log_a - np.log(scale) @ loads.T
    rng = np.random.default_rng((seed, responses.n_responses))
    mean, sd = coordinates.draw_population(log_a, rng, Priors())
    return {
        "discrimination": np.exp(log_a),
        "thresholds": coordinates.thresholds_of(log_a, lowest, log_gap, used),
        "log_discrimination_mean": mean,
        "log_discrimination_sd": sd,
        "theta": scale[..., None, :] * (u + shift[..., None, :]),
        "correlation": correlation,
    }


def _result(
    responses: Responses,
    traits: tuple[str, ...],
    of_item: NDArray[np.int64],
    drawn: tuple[nuts.Chains, Mode, int],
    draws: dict[str, _Table],
) -> CorrelatedFit:
    upper = np.triu_indices(len(traits), 1)
    correlations = draws["correlation"][:, :, *upper]
    estimates, worst = grm.estimate_items(responses, {**draws, "correlation": correlations})
    chains, mode, seed = drawn
    diagnostics = grm.diagnose(chains, mode, worst, seed=seed)
    known = summaries.figures(correlations)
    theta = draws["theta"]
    by_trait = tuple(
        _of_trait(responses, name, of_item == c, (c, estimates, diagnostics, draws))
        for c, name in enumerate(traits)
    )
    by_respondent = correlated_scores.log_likelihoods(
        correlated_scores.prepare(responses, of_item),
        *grm.point(responses, estimates),
        draws["correlation"].mean((0, 1)),
    )
    return CorrelatedFit(
        family=responses.family,
        traits=traits,
        trait_of_item=tuple(of_item.tolist()),
        estimates=estimates,
        theta=RespondentScores(responses.respondents, theta.mean((0, 1)), theta.std((0, 1))),
        correlations=tuple(
            Correlation(traits[i], traits[j], known.summary(k))
            for k, (i, j) in enumerate(zip(*upper, strict=True))
        ),
        diagnostics=diagnostics,
        n_respondents=responses.n_respondents,
        n_responses=responses.n_responses,
        draws=draws,
        by_trait=by_trait,
        log_likelihood=float(by_respondent.sum()),
        marginal_reliability=float(np.mean([fit.marginal_reliability for fit in by_trait])),
        notes=responses.notes,
    )


def _of_trait(
    responses: Responses,
    name: str,
    mine: NDArray[np.bool_],
    known: tuple[int, tuple[ItemEstimate, ...], Diagnostics, dict[str, _Table]],
) -> Fit:
    c, estimates, diagnostics, draws = known
    own = tuple(estimate for estimate, kept in zip(estimates, mine, strict=True) if kept)
    n_cuts = max(len(estimate.thresholds) for estimate in own)
    own_draws = {
        "discrimination": draws["discrimination"][:, :, mine],
        "thresholds": draws["thresholds"][:, :, mine, :n_cuts],
        "log_discrimination_mean": draws["log_discrimination_mean"],
        "log_discrimination_sd": draws["log_discrimination_sd"],
        "theta": draws["theta"][:, :, :, c],
    }
    theta = own_draws["theta"]
    scores_of_trait = RespondentScores(responses.respondents, theta.mean((0, 1)), theta.std((0, 1)))
    counts = responses.counts[:, mine]
    part = Responses(
        name,
        tuple(estimate.item for estimate in own),
        tuple(estimate.categories for estimate in own),
        counts[:, :, : n_cuts + 1],
        responses.respondents,
        responses.groups,
        responses.notes,
    )
    return Fit(
        family=name,
        estimates=own,
        theta=scores_of_trait,
        diagnostics=diagnostics,
        n_respondents=responses.n_respondents,
        n_responses=part.n_responses,
        log_likelihood=float(scores.integrate(part, *grm.point(part, own)).log_likelihood.sum()),
        marginal_reliability=scores.marginal_reliability(scores_of_trait.mean, scores_of_trait.sd),
        draws=own_draws,
        notes=responses.notes,
    )
