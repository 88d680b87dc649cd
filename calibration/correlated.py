"""The graded response model with correlated traits: theta_p ~ N(0, Omega), Omega ~ LKJ(2).

Which coordinates are sampled follows from the data's shape, see `integrates`. Traits of a handful
of respondents, or of more who gave very many answers each, are sampled with the items and the
correlations. All others are integrated out (`marginal_correlated`), and their posteriors worked
out afterwards. The model is the same.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from calibration import (
    coordinates,
    correlated_density,
    correlated_many,
    correlated_scores,
    density,
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
    Method,
    Phase,
    Priors,
    Progress,
    RespondentScores,
    SamplerSettings,
    Summary,
)

FEW_RESPONDENTS = 12
_ANSWERS_PER_RESPONDENT = 4  # of the survey, to a trait: beyond it each trait is known well
_DRAWS, _DRAWS_INTEGRATED, _DRAWS_OF_MANY = 4000, 2000, 1000
_SCORING_DRAWS = 200
_ACCEPT = 0.9
_SHORT = 16
_FLATNESS = 0.5
_RIDGE = 0.5

_Table = NDArray[np.float64]
_LogLikelihood = Callable[[_Table, _Table, _Table], float]


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
        theta_covariance: Of a respondent's traits, shape (n_respondents, n_traits, n_traits).
        correlations: One per two traits.
        diagnostics: Worst figures over everything that was drawn.
        draws: As in `Fit`, with ``correlation`` (chains, draws, n_traits, n_traits), and ``theta``
            (chains, draws, n_respondents, n_traits) where it was sampled. Empty for maximum
            likelihood.
        by_trait: A fit of each trait's items, as `calibration.fit` gives one: with its artefact,
            gates and curves. Its figures of the chains are those of all traits together.
        log_likelihood: Of the responses with all traits integrated out, at the estimates.
        marginal_reliability: Share of the scores' variance that is the traits', on average.
        priors: Of the items; maximum likelihood has none.
    """

    family: str
    traits: tuple[str, ...]
    trait_of_item: tuple[int, ...]
    estimates: tuple[ItemEstimate, ...]
    theta: RespondentScores
    theta_covariance: _Table
    correlations: tuple[Correlation, ...]
    diagnostics: Diagnostics
    n_respondents: int
    n_responses: int
    draws: dict[str, _Table]
    by_trait: tuple[Fit, ...]
    log_likelihood: float
    marginal_reliability: float
    notes: tuple[str, ...] = ()
    priors: Priors = field(default_factory=Priors)

    @property
    def correlation_mean(self) -> _Table:
        """Posterior means of the correlations, shape (n_traits, n_traits)."""
        n_traits = len(self.traits)
        mean = np.eye(n_traits)
        upper = np.triu_indices(n_traits, 1)
        mean[upper] = mean.T[upper] = [pair.value.mean for pair in self.correlations]
        return mean


@dataclass(frozen=True, slots=True)
class _Task:
    responses: Responses
    traits: tuple[str, ...]
    of_item: NDArray[np.int64]
    seed: int
    priors: Priors
    tell: Callable[[Progress], None]

    def found(self, mode: Mode) -> None:
        """Tell that the mode was found."""
        family = self.responses.family
        self.tell(Progress(family, "mode", mode.iterations, mode.iterations))

    def tell_of_chains(self, phase: Phase, *done: int) -> None:
        self.tell(Progress(self.responses.family, phase, *done))

    def parts(self) -> tuple[Responses, ...]:
        return parts_of(self.responses, self.traits, self.of_item)


@dataclass(frozen=True, slots=True)
class _Theta:
    """Posteriors of the traits, mean (n, n_traits) and covariance (n, n_traits, n_traits)."""

    mean: _Table
    covariance: _Table

    def scores(self, respondents: tuple[str, ...]) -> RespondentScores:
        sd = np.sqrt(np.einsum("ntt->nt", self.covariance))
        return RespondentScores(respondents, self.mean, sd)


