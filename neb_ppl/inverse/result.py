"""What is known of x once the walk is done: mean, spread, intervals, draws."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl._checks import check_counts, check_key, check_share, least_draws
from neb_ppl.energies.base import CleanDraw, SmoothedEnergy
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.estimators import clean_draw, mean_jump
from neb_ppl.inverse.pairs import MEANS_OF_X, ON_SMOOTHED_POSTERIOR, PosteriorEnergy
from neb_ppl.sampling import SampleResult, sample
from neb_ppl.sampling.faults import check_same_model
from neb_ppl.sampling.result import check_result
from neb_ppl.types import Array, PRNGKey

if TYPE_CHECKING:
    from neb_ppl.diagnostics import Diagnosis

__all__ = ["Bracket", "PosteriorResult", "draw_many", "posterior_result"]

MAX_QUANTITIES = 64
BATCH = 16
# A chain's half is worth 1 / (R-hat^2 - 1) draws where all are of one law: 10, and 2.
SHORT, APART = 1.05, 1.2


class Bracket(NamedTuple):
    """Bounds of a convex function's posterior mean, and an estimate; see the method.

    Attributes
    ----------
    lower, estimate, upper : float
    standard_error : float
        Of the estimate, from the effective number of draws.
    """

    lower: float
    estimate: float
    upper: float
    standard_error: float


@dataclasses.dataclass(frozen=True, repr=False)
class PosteriorResult:
    """Draws of x given the data, and what follows from them.

    Attributes
    ----------
    posterior : PosteriorEnergy
    walk : SampleResult
        Of y, with ``x`` the mean jumps from every draw.
    draws : array, shape ``(chains, n, *event)``
        Stochastic jumps from evenly spread draws of y, about as many as are effective.
    kept : int array, shape ``(n,)``
        Which draws of the walk these are.
    num_clamped : int
        Draws at which the prior's covariance of x given y had negative eigenvalues, set to zero.
    lowest : float
        The lowest of these, over sigma**2; 0 or more where the energy is a true one.
    """

    posterior: PosteriorEnergy
    walk: SampleResult
    draws: np.ndarray
    kept: np.ndarray
    num_clamped: int
    lowest: float

    @property
    def mean(self) -> np.ndarray:
        """Posterior mean of x: of all mean jumps, which vary less than draws; else of the draws."""
        x = self.walk.x if self.posterior.mean_is_exact else self.draws
        return np.asarray(x).mean(axis=(0, 1), dtype=np.float64)

    @property
    def sd(self) -> np.ndarray:
        """Posterior standard deviations: of the mean jumps, plus what the draws add to them."""
        if not self.posterior.mean_is_exact:
            return np.asarray(self.draws).std(axis=(0, 1), dtype=np.float64)
        spread = np.asarray(self.walk.x).var(axis=(0, 1), dtype=np.float64)
        return np.sqrt(spread + (self._added() ** 2).mean(axis=(0, 1)))

    def covariance(self, by: str = "draws") -> np.ndarray:
        r"""Posterior covariance of x on raveled events, shape ``(d, d)``.

        Parameters
        ----------
        by : "draws" or "walk"
            ``"draws"``: of the mean jumps, plus what the draws add to them. ``"walk"``:
            :math:`Cov(Y \mid o) - \sigma^2 I`, without any Hessian, for closures whose walk is
            on the smoothed posterior (moment, isotropic, monte_carlo).
        """
        size = self.mean.size
        if by == "walk":
            if self.posterior.closure not in ON_SMOOTHED_POSTERIOR:
                raise InvalidArgumentError(
                    "by='walk' needs a walk on the smoothed posterior of x, and that of "
                    f"{self.posterior.closure!r} is on something else. Use by='draws'."
                )
            y = np.asarray(self.walk.y, np.float64).reshape(-1, size)
            return np.cov(y.T) - float(self.posterior.sigma) ** 2 * np.eye(size)
        if by != "draws":
            raise InvalidArgumentError(f"by must be 'draws' or 'walk'; got {by!r}.")
        exact = self.posterior.mean_is_exact
        jumps = np.asarray(self.walk.x if exact else self.draws, np.float64).reshape(-1, size)
        added = self._added().reshape(-1, size) * exact
        return np.cov(jumps.T).reshape(size, size) + added.T @ added / len(added)

    def interval(self, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Central intervals for each entry of x, ``(lower, upper)``, from the draws.

        Order statistics at rank ``(n + 1) p``: were the draws exact, the next one would lie inside
        with probability `level`. That needs ``(1 + level) / (1 - level)`` draws: 19 for .9.
        """
        check_share("level", level)
        flat = self.draws.reshape(-1, *self.draws.shape[2:])
        least = least_draws(level)
        if len(flat) < least:
            raise InvalidArgumentError(
                f"{len(flat)} draws cannot make intervals of level {level}: at least {least} are "
                "needed. Pass num_draws, or walk longer."
            )
        tail = (1 - level) / 2
        lower, upper = np.quantile(flat, [tail, 1 - tail], axis=0, method="weibull")
        return lower, upper

    def bracket(self, function: Callable[[Array], Array]) -> Bracket:
        r"""Bounds for ``E[f(x) | o]`` where f is convex (a norm, a square, a maximum).

        .. math:: E f(\hat x(Y)) \le E[f(X) \mid o] \le E f(Y)

        The lower bound holds where mean jumps are the means of x given y and the data (split,
        moment, isotropic), the upper where the walk is on the smoothed posterior of x (moment,
        isotropic, monte_carlo); elsewhere they are infinite. Under split it is exact, else up to
        the closure's bias. All three are means over different numbers of draws: look at the
        standard error before at an estimate outside.

        Parameters
        ----------
        function : callable
            One event to a number, in JAX.
        """
        each = jax.jit(lambda x: jax.lax.map(function, x, batch_size=BATCH))

        def values(events: Any) -> np.ndarray:
            flat = jnp.asarray(events).reshape(-1, *self.draws.shape[2:])
            return np.asarray(each(flat), np.float64).reshape(np.shape(events)[:2])

        closure, drawn = self.posterior.closure, values(self.draws)
        upper = values(self.walk.y).mean() if closure in ON_SMOOTHED_POSTERIOR else np.inf
        lower = values(self.walk.x).mean() if closure in MEANS_OF_X else -np.inf
        ess = drawn.size if drawn.shape[1] < 4 else mixing(drawn)[0].min()
        error = drawn.std() / np.sqrt(ess)
        return Bracket(float(lower), float(drawn.mean()), float(upper), float(error))

    def to_arviz(self) -> Any:
        """Draws of x and the draws of y that they come from, as ArviZ's object."""
        from neb_ppl.diagnostics import to_arviz

        info = {name: np.asarray(stat)[:, self.kept] for name, stat in self.walk.info.items()}
        y = np.asarray(self.walk.y)[:, self.kept]
        settings = self.walk.settings | {
            "closure": self.posterior.closure,
            "jump": "stochastic_jump",
            "num_samples": len(self.kept),
        }
        return to_arviz(
            dataclasses.replace(self.walk, y=y, x=self.draws, info=info, settings=settings)
        )

    def diagnose(self) -> "Diagnosis":
        """`neb_ppl.diagnostics.diagnose` of the walk: read it before any number."""
        from neb_ppl.diagnostics import diagnose

        settings = self.walk.settings | {"jump": "stochastic_jump"}  # what `draws` are made by
        return diagnose(dataclasses.replace(self.walk, settings=settings))

    def extend(
        self,
        rng_key: PRNGKey,
        num_samples: int,
        *,
        num_draws: int | None = None,
        progress_bar: bool = True,
    ) -> "PosteriorResult":
        """The same chains `num_samples` draws further, with those they have; x is drawn anew."""
        check_key(rng_key)
        key_walk, key_jump = jax.random.split(rng_key)
        more = sample(
            key_walk,
            self.posterior,
            None,
            self.walk.state,
            num_samples=num_samples,
            progress_bar=progress_bar,
        )

        def joined(old: Any, new: Any) -> np.ndarray:
            return np.concatenate([np.asarray(old), np.asarray(new)], axis=1)

        walk = dataclasses.replace(
            more,
            y=joined(self.walk.y, more.y),
            x=joined(self.walk.x, more.x),
            info={name: joined(self.walk.info[name], stat) for name, stat in more.info.items()},
            settings=more.settings | {"num_samples": self.walk.num_samples + more.num_samples},
        )
        return posterior_result(key_jump, self.posterior, walk, num_draws=num_draws)

    def __repr__(self) -> str:
        chains, count, *event = self.draws.shape
        return (
            f"PosteriorResult({self.posterior.closure}, {chains} x {count} draws of {tuple(event)})"
        )

    def __str__(self) -> str:
        ess, ratio = mixing(np.asarray(self.walk.x))
        chains, count = self.draws.shape[:2]
        lines = [
            str(self.posterior.explain()),
            f"walk     {self.walk.settings['walk']}, {self.walk.num_chains} chains x "
            f"{self.walk.num_samples} draws",
            f"mixing   largest R-hat {ratio.max():.3f}, smallest ESS {ess.min():.0f}, median "
            f"{np.median(ess):.0f}, of {len(ess)} entries",
            f"draws    {chains * count} of x",
        ]
        if self.num_clamped:
            share = self.num_clamped / (chains * count)
            lines.append(
                f"note     at {share:.0%} of draws the covariance of x given y had eigenvalues "
                f"below 0, down to {self.lowest:.2g} sigma^2, as learned energies do; they were "
                "set to 0, and draws are not exact there. check_second_moment(...) tells whether "
                "intervals can be trusted"
            )
        if not self.walk.is_complete:
            lines.append("interrupted: fewer draws than asked for")
        further = f".extend(rng_key, {self.walk.num_samples}) goes on from here"
        if np.isnan(ratio).all():
            lines.append(
                f"note     no R-hat: too few draws of each chain, or none moved. {further}"
            )
        elif ratio.max() > APART:
            lines.append(
                "PROBLEM: the chains disagree. Do not trust these draws. The posterior may have "
                "modes apart, whose weights more draws do not mend: neb_ppl.inverse.smc weighs "
                "them, where the prior has levels and the highest joins its modes. If it has one "
                f"mode, the chains are too short: {further}"
            )
        elif ratio.max() > SHORT:
            lines.append(
                f"note     an R-hat above {SHORT} may be chance, or chains that are short for how "
                f"they mix: more draws tell. {further}"
            )
        return "\n".join(lines)

    def _added(self) -> np.ndarray:
        """What the draws add to the mean jumps, shape ``(chains, n, *event)``."""
        return np.asarray(self.draws, np.float64) - np.asarray(self.walk.x)[:, self.kept]


