"""NUTS (Hoffman & Gelman 2014) by NumPyro, on coordinates whitened at the mode.

``numpyro.infer.hmc.hmc`` is driven directly, in blocks of one compiled program: the program is
shared by all data of one shape, progress can be told between blocks, and the number of draws is
not compiled in. Chains run one per host device where there are enough of them. The same number of
devices gives the same bytes; another one rounds otherwise.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from calibration import summaries
from calibration.newton import Data, LogDensity
from calibration.results import Phase, SamplerSettings

_BLOCK = 1000  # draws between two words of progress, at most
_FIRST_BLOCK = 125
_PATIENCE_SECONDS = 0.2
_PILOT_DRAWS = 400
SHORT_TREES, _LONG_TREES = 3, 10  # doublings
_FEWEST_EFFECTIVE = 0.1
Tell = Callable[[Phase, int, int, int], None]
_State = Any  # NumPyro's HMCState, untyped


class Whitened(NamedTuple):
    """``y = centre + scale @ z``, and the data of the log density of y."""

    centre: Array
    scale: Array
    data: Data


class _Record(NamedTuple):
    y: Array
    energy: Array
    steps: Array
    diverging: Array


@dataclass(frozen=True, slots=True)
class Chains:
    """What the sampler gives.

    Attributes:
        y: Draws, shape (chains, draws, n).
        energy: Energy of each draw, shape (chains, draws).
        steps: Leapfrog steps of each draw, shape (chains, draws).
        diverging: Whether it diverged, shape (chains, draws).
        step_size: Per chain.
        warmup: Draws left out per chain, those of a pilot run included.
        sampling_seconds: Warm-up and draws.
        compile_seconds: Tracing and compiling.
    """

    y: NDArray[np.float64]
    energy: NDArray[np.float64]
    steps: NDArray[np.int64]
    diverging: NDArray[np.bool_]
    step_size: tuple[float, ...]
    warmup: int
    sampling_seconds: float
    compile_seconds: float


def whitening(hessian: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale under which the Laplace approximation is a standard normal, shape (n, n).

    Curvatures below 0.2 are taken as 0.2: a direction that the data leave to a unit-scale prior
    is not stretched further.
    """
    curvature, vectors = np.linalg.eigh(-hessian)
    scale: NDArray[np.float64] = vectors / np.sqrt(np.maximum(np.abs(curvature), 0.2))
    return scale


def cut_too_short(chains: Chains, ess_min: float) -> bool:
    """Whether trees of `SHORT_TREES` made draws worth less than a tenth of independent ones.

    Short trees suit a posterior that is nearly normal once whitened; that it is can be seen before
    it is sampled only roughly, and afterwards by this.
    """
    short = chains.steps.max() < 2**SHORT_TREES
    return bool(short and not ess_min >= _FEWEST_EFFECTIVE * chains.steps.size)


def with_long_trees(settings: SamplerSettings) -> SamplerSettings:
    """Trees as long as NUTS has them."""
    return replace(settings, max_tree_depth=_LONG_TREES)


def sample(
    log_density: LogDensity,
    whitened: Whitened,
    *,
    seed: int,
    settings: SamplerSettings,
    tell: Tell,
    short_every: int = 0,
) -> Chains:
    """Draw from a log density.

    Args:
        log_density: A module-level function (it keys the cache of compiled programs).
        whitened: Mode, scale and data.
        seed: Of the starting points and the chains.
        settings: Chains, draws, target acceptance.
        tell: Called with the phase, the draws done, their total, and divergences so far.
        short_every: Every so many draws one is made with a quarter of the step, which leads a
            chain out of a corner too narrow for the others; 0 for never.
    """
    began = time.perf_counter()
    tell("compile", 0, 0, 0)
    program = _program(
        log_density,
        settings.warmup,
        settings.target_accept or 0.85,
        settings.max_tree_depth or _LONG_TREES,
        settings.chains,
        short_every,
    )
    keys = jax.random.split(jax.random.key(seed), settings.chains)
    placed = program.place(whitened)
    state = program.start(keys, placed)
    program.advance(state, 0, placed)[1].y.block_until_ready()
    compiled = time.perf_counter()
    for done, size in _blocks(settings.warmup):
        state, _ = program.advance(state, size, placed)
        state.i.block_until_ready()
        tell("warmup", done + size, settings.warmup, 0)
    records: list[tuple[NDArray[Any], ...]] = []
    divergences = 0
    draws = settings.draws or 4000
    for done, size in _blocks(draws):
        state, block = program.advance(state, size, placed)
        records.append(tuple(np.asarray(part)[:, :size] for part in block))
        divergences += int(records[-1][3].sum())
        tell("draws", done + size, draws, divergences)
    y, energy, steps, diverging = (np.concatenate(parts, 1) for parts in zip(*records, strict=True))
    return Chains(
        y,
        energy,
        steps.astype(np.int64),
        diverging,
        tuple(float(size) for size in np.asarray(state.adapt_state.step_size)),
        settings.warmup,
        time.perf_counter() - compiled,
        compiled - began,
    )


