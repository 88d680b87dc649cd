"""Samejima's (1969) graded response model: the posterior by NUTS, or marginal maximum likelihood.

Which coordinates are sampled follows from the data's shape. Up to `FEW_RESPONDENTS` respondents,
theta is sampled with the items, on the scale of its own sample. With more, theta is integrated
out. Where each gave many answers (`layout.many_answers`) that tell of theta, that is done on nodes
of each one's own, and theta is drawn afterwards for each draw of the items; else it is done on
fixed nodes, equal answer patterns counted once, and theta's posterior is worked out afterwards. The
model is the same.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from calibration import (
    adaptive_density,
    block_density,
    coordinates,
    density,
    layout,
    nuts,
    scores,
    summaries,
)
from calibration.curvature import find_marginal_mode
from calibration.data import Responses
from calibration.errors import NotConvergedError, SettingError
from calibration.layout import many_answers, used_cuts
from calibration.newton import LogDensity, Mode, find_mode
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

FEW_RESPONDENTS = 64
_DRAWS_OF_FEW, _DRAWS_OF_MANY = 4000, 1500
_MANY_ANSWERS = 64  # per respondent
_ACCEPT_OF_MANY_ANSWERS = 0.9
_NARROW = 0.5  # sd of theta
_WELL_KNOWN = 1000  # respondents whose items' posterior is nearly normal
_SCORING_DRAWS, _FEWEST_SCORING_DRAWS = 200, 20
_SCORED = 2_000_000  # respondents by draws: the more of them, the less the items' draws differ
_LEAST_SLOPE, _LARGEST_SLOPE = 0.02, 30.0
_OF_ITEMS = ("discrimination", "thresholds")
_Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class _Asked:
    """How to sample."""

    seed: int
    settings: SamplerSettings
    priors: Priors
    report: _Report


@dataclass(frozen=True, slots=True)
class _Draws:
    """Draws on the stated scale; theta only where it was sampled."""

    chains: nuts.Chains
    log_a: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    theta: NDArray[np.float64] | None
    mode: Mode


def fit(
    responses: Responses,
    *,
    seed: int,
    sampler: SamplerSettings | None = None,
    method: Method = "nuts",
    priors: Priors | None = None,
    progress: _Report | None = None,
) -> Fit:
    """Calibrate one family.

    The same seed, settings and platform give the same numbers.

    Args:
        responses: The data.
        seed: Of the chains, 0 to 2**63 - 1; not used by ``"mml"``.
        sampler: How NUTS is run; not used by ``"mml"``.
        method: ``"nuts"`` for the posterior, ``"mml"`` for marginal maximum likelihood with
            standard errors from the observed information.
        priors: Of the items; not used by ``"mml"``.
        progress: Told how far it is.

    Raises:
        NotConvergedError: No mode was found.
        SettingError: A seed out of range or an unknown method.
    """
    if not 0 <= seed < 2**63:
        raise SettingError(f"seed = {seed}: give 0 to 2**63 - 1")
    report = progress or (lambda _: None)
    match method:
        case "nuts":
            asked = _Asked(seed, sampler or SamplerSettings(), priors or Priors(), report)
            return _posterior(responses, asked)
        case "mml":
            return _maximum_likelihood(responses, seed, report)
        case _:
            raise SettingError(f"method = {method!r}: give 'nuts' or 'mml'")


def _posterior(responses: Responses, asked: _Asked, cut_short: nuts.Chains | None = None) -> Fit:
    drawn = _sample(responses, asked)
    if cut_short is not None:
        drawn = replace(drawn, chains=nuts.with_the_time_of(cut_short, drawn.chains))
    draws = _named_draws(responses, drawn, asked)
    estimates, worst = estimate_items(responses, draws)
    if asked.settings.max_tree_depth is None and nuts.cut_too_short(drawn.chains, worst.ess_min):
        longer = replace(asked, settings=nuts.with_long_trees(asked.settings))
        return _posterior(responses, longer, drawn.chains)
    theta = _theta(responses, draws)
    at = point(responses, estimates)
    return Fit(
        family=responses.family,
        estimates=estimates,
        theta=theta,
        diagnostics=diagnose(drawn.chains, drawn.mode, worst, seed=asked.seed),
        n_respondents=responses.n_respondents,
        n_responses=responses.n_responses,
        log_likelihood=float(scores.integrate(responses, *at).log_likelihood.sum()),
        marginal_reliability=scores.marginal_reliability(theta.mean, theta.sd),
        draws=draws,
        notes=responses.notes,
        priors=asked.priors,
    )


def draw_items(
    responses: Responses, *, seed: int, sampler: SamplerSettings, priors: Priors
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draws of a, (n, n_items), and b, (n, n_items, n_cuts), of all chains, and nothing else.

    Raises:
        NotConvergedError: No mode was found.
    """
    drawn = _sample(responses, _Asked(seed, sampler, priors, lambda _: None))
    a, b = np.exp(drawn.log_a), drawn.thresholds
    return a.reshape(-1, a.shape[-1]), b.reshape(-1, *b.shape[-2:])


