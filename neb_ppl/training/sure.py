"""Learning from smoothed data alone: Stein's unbiased estimate of the denoising risk."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl._checks import check_counts
from neb_ppl._pytree import static, value
from neb_ppl.energies.base import SmoothedScore
from neb_ppl.energies.neural import check_one_level
from neb_ppl.energies.scale import DataScale, data_scale
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.estimators import bayes_estimator
from neb_ppl.training.losses import Stateless
from neb_ppl.types import Array, Event, Float, PRNGKey, PyTree, Scalar

__all__ = ["SURELoss", "check_noise", "clean_scale", "sure_loss", "sure_risk"]

DEVIATIONS = 6


@value
class SURELoss(Stateless):
    r"""`sure_loss`, as `neb_ppl.fit` wants it: for data that are y already, and no clean ones.

    The data must be :math:`y = x + \sigma \xi` with the model's own sigma and Gaussian noise,
    independent between entries. `fit` then estimates the validation risk by `sure_loss` as well,
    gives the network the deviation of x (`clean_scale`), and adds no noise to anything.

    Attributes
    ----------
    num_probes : int
        Random directions an event for the divergence; from the event's size on it is exact.

    References
    ----------
    Stein (1981); Metzler et al., "Unsupervised learning with Stein's unbiased risk estimator"
    (2018).
    """

    learns_from_y: ClassVar[bool] = True
    num_probes: int = static(default=1)

    def init(self, rng_key: PRNGKey, model: Any, x: Array) -> None:
        """Nothing to carry."""
        check_counts(num_probes=self.num_probes)

    def __call__(
        self, rng_key: PRNGKey, model: Any, x: Array, state: PyTree
    ) -> tuple[Scalar, dict[str, Scalar]]:
        """The estimated denoising risk; x are draws of y."""
        return sure_loss(model, rng_key, x, num_probes=self.num_probes), {}

    def risk(self, model: Any, rng_key: PRNGKey, x: Array) -> Scalar:
        """The estimate again, since there is no clean x to measure it by."""
        return sure_loss(model, rng_key, x)


def sure_loss(
    model: SmoothedScore, rng_key: PRNGKey, y: Float[Array, "n *event"], *, num_probes: int = 1
) -> Scalar:
    r"""What `SURELoss` minimises: `sure_risk` with every product below 0 taken as 0.

    The products are :math:`v^T (\partial \hat x / \partial y) v`, one a probe. Of a Bayes estimator
    the derivative is :math:`Cov(X | Y = y) / \sigma^2`, so that none is below 0: in the mean this
    lies above the risk and meets it at the Bayes estimator, its minimum all the same. Without the
    floor the estimate from finitely many y has no minimum: it falls without end as the score grows
    steeper at each of them. With it, never below :math:`-\sigma^2`.

    Arguments and cost are those of `sure_risk`.
    """
    misfit, products = _terms(model, rng_key, y, num_probes)
    return _total(model, misfit, jnp.maximum(products, 0.0), y)


def sure_risk(
    model: SmoothedScore, rng_key: PRNGKey, y: Float[Array, "n *event"], *, num_probes: int = 1
) -> Scalar:
    r"""Stein's unbiased estimate of the denoising risk, per dimension, in squared data units.

    .. math:: \frac{1}{n d} \sum_i \Bigl( \lVert y_i - \hat x(y_i) \rVert^2
              + 2 \sigma^2 \nabla \cdot \hat x(y_i) \Bigr) - \sigma^2

    Its mean over y is :math:`E\lVert X - \hat x(Y) \rVert^2 / d` whatever the model, right or
    wrong, and no x is needed. With :math:`\hat x = y + \sigma^2 s` it equals

    .. math:: \sigma^2 + \frac{2 \sigma^4}{n d} \sum_i \Bigl( \tfrac12 \lVert s(y_i) \rVert^2
              + \nabla \cdot s(y_i) \Bigr),

    implicit score matching up to constants. Of few draws it may be negative.

    Parameters
    ----------
    model : SmoothedScore
        Whose sigma is that of the noise in y.
    rng_key : key
        For the probes: the divergence is the mean of :math:`v^T (\partial \hat x / \partial y) v`
        over random signs v (Hutchinson).
    y : array, shape ``(n, *event)``
    num_probes : int
        Probes an event; from d on the axes themselves, and the divergence is exact.

    Notes
    -----
    Cost: for each event one gradient of the energy, and one Hessian-vector product a probe; about
    three times that to differentiate it.

    References
    ----------
    Stein (1981); Hyvaerinen (2005); Hutchinson (1989).
    """
    return _total(model, *_terms(model, rng_key, y, num_probes), y)


def _total(model: SmoothedScore, misfit: Array, products: Array, y: Array) -> Scalar:
    divergence = jnp.mean(products) / y[0].size
    return jnp.mean(misfit) + model.sigma**2 * (2 * divergence - 1)


def _terms(
    model: SmoothedScore, rng_key: PRNGKey, y: Array, num_probes: int
) -> tuple[Float[Array, " n"], Float[Array, "n probes"]]:
    """Mean squares of y - x_hat, and v . (d x_hat / d y) v for each probe v."""

    def of_event(y: Event, probes: Array) -> tuple[Scalar, Array]:
        def along(probe: Event) -> tuple[Event, Event]:
            return jax.jvp(lambda y: bayes_estimator(model, y), (y,), (probe,))

        estimate, slopes = jax.vmap(along, out_axes=(None, 0))(probes)
        products = jnp.sum((probes * slopes).reshape(len(probes), -1), axis=1)
        return jnp.mean((y - estimate) ** 2), products

    return jax.vmap(of_event)(y, _probes(rng_key, y, num_probes))


def _probes(rng_key: PRNGKey, y: Array, num_probes: int) -> Array:
    """Directions v, shape (n, probes, *event), for which the mean of v v^T is the identity."""
    size = y[0].size
    if num_probes < size:
        return jax.random.rademacher(rng_key, (len(y), num_probes, *y.shape[1:]), y.dtype)
    axes = jnp.sqrt(jnp.asarray(size, y.dtype)) * jnp.eye(size, dtype=y.dtype)
    return jnp.broadcast_to(axes.reshape(size, *y.shape[1:]), (len(y), size, *y.shape[1:]))


def check_noise(model: Any, y: np.ndarray) -> None:
    """Refuse data that cannot be y: with less variance, in some entry, than the noise alone has.

    An entry's mean square of n draws of noise falls below ``1 - 6 sqrt(2 / n)`` of its expectation
    with a probability below 2e-8.
    """
    check_one_level(model, "train", name="model")
    sigma = float(model.sigma)
    variances = y.var(axis=0, dtype=np.float64).ravel()
    lowest = int(variances.argmin())
    if variances[lowest] < sigma**2 * (1 - DEVIATIONS * np.sqrt(2 / len(y))):
        raise InvalidArgumentError(
            f"entry {lowest} of the events of x has standard deviation "
            f"{np.sqrt(variances[lowest]):.3g}; expected at least sigma={sigma:.3g}, the noise "
            "that SURELoss takes x to hold already. If x is clean leave loss out; if not, build "
            "the model with the sigma of its noise."
        )


def clean_scale(y: np.ndarray, sigma: float) -> DataScale:
    """The scale of x, known by y alone: the variance of y, less that of the noise.

    Where that is less than its standard error, the standard error stands for it.
    """
    variance = float(y.var(dtype=np.float64)) - sigma**2
    smallest = sigma**2 * np.sqrt(2 / y.size)
    return data_scale(float(y.mean(dtype=np.float64)), float(np.sqrt(max(variance, smallest))))