def sample_rescaled(
    log_density: LogDensity,
    whitened: Whitened,
    *,
    seed: int,
    settings: SamplerSettings,
    tell: Tell,
    short_every: int = 0,
) -> Chains:
    """As `sample`, but whitened by 400 pilot draws that are then left out.

    Half of the warm-up goes before the pilot draws, half after, at least 50 draws each. The two
    runs share a program.
    """

    def pilot_tell(phase: Phase, done: int, total: int, _: int) -> None:
        tell("warmup" if phase == "draws" else phase, done, total, 0)

    halved = replace(settings, warmup=max(50, (settings.warmup + 1) // 2))
    run = partial(sample, log_density, seed=seed, short_every=short_every)
    pilot = run(whitened, settings=replace(halved, draws=_PILOT_DRAWS), tell=pilot_tell)
    chains = run(rescaled(whitened, pilot.y), settings=halved, tell=tell)
    return replace(
        with_the_time_of(pilot, chains), warmup=pilot.warmup + _PILOT_DRAWS + chains.warmup
    )


def sample_in_short_trees(
    log_density: LogDensity,
    whitened: Whitened,
    *,
    seed: int,
    settings: SamplerSettings,
    tell: Tell,
) -> Chains:
    """As `sample`, in trees of `SHORT_TREES`, and again in long ones where those do not mix."""
    run = partial(sample, log_density, whitened, seed=seed, tell=tell)
    if settings.max_tree_depth is not None:
        return run(settings=settings)
    chains = run(settings=replace(settings, max_tree_depth=SHORT_TREES))
    if not cut_too_short(chains, summaries.convergence(chains.y).ess_min):
        return chains
    return with_the_time_of(chains, run(settings=with_long_trees(settings)))


def with_the_time_of(first: Chains, chains: Chains) -> Chains:
    """Chains that took what a run before them took as well."""
    return replace(
        chains,
        sampling_seconds=first.sampling_seconds + chains.sampling_seconds,
        compile_seconds=first.compile_seconds + chains.compile_seconds,
    )


def _blocks(total: int) -> Iterator[tuple[int, int]]:
    """Draws done and to do, twice as many where the last were quick: each block costs a word."""
    done, size = 0, _FIRST_BLOCK
    while done < total:
        began = time.perf_counter()
        yield done, min(size, total - done)
        done += size
        if time.perf_counter() - began < _PATIENCE_SECONDS:
            size = min(2 * size, _BLOCK)


def _stepping(state: _State, step: Array) -> _State:
    return state._replace(adapt_state=state.adapt_state._replace(step_size=step))


class _Start(Protocol):
    def __call__(self, key: Array, whitened: Whitened) -> _State: ...


class _Advance(Protocol):
    def __call__(
        self, state: _State, draws: Array, whitened: Whitened
    ) -> tuple[_State, _Record]: ...


class _Compiled(NamedTuple):
    place: Callable[[Whitened], Whitened]
    start: Callable[[Array, Whitened], _State]
    advance: Callable[[_State, int, Whitened], tuple[_State, _Record]]


@lru_cache(maxsize=32)
def _program(
    log_density: LogDensity,
    warmup: int,
    target_accept: float,
    max_tree_depth: int,
    chains: int,
    short_every: int,
) -> _Compiled:
    def potential(whitened: Whitened) -> Callable[[Array], Array]:
        return lambda z: -log_density(whitened.centre + whitened.scale @ z, whitened.data)

    # Maximum likelihood does without NumPyro, which takes a third of a second to load.
    from numpyro.infer.hmc import hmc  # noqa: PLC0415

    init_kernel, sample_kernel = hmc(potential_fn_gen=potential, algo="NUTS")

    def start(key: Array, whitened: Whitened) -> _State:
        at, onward = jax.random.split(key)
        return init_kernel(
            jax.random.normal(at, whitened.centre.shape),
            warmup,
            step_size=0.5,
            adapt_mass_matrix=False,
            target_accept_prob=target_accept,
            max_tree_depth=max_tree_depth,
            model_args=(whitened,),
            rng_key=onward,
        )

    def kernel(state: _State, whitened: Whitened) -> _State:
        if not short_every:
            return sample_kernel(state, (whitened,))
        step = state.adapt_state.step_size
        short = (state.i >= warmup) & (state.i % short_every == 0)
        after = sample_kernel(_stepping(state, jnp.where(short, 0.25 * step, step)), (whitened,))
        kept = jnp.where(state.i >= warmup, step, after.adapt_state.step_size)
        return _stepping(after, kept)

    def advance(state: _State, draws: Array, whitened: Whitened) -> tuple[_State, _Record]:
        def one(index: Array, carry: tuple[_State, _Record]) -> tuple[_State, _Record]:
            after = kernel(carry[0], whitened)
            # Here, because NumPy's threads would go on spinning where the next chains run.
            y = whitened.centre + whitened.scale @ after.z
            record = _Record(y, after.energy, after.num_steps, after.diverging)
            kept = jax.tree.map(lambda rows, row: rows.at[index].set(row), carry[1], record)
            return after, kept

        empty = jax.tree.map(
            lambda row: jnp.zeros((_BLOCK, *row.shape), row.dtype),
            _Record(state.z, state.energy, state.num_steps, state.diverging),
        )
        carried: tuple[_State, _Record] = jax.lax.fori_loop(0, draws, one, (state, empty))
        return carried

    return _over_chains(start, advance, chains)


def _over_chains(start: _Start, advance: _Advance, chains: int) -> _Compiled:
    """On a CPU one chain per device or one after the other, elsewhere all in step."""
    if jax.default_backend() != "cpu":
        starts = jax.vmap(start, in_axes=(0, None))
        advances = jax.vmap(advance, in_axes=(0, None, None))
        return _Compiled(jax.device_put, jax.jit(starts), jax.jit(advances))

    def start_each(keys: Array, whitened: Whitened) -> _State:
        return jax.lax.map(partial(start, whitened=whitened), keys)

    def advance_each(states: _State, draws: Array, whitened: Whitened) -> tuple[_State, _Record]:
        one_chain = partial(advance, draws=draws, whitened=whitened)
        carried: tuple[_State, _Record] = jax.lax.map(one_chain, states)
        return carried

    devices = jax.local_devices(backend="cpu")
    width = next((n for n in (chains, 2) if n <= len(devices) and chains % n == 0), 1)
    if width == 1:
        return _Compiled(jax.device_put, jax.jit(start_each), jax.jit(advance_each))
    mesh = Mesh(np.array(devices[:width]), ("chain",))
    spec: Any = PartitionSpec  # untyped
    split, whole = spec("chain"), spec()
    spread = partial(jax.shard_map, mesh=mesh, out_specs=split, check_vma=False)
    # The first states must lie as the later ones do, or `advance_each` is compiled twice.
    return _Compiled(
        partial(jax.device_put, device=NamedSharding(mesh, whole)),
        jax.jit(spread(start_each, in_specs=(split, whole))),
        jax.jit(spread(advance_each, in_specs=(split, whole, whole))),
    )


def rescaled(whitened: Whitened, y: NDArray[np.float64]) -> Whitened:
    """The same data, whitened by draws instead of by the mode.

    A tenth of the covariance stays what it was, so that noise shrinks no direction too far.

    Args:
        whitened: What the draws were drawn with.
        y: Draws, shape (chains, draws, n).
    """
    centre, scale = np.asarray(whitened.centre), np.asarray(whitened.scale)
    z = np.linalg.solve(scale, (y.reshape(-1, centre.size) - centre).T)
    covariance = 0.9 * np.cov(z) + 0.1 * np.eye(centre.size)
    return Whitened(
        jnp.asarray(centre + scale @ z.mean(1)),
        jnp.asarray(scale @ np.linalg.cholesky(covariance)),
        whitened.data,
    )