def _sample(responses: Responses, asked: _Asked) -> _Draws:
    few = responses.n_respondents <= FEW_RESPONDENTS
    if asked.settings.draws is None:
        draws = _DRAWS_OF_FEW if few else _DRAWS_OF_MANY
        asked = replace(asked, settings=replace(asked.settings, draws=draws))
    return _sample_jointly(responses, asked) if few else _sample_items(responses, asked)


def _sample_jointly(responses: Responses, asked: _Asked) -> _Draws:
    data = _joint_data(responses, asked.priors)
    n, used = responses.n_respondents, np.asarray(data.used)
    start = _joint_start(responses, used)
    find = partial(find_mode, density.joint_log_density)
    mode = _mode(find, start, data, responses, asked.report)
    chains = nuts.sample_rescaled(
        density.joint_log_density,
        _whitened(mode, data),
        seed=asked.seed,
        settings=_trees(responses, asked.settings),
        tell=_to(asked.report, responses),
    )
    y = chains.y
    mean, log_scale = y[..., :1], y[..., 1:2]
    u = np.asarray(data.rough) + np.einsum("cdw,nw->cdn", y[..., 2:n], np.asarray(data.basis))
    log_a, lowest, log_gap = coordinates.unpack_from_middle(y, used)
    log_a = log_a - log_scale
    lowest = lowest + mean * np.exp(log_a)
    theta = mean + np.exp(log_scale) * u
    return _Draws(
        chains, log_a, coordinates.thresholds_of(log_a, lowest, log_gap, used), theta, mode
    )


def _trees(responses: Responses, settings: SamplerSettings) -> SamplerSettings:
    """Short trees where many answers make the posterior nearly normal.

    Whitened, it then has one period, known beforehand, and a trajectory of a quarter of it is best.
    NUTS doubles until a tree turns back, past half of it: its means are then more exact than those
    of independent draws, its spreads less. Other posteriors need what NUTS is made for.
    """
    if responses.n_responses < _MANY_ANSWERS * responses.n_respondents:
        return settings
    return replace(
        settings,
        target_accept=settings.target_accept or _ACCEPT_OF_MANY_ANSWERS,
        max_tree_depth=settings.max_tree_depth or nuts.SHORT_TREES,
    )


def _joint_start(responses: Responses, used: NDArray[np.bool_]) -> NDArray[np.float64]:
    items = coordinates.from_lowest_to_middle(start_items(responses), used)
    return np.concatenate([np.zeros(responses.n_respondents), items])


def _joint_data(responses: Responses, priors: Priors) -> density.JointData:
    counts = layout.cut_counts(responses)
    rough = coordinates.rough_scores(responses)
    basis = np.linalg.qr(np.stack([np.ones_like(rough), rough], 1), mode="complete")[0][:, 2:]
    n = responses.n_respondents
    return density.JointData(
        above=jnp.asarray(counts.above.reshape(n, -1)),
        both=jnp.asarray((counts.above + counts.below).reshape(n, -1)),
        middle=jnp.asarray(counts.middle),
        used=jnp.asarray(counts.used),
        rough=jnp.asarray(rough),
        basis=jnp.asarray(basis),
        priors=density.tabulate(priors, len(responses.items)),
    )