def fit_correlated(
    responses: Responses,
    *,
    seed: int,
    traits: Sequence[str] | None = None,
    sampler: SamplerSettings | None = None,
    method: Method = "nuts",
    priors: Priors | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> CorrelatedFit:
    """Calibrate traits together with their correlations.

    The same seed, settings and platform give the same numbers.

    Args:
        responses: The data.
        seed: Of the chains, 0 to 2**63 - 1; not used by ``"mml"``.
        traits: Name of each item's trait, shape (n_items,); without it each item is a trait of
            its own, which needs several answers per respondent and item.
        sampler: How NUTS is run. Up to 1,000 respondents times traits, 4,000 draws without it, or
            2,000 where theta is integrated out, at a target of 0.9, and half of ``warmup`` goes
            before, half after 400 draws that only serve to scale the coordinates; beyond, 1,000
            draws at 0.85 and trees of at most three doublings, or ten where those do not mix. Not
            used by ``"mml"``.
        method: ``"nuts"`` for the posterior, ``"mml"`` for marginal maximum likelihood with
            standard errors from the observed information.
        priors: Of the items; not used by ``"mml"``.
        progress: Told how far it is.

    Raises:
        NotConvergedError: No mode was found.
        SettingError: A seed out of range, an unknown method, or fewer than two traits.
        ShapeError: Not one trait per item, or fewer than three respondents.
        TooFewItemsError: A trait of one item that nobody answered twice.
    """
    if not 0 <= seed < 2**63:
        raise SettingError(f"seed = {seed}: give 0 to 2**63 - 1")
    if method not in ("nuts", "mml"):
        raise SettingError(f"method = {method!r}: give 'nuts' or 'mml'")
    used = priors if priors and method == "nuts" else Priors()
    tell = progress or (lambda _: None)
    task = _Task(responses, *traits_of(responses, traits), seed, used, tell)
    settings = sampler or SamplerSettings()
    task.tell(Progress(responses.family, "mode", 0, 0))
    try:
        if method == "mml":
            return _maximum_likelihood(task)
        if integrates(responses, task.traits):
            return _integrated(task, settings)
        return _sampled(task, settings)
    except NotConvergedError as error:
        known = "; ".join(responses.notes) or "nothing odd was seen in the responses"
        raise NotConvergedError(f"{responses.family}: {error}. Notes: {known}") from error


def draw_items(
    responses: Responses,
    of_item: NDArray[np.int64],
    *,
    seed: int,
    sampler: SamplerSettings,
    priors: Priors,
) -> tuple[_Table, _Table, _Table]:
    """Draws of all chains and nothing else, every trait sampled.

    The pilot draws that scale the coordinates are as many as are kept.

    Args:
        responses: Of few respondents, three or more.
        of_item: Index of each item's trait.
        seed: Of the chains.
        sampler: How NUTS is run.
        priors: Of the items.

    Returns:
        a (n, n_items), b (n, n_items, n_cuts) and the correlations (n, n_traits, n_traits).

    Raises:
        NotConvergedError: No mode was found.
    """
    data = correlated_data(responses, of_item, priors)
    whitened = _flattened(_mode(responses, data), data)
    sample = partial(
        nuts.sample,
        correlated_density.log_density,
        seed=seed,
        settings=sampler,
        tell=lambda *_: None,
        short_every=_SHORT,
    )
    y = sample(nuts.rescaled(whitened, sample(whitened).y)).y
    draws = stated_draws(responses, y, data, seed, priors)
    a, b, omega = (draws[name] for name in ("discrimination", "thresholds", "correlation"))
    return (
        a.reshape(-1, a.shape[-1]),
        b.reshape(-1, *b.shape[-2:]),
        omega.reshape(-1, *omega.shape[-2:]),
    )


def correlated_data(
    responses: Responses, of_item: NDArray[np.int64], priors: Priors
) -> CorrelatedData:
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
        density.other_priors(priors, len(responses.items)),
    )
    return CorrelatedData(*jax.tree.map(jnp.asarray, parts))


def parts_of(
    responses: Responses, traits: Sequence[str], of_item: NDArray[np.int64]
) -> tuple[Responses, ...]:
    """The responses to each trait's items."""
    return tuple(responses.of_items(of_item == c, name) for c, name in enumerate(traits))