def posterior_result(
    rng_key: PRNGKey,
    posterior: PosteriorEnergy,
    walk: SampleResult,
    *,
    num_draws: int | None = None,
) -> PosteriorResult:
    """Draws of x from a walk on a posterior.

    Parameters
    ----------
    rng_key : key
    posterior : PosteriorEnergy
    walk : SampleResult
        What `neb_ppl.sample` returned for it, with ``jump=neb_ppl.mean_jump``.
    num_draws : int, optional
        Over all chains; default the median effective sample size of x. A draw of x costs many
        gradients (`neb_ppl.jump_noise`), and draws that hang together tell little more.

    Raises
    ------
    InvalidArgumentError
        A walk on something else, or with another jump.
    """
    check_key(rng_key)
    check_result(walk)
    if not isinstance(posterior, PosteriorEnergy):
        raise InvalidArgumentError(
            f"posterior must come from neb_ppl.posterior_energy; got {type(posterior).__name__}."
        )
    if walk.state.jump is not mean_jump or walk.settings["model"] != type(posterior).__name__:
        raise InvalidArgumentError(
            "walk must be neb_ppl.sample(rng_key, posterior, ..., jump=neb_ppl.mean_jump); this "
            f"one is of a {walk.settings['model']}, with jump={walk.settings['jump']}."
        )
    check_same_model(posterior, walk.state.kernel)
    if num_draws is not None:
        check_counts(num_draws=num_draws)
    chains, length = np.shape(walk.x)[:2]
    if num_draws is None:
        ess, _ = mixing(np.asarray(walk.x))
        num_draws = int(np.nan_to_num(np.median(ess)))
    count = int(np.clip(-(-num_draws // chains), 1, length))
    kept = np.unique(np.linspace(length - 1, 0, count).round().astype(int))  # of one, the last
    y = np.asarray(walk.y)[:, kept]
    flat = jnp.asarray(y.reshape(-1, *y.shape[2:]))
    drawn = draw_many(posterior, jax.random.split(rng_key, len(flat)), flat)
    return PosteriorResult(
        posterior,
        walk,
        np.asarray(drawn.x).reshape(y.shape),
        kept,
        int((drawn.num_clamped > 0).sum()),
        float(drawn.min_eigenvalue.min()),
    )


@jax.jit
def draw_many(energy: SmoothedEnergy, keys: PRNGKey, y: Array) -> CleanDraw:
    """Stochastic jumps from many y."""
    return jax.lax.map(lambda pair: clean_draw(pair[0], energy, pair[1]), (keys, y))


def mixing(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bulk ESS (at most the number of draws) and R-hat of at most 64 entries of x."""
    from neb_ppl.diagnostics import effective_sample_size, rhat

    flat = x.reshape(*x.shape[:2], -1)
    moving = np.flatnonzero(flat.std(axis=(0, 1)) > 0)
    if x.shape[1] < 4 or not len(moving):
        return np.ones(1), np.full(1, np.nan)
    chosen = moving[np.linspace(0, len(moving) - 1, min(MAX_QUANTITIES, len(moving))).astype(int)]
    ess = effective_sample_size(flat[..., chosen])
    return np.minimum(ess, flat.shape[0] * flat.shape[1]), rhat(flat[..., chosen])
