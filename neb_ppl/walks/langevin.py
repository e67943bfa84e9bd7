"""Unadjusted Langevin walks: overdamped (ULA) and kinetic. One gradient a step."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm

from neb_ppl._pytree import static, value
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.types import Bool, PRNGKey, PyTree, Scalar
from neb_ppl.walks.base import Walk, WalkTarget, noise_like, value_and_score
from neb_ppl.walks.splittings import exact_ou, keeps_score, splitting

__all__ = ["ULA", "KineticLangevin", "LangevinInfo", "LangevinState"]


class LangevinState(NamedTuple):
    """State of one unadjusted chain.

    ``momentum`` is None for ULA; ``logdensity`` and ``logdensity_grad`` are None where the scheme
    does not end on a gradient (ABOBA). A chain that left the finite numbers stays at its last
    finite position with ``diverging`` set.
    """

    position: PyTree
    momentum: PyTree
    logdensity: Scalar | None
    logdensity_grad: PyTree
    diverging: Bool


class LangevinInfo(NamedTuple):
    """Whether the chain is frozen after a step that was not finite."""

    is_divergent: Bool


@value
class ULA(Walk):
    r"""Unadjusted Langevin algorithm (Euler-Maruyama).

    .. math:: y' = y - h \nabla\phi(y) + \sqrt{2h}\, \xi

    Biased: on :math:`N(0, s^2)` its variance is :math:`s^2 / (1 - h / (2 s^2))`. Stable for
    :math:`h < 2\sigma^2` on a true smoothed density. Default
    :math:`h = \sigma^2 / 8`, as a kinetic step of sigma/2. Works on bare scores.
    """

    needs_energy: ClassVar[bool] = False
    is_adjusted: ClassVar[bool] = False
    step_size: Any = None

    def defaults(self, sigma: Scalar, size: int) -> dict[str, Any]:
        """The step whose noise has standard deviation sigma / 2."""
        return {"step_size": sigma**2 / 8}

    def algorithm(self, model: WalkTarget) -> SamplingAlgorithm:
        """BlackJAX algorithm; the state holds the gradient at its position."""
        target, h = value_and_score(model), self.step_size

        def init(position: PyTree, rng_key: PRNGKey | None = None) -> LangevinState:
            here = target(position)
            return LangevinState(position, None, *here, ~_finite(position, here[1]))

        def step(rng_key: PRNGKey, state: Any) -> tuple[LangevinState, LangevinInfo]:
            root = jnp.sqrt(2 * h)
            position = jax.tree.map(
                lambda y, score, noise: y + h * score + root * noise,
                state.position,
                state.logdensity_grad,
                noise_like(rng_key, state.position),
            )
            return _keep_finite(
                state, LangevinState(position, None, *target(position), state.diverging)
            )

        return SamplingAlgorithm(init, step)


@value
class KineticLangevin(Walk):
    r"""Kinetic (underdamped) Langevin dynamics at unit mass and temperature.

    .. math:: dy = v\,dt, \quad dv = -\nabla\phi(y)\,dt - \gamma v\,dt + \sqrt{2\gamma}\,dW

    Attributes
    ----------
    step_size : float, optional
        Time step :math:`\delta`; default sigma / 2.
    friction : float, optional
        :math:`\gamma`; velocities decay by :math:`e^{-\gamma\delta}` a step. Default 1 / sigma.
        Some codes call the exponent of one step "friction": divide theirs by the step.
    scheme : str
        Letters A (drift), B (kick), O (friction and noise), each sharing the step equally among
        its occurrences: ``"BAOAB"`` (default; position variance exact on Gaussians), ``"ABOBA"``,
        ``"OBABO"``, or any other word of the three; or ``"cheng"``, the exact solution with the
        gradient frozen over the step. ABOBA ends on a drift: a jump costs it one gradient.

    References
    ----------
    Leimkuhler and Matthews (2013); Sachs, Leimkuhler and Danos (2017); Cheng et al. (2018).
    """

    needs_energy: ClassVar[bool] = False
    is_adjusted: ClassVar[bool] = False
    step_size: Any = None
    friction: Any = None
    scheme: str = static(default="BAOAB")

    def defaults(self, sigma: Scalar, size: int) -> dict[str, Any]:
        """Half a sigma a step, velocities forgotten in the time of one sigma."""
        return {"step_size": sigma / 2, "friction": 1 / sigma}

    def validate(self) -> None:
        """Also refuse words that are not a splitting."""
        super().validate()
        letters = set(self.scheme)
        if self.scheme != "cheng" and letters != set("ABO"):
            raise InvalidArgumentError(
                "scheme must be a word that uses each of the letters A, B and O, such as "
                f"'BAOAB', 'ABOBA' or 'OBABO', or 'cheng'; got {self.scheme!r}."
            )

    def algorithm(self, model: WalkTarget) -> SamplingAlgorithm:
        """BlackJAX algorithm over the scheme's letters."""
        target = value_and_score(model)
        advance = exact_ou if self.scheme == "cheng" else splitting(self.scheme)
        keeps = self.scheme == "cheng" or keeps_score(self.scheme)

        def init(position: PyTree, rng_key: PRNGKey | None = None) -> LangevinState:
            if rng_key is None:
                raise InvalidArgumentError(
                    "KineticLangevin draws a momentum at the start: init(position, rng_key)."
                )
            momentum = noise_like(rng_key, position)
            here = target(position) if keeps else (None, None)
            return LangevinState(position, momentum, *here, ~_finite(position, here[1]))

        def step(rng_key: PRNGKey, state: Any) -> tuple[LangevinState, LangevinInfo]:
            position, momentum, here = advance(
                rng_key,
                state.position,
                state.momentum,
                (state.logdensity, state.logdensity_grad),
                target,
                self.step_size,
                self.friction,
            )
            new = LangevinState(position, momentum, here[0], here[1], state.diverging)
            return _keep_finite(state, new)

        return SamplingAlgorithm(init, step)


def _keep_finite(old: LangevinState, new: LangevinState) -> tuple[LangevinState, LangevinInfo]:
    """Freeze the chain at `old` once `new` is not finite, for good."""
    diverging = old.diverging | ~_finite(new.position, new.momentum, new.logdensity_grad)
    kept = jax.tree.map(
        lambda a, b: jnp.where(diverging, a, b), old._replace(diverging=diverging), new
    )
    return kept._replace(diverging=diverging), LangevinInfo(diverging)


def _finite(*trees: PyTree) -> Bool:
    return jnp.isfinite(sum(jnp.sum(leaf) for leaf in jax.tree.leaves(trees)))