def traits_of(
    responses: Responses, traits: Sequence[str] | None
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Names of the traits, and the index of each item's; refuses what cannot be correlated."""
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
    of_item = np.array([names.index(label) for label in labels])
    for c, name in enumerate(names):
        answers = responses.counts[:, of_item == c].sum((1, 2))
        if answers.max() < 2:
            raise TooFewItemsError(
                f"{responses.family}, trait {name}: one answer per respondent says nothing about "
                "a trait behind it: add an item, or leave it out"
            )
    return names, of_item


def integrates(responses: Responses, traits: Sequence[str]) -> bool:
    """Whether theta is integrated out, ``traits`` named once each.

    The coordinates of sampled traits bend each other: the more respondents there are, and the less
    their answers tell, the more. Integrals on nodes near the mode fail the other way round, where a
    posterior is narrow beside what is not known of its trait's origin and unit.
    """
    n = responses.n_respondents
    if n * len(traits) > correlated_many.FEW_TRAITS:
        return True
    answers = float(np.median(responses.counts.sum((1, 2)))) / len(traits)
    return n > FEW_RESPONDENTS and answers <= _ANSWERS_PER_RESPONDENT * n


def _sampled(task: _Task, settings: SamplerSettings) -> CorrelatedFit:
    """Every trait of every respondent is sampled."""
    responses = task.responses
    data = correlated_data(responses, task.of_item, task.priors)
    settings = _of_few(settings, _DRAWS)
    mode = _mode(responses, data)
    task.found(mode)
    chains = _chains(mode, data, task.seed, settings, task.tell_of_chains)
    draws = stated_draws(responses, chains.y, data, task.seed, task.priors)
    theta = draws["theta"]
    flat = theta.reshape(-1, *theta.shape[2:])
    mean = flat.mean(0)
    covariance = np.einsum("dns,dnt->nst", flat - mean, flat - mean) / len(flat)
    answers = correlated_scores.prepare(responses, task.of_item)

    def log_likelihood(*at: _Table) -> float:
        return float(correlated_scores.log_likelihoods(answers, *at).sum())

    return _posterior(task, (chains, mode), draws, _Theta(mean, covariance), log_likelihood)


def _integrated(task: _Task, settings: SamplerSettings) -> CorrelatedFit:
    """The traits are integrated out."""
    responses = task.responses
    found = correlated_many.find(responses, task.parts(), prior_weight=1.0, priors=task.priors)
    task.found(found.mode)
    log_density, whitened = correlated_many.to_sample(found, responses)
    mode, used = found.mode, np.asarray(found.data.used)
    if found.few:
        settings = _of_few(settings, _DRAWS_INTEGRATED)
    else:
        settings = replace(settings, draws=settings.draws or _DRAWS_OF_MANY)
    chains = (nuts.sample_rescaled if found.few else nuts.sample_in_short_trees)(
        log_density, whitened, seed=task.seed, settings=settings, tell=task.tell_of_chains
    )
    chains = replace(chains, y=correlated_many.stated(chains.y, used))
    log_a, lowest, gaps = coordinates.unpack_items(chains.y, *used.shape)
    rng = np.random.default_rng((task.seed, responses.n_responses))
    mean, sd = coordinates.draw_population(log_a, rng, task.priors)
    draws = {
        "discrimination": np.exp(log_a),
        "thresholds": coordinates.thresholds_of(log_a, lowest, gaps, used),
        "log_discrimination_mean": mean,
        "log_discrimination_sd": sd,
        "correlation": correlated_many.correlations(chains.y, len(task.traits)),
    }
    flat = chains.y.reshape(-1, mode.y.size)
    thin = np.linspace(0, len(flat) - 1, min(_SCORING_DRAWS, len(flat))).astype(int)
    theta = _Theta(*correlated_many.posteriors(flat[thin], found))
    log_likelihood = partial(correlated_many.log_likelihood, found)
    return _posterior(task, (chains, mode), draws, theta, log_likelihood)


def _of_few(settings: SamplerSettings, draws: int) -> SamplerSettings:
    """Settings with what few respondents get where nothing was asked for."""
    return replace(
        settings,
        draws=settings.draws or draws,
        target_accept=settings.target_accept or _ACCEPT,
    )


def _maximum_likelihood(task: _Task) -> CorrelatedFit:
    began = time.perf_counter()
    found = correlated_many.find(task.responses, task.parts(), prior_weight=0.0)
    task.found(found.mode)
    estimates = grm.wald_estimates(
        task.responses, correlated_many.items_of(found), np.asarray(found.data.used)
    )
    omega, errors = correlated_many.correlation_errors(found)
    upper = np.triu_indices(len(task.traits), 1)
    correlations = [_by_fisher(*pair) for pair in zip(omega[upper], errors[upper], strict=True)]
    theta = _Theta(*correlated_many.posteriors(found.mode.y[None], found))
    diagnostics = grm.without_chains(task.seed, found.mode, time.perf_counter() - began)
    log_likelihood = partial(correlated_many.log_likelihood, found)
    return _gathered(task, estimates, correlations, theta, diagnostics, {}, log_likelihood)


def _by_fisher(estimate: float, error: float) -> Summary:
    """A correlation with its standard error and the interval of Fisher's z, which ends before 1."""
    centre, half = np.arctanh(estimate), 1.959964 * error / (1.0 - estimate**2)
    low, high = np.tanh([centre - half, centre + half]).tolist()
    return Summary(float(estimate), float(error), (low, high))


def penalised_estimates(
    responses: Responses, traits: Sequence[str] | None, priors: Priors | None = None
) -> tuple[_Table, _Table, _Table]:
    """a, (n_items,), b, (n_items, n_cuts), and Omega at the mode, the priors a weak penalty.

    For the arguments see `fit_correlated`. Unlike maximum likelihood it is finite for ten
    respondents, or a category nobody used.

    Raises:
        NotConvergedError: No mode was found.
    """
    names, of_item = traits_of(responses, traits)
    parts = parts_of(responses, names, of_item)
    found = correlated_many.find(responses, parts, prior_weight=1.0, priors=priors)
    used = np.asarray(found.data.used)
    log_a, lowest, gaps = coordinates.unpack_items(found.mode.y, *used.shape)
    omega = correlated_many.correlations(found.mode.y, len(names))
    return np.exp(log_a), coordinates.thresholds_of(log_a, lowest, gaps, used), omega


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
    return find_centre(correlated_density.log_density, start, data)


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
    responses: Responses, y: _Table, data: CorrelatedData, seed: int, priors: Priors
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
    mean, sd = coordinates.draw_population(log_a, rng, priors)
    return {
        "discrimination": np.exp(log_a),
        "thresholds": coordinates.thresholds_of(log_a, lowest, log_gap, used),
        "log_discrimination_mean": mean,
        "log_discrimination_sd": sd,
        "theta": scale[..., None, :] * (u + shift[..., None, :]),
        "correlation": correlation,
    }


def _posterior(
    task: _Task,
    drawn: tuple[nuts.Chains, Mode],
    draws: dict[str, _Table],
    theta: _Theta,
    log_likelihood: _LogLikelihood,
) -> CorrelatedFit:
    upper = np.triu_indices(len(task.traits), 1)
    correlations = draws["correlation"][:, :, *upper]
    estimates, worst = grm.estimate_items(task.responses, {**draws, "correlation": correlations})
    diagnostics = grm.diagnose(*drawn, worst, seed=task.seed)
    known = summaries.figures(correlations)
    pairs = [known.summary(k) for k in range(len(upper[0]))]
    return _gathered(task, estimates, pairs, theta, diagnostics, draws, log_likelihood)


def _gathered(
    task: _Task,
    estimates: tuple[ItemEstimate, ...],
    correlations: list[Summary],
    theta: _Theta,
    diagnostics: Diagnostics,
    draws: dict[str, _Table],
    log_likelihood: _LogLikelihood,
) -> CorrelatedFit:
    responses, traits = task.responses, task.traits
    omega = np.eye(len(traits))
    known = theta.scores(responses.respondents)
    upper = np.triu_indices(len(traits), 1)
    omega[upper] = omega.T[upper] = [value.mean for value in correlations]
    by_trait = tuple(
        replace(
            _of_trait(part, task.of_item == c, (c, estimates, known, diagnostics, draws)),
            priors=task.priors,
        )
        for c, part in enumerate(task.parts())
    )
    return CorrelatedFit(
        family=responses.family,
        traits=traits,
        trait_of_item=tuple(task.of_item.tolist()),
        estimates=estimates,
        theta=known,
        theta_covariance=theta.covariance,
        correlations=tuple(
            Correlation(traits[i], traits[j], value)
            for i, j, value in zip(*upper, correlations, strict=True)
        ),
        diagnostics=diagnostics,
        n_respondents=responses.n_respondents,
        n_responses=responses.n_responses,
        draws=draws,
        by_trait=by_trait,
        log_likelihood=log_likelihood(*grm.point(responses, estimates), omega),
        marginal_reliability=float(np.mean([fit.marginal_reliability for fit in by_trait])),
        notes=responses.notes,
        priors=task.priors,
    )


def _of_trait(
    part: Responses,
    mine: NDArray[np.bool_],
    known: tuple[int, tuple[ItemEstimate, ...], RespondentScores, Diagnostics, dict[str, _Table]],
) -> Fit:
    c, estimates, theta, diagnostics, draws = known
    own = tuple(estimate for estimate, kept in zip(estimates, mine, strict=True) if kept)
    own_draws = {
        name: values
        for name, values in draws.items()
        if name in ("log_discrimination_mean", "log_discrimination_sd")
    }
    if draws:
        n_cuts = part.counts.shape[2] - 1
        own_draws["discrimination"] = draws["discrimination"][:, :, mine]
        own_draws["thresholds"] = draws["thresholds"][:, :, mine, :n_cuts]
    if "theta" in draws:
        own_draws["theta"] = draws["theta"][:, :, :, c]
    mean, sd = theta.mean[:, c], theta.sd[:, c]
    return Fit(
        family=part.family,
        estimates=own,
        theta=RespondentScores(part.respondents, mean, sd),
        diagnostics=diagnostics,
        n_respondents=part.n_respondents,
        n_responses=part.n_responses,
        log_likelihood=float(scores.integrate(part, *grm.point(part, own)).log_likelihood.sum()),
        marginal_reliability=scores.marginal_reliability(mean, sd),
        draws=own_draws,
        notes=part.notes,
    )