def _sample_items(responses: Responses, asked: _Asked) -> _Draws:
    data, mode = _marginal_mode(responses, asked.report, prior_weight=1.0, priors=asked.priors)
    used = np.asarray(data.used)
    if many_answers(responses):
        scale = nuts.whitening(mode.hessian)
        own = adaptive_density.lay_out(responses, data, mode.y, scale)
        # Weak items leave theta to its prior, which nodes that move with the items lose sight of.
        narrow = np.median(own.spread[: responses.n_respondents]) <= _NARROW
        if narrow and own.error < adaptive_density.ERROR:
            return _sample_narrow(responses, asked, mode, own)
    blocks = block_density.lay_out(responses, data, mode.y)
    if responses.n_respondents >= _WELL_KNOWN and asked.settings.max_tree_depth is None:
        settings = replace(asked.settings, max_tree_depth=nuts.SHORT_TREES)
        asked = replace(asked, settings=settings)
    chains = _chains(block_density.from_middle, mode, blocks, responses, asked)
    log_a, lowest, gaps = coordinates.unpack_items(chains.y, *used.shape)
    return _Draws(chains, log_a, coordinates.thresholds_of(log_a, lowest, gaps, used), None, mode)


def _marginal_mode(
    responses: Responses, report: _Report, *, prior_weight: float, priors: Priors | None = None
) -> tuple[density.MarginalData, Mode]:
    everyone = np.ones(responses.n_respondents, bool)
    data = marginal_data(responses, [everyone], prior_weight=prior_weight, priors=priors)
    find = partial(find_marginal_mode, responses)
    return data, _mode(find, start_items(responses), data, responses, report)


def _sample_narrow(
    responses: Responses, asked: _Asked, mode: Mode, own: adaptive_density.OwnNodes
) -> _Draws:
    used = np.asarray(own.rest.used)
    asked = replace(asked, settings=_trees(responses, asked.settings))
    chains = _chains(adaptive_density.from_middle, mode, own, responses, asked)
    log_a, lowest, gaps = coordinates.unpack_items(chains.y, *used.shape)
    theta = adaptive_density.draw_theta(chains.y, own, asked.seed, responses.n_respondents)
    return _Draws(chains, log_a, coordinates.thresholds_of(log_a, lowest, gaps, used), theta, mode)


def _maximum_likelihood(responses: Responses, seed: int, report: _Report) -> Fit:
    began = time.perf_counter()
    data, mode = _marginal_mode(responses, report, prior_weight=0.0)
    estimates = wald_estimates(responses, mode, np.asarray(data.used))
    at = scores.integrate(responses, *point(responses, estimates))
    return Fit(
        family=responses.family,
        estimates=estimates,
        theta=RespondentScores(responses.respondents, at.mean, at.sd),
        diagnostics=without_chains(seed, mode, time.perf_counter() - began),
        n_respondents=responses.n_respondents,
        n_responses=responses.n_responses,
        log_likelihood=float(at.log_likelihood.sum()),
        marginal_reliability=scores.marginal_reliability(at.mean, at.sd),
        notes=responses.notes,
    )


def wald_estimates(
    responses: Responses, mode: Mode, used: NDArray[np.bool_]
) -> tuple[ItemEstimate, ...]:
    """Estimates of a and b, with standard errors from the observed information."""
    log_a, lowest, gaps = coordinates.unpack_items(mode.y, *used.shape)
    errors = _standard_errors(mode, used)
    cuts = coordinates.thresholds_of(log_a, lowest, gaps, used)
    return tuple(
        ItemEstimate(
            item,
            observed,
            _used(responses, j),
            wald(np.exp(log_a[j]), errors[0][j]),
            tuple(wald(cuts[j, k], errors[1][j, k]) for k in range(len(observed) - 1)),
        )
        for j, (item, observed) in enumerate(
            zip(responses.items, responses.categories, strict=True)
        )
    )


def mode_estimates(
    responses: Responses, method: Method, priors: Priors | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """a, (n_items,), and b, (n_items, n_cuts), at the mode from which `fit` starts.

    The priors are a weak penalty for ``"mml"`` too. The search is the one that was compiled for
    a fit of the same shape.
    """
    if method == "mml" or responses.n_respondents > FEW_RESPONDENTS:
        return penalised_estimates(responses, priors)
    data = _joint_data(responses, priors or Priors())
    used = np.asarray(data.used)
    y = find_mode(density.joint_log_density, _joint_start(responses, used), data).y
    log_a, lowest, log_gap = coordinates.unpack_from_middle(y, used)
    log_a = log_a - y[1]
    lowest = lowest + y[0] * np.exp(log_a)
    return np.exp(log_a), coordinates.thresholds_of(log_a, lowest, log_gap, used)


def penalised_estimates(
    responses: Responses, priors: Priors | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """a, (n_items,), and b, (n_items, n_cuts), at the mode, the priors a weak penalty.

    Unlike maximum likelihood it is finite for ten respondents, or a category nobody used.
    """
    everyone = np.ones(responses.n_respondents, bool)
    data = marginal_data(responses, [everyone], prior_weight=1.0, priors=priors)
    mode = find_marginal_mode(responses, start_items(responses), data)
    log_a, lowest, gaps = coordinates.unpack_items(mode.y, *data.used.shape)
    return np.exp(log_a), coordinates.thresholds_of(log_a, lowest, gaps, np.asarray(data.used))


def marginal_data(
    responses: Responses,
    groups: list[NDArray[np.bool_]],
    *,
    prior_weight: float,
    priors: Priors | None = None,
    nodes: NDArray[np.float64] | None = None,
) -> density.MarginalData:
    """The data of `density.marginal_log_density`, a block of patterns per group, nothing tied."""
    found = [layout.distinct_patterns(responses.counts[rows]) for rows in groups]
    size = layout.shared_size(max(weight.size for _, weight in found))
    blocks = [layout.pattern_counts(responses, of_group, size) for of_group in found]
    above = np.stack([block.above.reshape(size, -1).T for block in blocks])
    below = np.stack([block.below.reshape(size, -1).T for block in blocks])
    return density.MarginalData(
        patterns=density.Patterns(above, above + below),
        weight=np.stack([block.weight for block in blocks]),
        middle=np.stack([block.middle for block in blocks]),
        used=blocks[0].used,
        nodes=layout.theta_nodes(responses) if nodes is None else nodes,
        tie_a=np.zeros(len(responses.items)),
        tie_b=np.zeros(len(responses.items)),
        prior_weight=np.asarray(prior_weight),
        priors=density.tabulate(priors or Priors(), len(responses.items)),
    )


def _mode(
    find: Callable[[NDArray[np.float64], Any], Mode],
    start: NDArray[np.float64],
    data: Any,  # noqa: ANN401  # of the density's own kind
    responses: Responses,
    report: _Report,
) -> Mode:
    report(Progress(responses.family, "mode", 0, 0))
    try:
        mode = find(start, data)
    except NotConvergedError as error:
        known = "; ".join(responses.notes) or "nothing odd was seen in the responses"
        where = run_off(responses, error.at)
        raise NotConvergedError(
            f"{responses.family}: {error}.{where} Notes: {known}", error.at
        ) from error
    report(Progress(responses.family, "mode", mode.iterations, mode.iterations))
    return mode


def run_off(responses: Responses, at: NDArray[np.float64] | None) -> str:
    """Names the items whose discriminations had left all reason where a search ended."""
    if at is None:
        return ""
    a = np.exp(at[-len(responses.items) * responses.counts.shape[2] :][: len(responses.items)])
    named = [
        f"item {item} ran to a = {slope:.3g}"
        for item, slope in zip(responses.items, a, strict=True)
        if not _LEAST_SLOPE < slope < _LARGEST_SLOPE
    ]
    if not named:
        return ""
    return f" {'; '.join(named)}: leave out, or recode what is keyed the other way, and try again."


def _chains(
    log_density: LogDensity,
    mode: Mode,
    data: object,
    responses: Responses,
    asked: _Asked,
) -> nuts.Chains:
    """Draws of the lowest cuts, which the density takes by the middle ones."""
    used = used_cuts(responses.categories, responses.counts.shape[2] - 1)
    whitened = whitened_from_middle(mode, data, used)
    tell = _to(asked.report, responses)
    chains = nuts.sample(log_density, whitened, seed=asked.seed, settings=asked.settings, tell=tell)
    return replace(chains, y=coordinates.from_middle_to_lowest(chains.y, used))


def whitened_from_middle(mode: Mode, data: object, used: NDArray[np.bool_]) -> nuts.Whitened:
    """Around a mode of the lowest cuts, for a density that takes them by the middle ones."""
    y = coordinates.from_lowest_to_middle(mode.y, used)
    hessian = coordinates.curvature_from_middle(mode.y, mode.hessian, used)
    return _whitened(replace(mode, y=y, hessian=hessian), data)


def _whitened(mode: Mode, data: object) -> nuts.Whitened:
    return nuts.Whitened(jnp.asarray(mode.y), jnp.asarray(nuts.whitening(mode.hessian)), data)


def _to(report: _Report, responses: Responses) -> nuts.Tell:
    def tell(phase: Phase, done: int, total: int, divergences: int) -> None:
        report(Progress(responses.family, phase, done, total, divergences))

    return tell


def start_items(responses: Responses) -> NDArray[np.float64]:
    """Item coordinates to start a search from."""
    log_a, lowest, gaps = layout.starting_items(responses)
    return np.concatenate([log_a, lowest, gaps.ravel()])


def _named_draws(
    responses: Responses, drawn: _Draws, asked: _Asked
) -> dict[str, NDArray[np.float64]]:
    mean, sd = coordinates.draw_population(
        drawn.log_a, np.random.default_rng((asked.seed, responses.n_responses)), asked.priors
    )
    draws = {
        "discrimination": np.exp(drawn.log_a),
        "thresholds": drawn.thresholds,
        "log_discrimination_mean": mean,
        "log_discrimination_sd": sd,
    }
    return draws if drawn.theta is None else {**draws, "theta": drawn.theta}


def estimate_items(
    responses: Responses, draws: Mapping[str, NDArray[np.float64]]
) -> tuple[tuple[ItemEstimate, ...], summaries.Convergence]:
    """Summaries of a and b, and the worst figures over everything that was drawn."""
    cuts = [len(observed) - 1 for observed in responses.categories]
    used = used_cuts(responses.categories, draws["thresholds"].shape[3])
    others = [_columns(values) for name, values in draws.items() if name not in _OF_ITEMS]
    known = summaries.figures(draws["discrimination"], draws["thresholds"][:, :, used], *others)
    first = len(cuts) + np.concatenate([[0], np.cumsum(cuts)])
    estimates = tuple(
        ItemEstimate(
            item,
            observed,
            _used(responses, j),
            known.summary(j),
            tuple(known.summary(k) for k in range(first[j], first[j + 1])),
        )
        for j, (item, observed) in enumerate(
            zip(responses.items, responses.categories, strict=True)
        )
    )
    return estimates, summaries.worst_of(known)


def diagnose(
    chains: nuts.Chains, mode: Mode, worst: summaries.Convergence, *, seed: int
) -> Diagnostics:
    """What the chains say of themselves."""
    return Diagnostics(
        method="nuts",
        seed=seed,
        chains=len(chains.energy),
        warmup=chains.warmup,
        draws=chains.energy.shape[1],
        r_hat_max=worst.r_hat_max,
        ess_bulk_min=worst.ess_bulk_min,
        ess_tail_min=worst.ess_tail_min,
        divergences=int(chains.diverging.sum()),
        tree_depth_max=int(np.ceil(np.log2(chains.steps.max() + 1))),
        steps_mean=float(chains.steps.mean()),
        step_size=chains.step_size,
        e_bfmi=summaries.e_bfmi(chains.energy),
        gradient_max=mode.gradient_max,
        newton_iterations=mode.iterations,
        sampling_seconds=chains.sampling_seconds,
        compile_seconds=chains.compile_seconds,
        versions=_versions(),
    )


def _used(responses: Responses, item: int) -> tuple[int, ...]:
    totals = responses.counts[:, item, : len(responses.categories[item])].sum(0)
    return tuple(int(total) for total in totals)


def _columns(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    return draws.reshape(*draws.shape[:2], -1)


def _theta(responses: Responses, draws: dict[str, NDArray[np.float64]]) -> RespondentScores:
    if "theta" in draws:
        theta = draws["theta"]
        return RespondentScores(responses.respondents, theta.mean((0, 1)), theta.std((0, 1)))
    a = draws["discrimination"].reshape(-1, len(responses.items))
    b = draws["thresholds"].reshape(len(a), len(responses.items), -1)
    wanted = max(_FEWEST_SCORING_DRAWS, min(_SCORING_DRAWS, _SCORED // responses.n_respondents))
    thin = np.linspace(0, len(a) - 1, min(wanted, len(a))).astype(int)
    return RespondentScores(
        responses.respondents, *scores.average_scores(responses, a[thin], b[thin])
    )


def point(
    responses: Responses, estimates: tuple[ItemEstimate, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimates of a, shape (n_items,), and b, (n_items, n_cuts), NaN beyond an item's own."""
    n_cuts = responses.counts.shape[2] - 1
    cuts = [
        [s.mean for s in e.thresholds] + [np.nan] * (n_cuts - len(e.thresholds)) for e in estimates
    ]
    return np.array([e.discrimination.mean for e in estimates]), np.array(cuts)


def _standard_errors(
    mode: Mode, used: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of a and b, by the delta method from the observed information."""
    covariance = np.linalg.inv(-mode.hessian)
    n_items, n_cuts = used.shape
    log_a, lowest, log_gap = coordinates.unpack_items(mode.y, n_items, n_cuts)
    b = coordinates.thresholds_of(log_a, lowest, log_gap, used)
    rows = np.arange(2 * n_items, mode.y.size).reshape(n_items, n_cuts - 1)
    errors = np.full(used.shape, np.nan)
    for j in range(n_items):
        for k in range(int(used[j].sum())):
            slope = np.zeros(mode.y.size)
            slope[j] = -b[j, k]
            slope[n_items + j] = np.exp(-log_a[j])
            slope[rows[j, :k]] = np.exp(log_gap[j, :k] - log_a[j])
            errors[j, k] = np.sqrt(slope @ covariance @ slope)
    return np.exp(log_a) * np.sqrt(np.diag(covariance)[:n_items]), errors


def wald(estimate: float, error: float) -> Summary:
    """An estimate with its standard error and Wald's interval."""
    return Summary(
        float(estimate),
        float(error),
        (float(estimate - 1.959964 * error), float(estimate + 1.959964 * error)),
    )


def without_chains(seed: int, mode: Mode, seconds: float) -> Diagnostics:
    """What a search for the maximum says of itself."""
    return Diagnostics(
        method="mml",
        seed=seed,
        chains=0,
        warmup=0,
        draws=0,
        r_hat_max=None,
        ess_bulk_min=None,
        ess_tail_min=None,
        divergences=0,
        tree_depth_max=None,
        steps_mean=None,
        step_size=(),
        e_bfmi=(),
        gradient_max=mode.gradient_max,
        newton_iterations=mode.iterations,
        sampling_seconds=seconds,
        compile_seconds=0.0,
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("jax", "numpyro", "numpy")}
