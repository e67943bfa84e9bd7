"""Classify what is left of a noisy event after the jump, by majority, with a certificate."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from neb_ppl._checks import check_counts, check_key, check_share
from neb_ppl._pytree import value
from neb_ppl.data import check_data
from neb_ppl.energies.base import SmoothedScore, check_sigma
from neb_ppl.energies.neural import check_one_level, check_trained
from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.estimators import bayes_estimator, smooth
from neb_ppl.progress import progress
from neb_ppl.robust.certificates import ABSTAIN, Certificates, certified_radius, lower_bound
from neb_ppl.types import Array, ArrayLike, Event, Int, PRNGKey, Scalar

__all__ = ["SmoothedClassifier", "smoothed_classifier"]

BLOCK = 100


@value
class SmoothedClassifier:
    r"""The majority's vote of a classifier on jumps from noisy copies of an event.

    .. math:: g(x) = \arg\max_c P\bigl(f(\hat x(x + \sigma \xi)) = c\bigr)

    Made by `smoothed_classifier`. Without an energy it is plain randomised smoothing,
    :math:`f(x + \sigma \xi)`.

    Attributes
    ----------
    classifier : callable
        One event to class scores, shape ``(classes,)``.
    energy : SmoothedScore or None
    sigma : scalar array
    """

    classifier: Callable[[Event], Array]
    energy: SmoothedScore | None
    sigma: Scalar

    def scores(self, y: Event) -> Array:
        """Class scores of one noisy event, after the jump."""
        return self.classifier(y if self.energy is None else bayes_estimator(self.energy, y))

    def predict(
        self,
        rng_key: PRNGKey,
        x: ArrayLike,
        *,
        num_draws: int = 1_000,
        alpha: float = 0.001,
        progress_bar: bool = True,
    ) -> np.ndarray:
        """Labels; `ABSTAIN` (-1) where the two most frequent votes cannot be told apart.

        Wrong about the majority with probability at most alpha, each event for itself: two-sided
        binomial test of the two largest counts.

        Parameters
        ----------
        rng_key : key
        x : array, shape ``(n, *event)``
        num_draws : int
            Noisy copies of each event; each costs a jump and a call of the classifier.
        alpha : float
        progress_bar : bool

        References
        ----------
        Hung and Fithian (2019) for the test; Cohen, Rosenfeld and Kolter (2019).
        """
        check_share("alpha", alpha)
        counts, _ = self.votes(rng_key, x, num_draws, progress_bar=progress_bar)
        first, second = np.sort(counts, axis=1)[:, :-3:-1].T
        p = [
            stats.binomtest(int(a), int(a + b)).pvalue if a + b else 1.0
            for a, b in zip(first, second, strict=True)
        ]
        return np.where(np.array(p) <= alpha, counts.argmax(axis=1), ABSTAIN)

    def certify(
        self,
        rng_key: PRNGKey,
        x: ArrayLike,
        *,
        num_choose: int = 100,
        num_estimate: int = 10_000,
        alpha: float = 0.001,
        progress_bar: bool = True,
    ) -> Certificates:
        r"""Labels, and radii within which no change of x moves them.

        The class is chosen by `num_choose` votes; `num_estimate` others bound its probability from
        below, p, and the radius is :math:`\sigma \Phi^{-1}(p)`. Where p is at most a half it
        abstains.

        Parameters
        ----------
        rng_key : key
        x : array, shape ``(n, *event)``
        num_choose, num_estimate : int
            The largest radius that n votes can prove is :math:`\sigma \Phi^{-1}(\alpha^{1/n})`:
            3.8 sigma for 10,000 and 1 in 1,000.
        alpha : float
            Probability, over the noise, that a certificate is wrong; for each event.
        progress_bar : bool

        Returns
        -------
        Certificates

        Raises
        ------
        InvalidArgumentError, EventShapeError, NonFiniteDataError

        References
        ----------
        Cohen, Rosenfeld and Kolter (2019); Saremi and Srivastava, "Provable robust classification
        via learned smoothed densities" (2020), for the jump.
        """
        check_share("alpha", alpha)
        check_counts(num_choose=num_choose, num_estimate=num_estimate)
        key_choose, key_estimate = jax.random.split(rng_key)
        chosen, _ = self.votes(key_choose, x, num_choose, progress_bar=False)
        counts, invalid = self.votes(key_estimate, x, num_estimate, progress_bar=progress_bar)
        top = chosen.argmax(axis=1)
        votes = counts[np.arange(len(top)), top]
        probability = lower_bound(votes, num_estimate, alpha)
        proven = probability > 0.5
        sigma = float(self.sigma)
        radii = np.where(proven, certified_radius(probability, sigma), 0.0)
        labels = np.where(proven, top, ABSTAIN)
        return Certificates(labels, radii, probability, int(invalid.sum()), alpha, sigma)

    def votes(
        self, rng_key: PRNGKey, x: ArrayLike, num_draws: int, *, progress_bar: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Counts of votes, shape ``(n, classes)``, and of votes that were not finite, ``(n,)``."""
        check_key(rng_key)
        check_counts(num_draws=num_draws)
        shape = None if self.energy is None else self.energy.event_shape
        x = np.asarray(check_data(x, shape))
        _check_scores(self, x[0])
        counts, invalid = [], []
        with progress(len(x), "votes", show=progress_bar, unit="event") as bar:
            for i, event in enumerate(x):
                key = jax.random.fold_in(rng_key, i)
                found, bad = _votes(self, key, jnp.asarray(event), jnp.asarray(num_draws))
                counts.append(np.asarray(found))
                invalid.append(int(bad))
                bar.update(1)
        return np.stack(counts), np.array(invalid)


def smoothed_classifier(
    classifier: Callable[[Event], Array],
    energy: SmoothedScore | None = None,
    *,
    sigma: float | None = None,
) -> SmoothedClassifier:
    """A classifier that votes on noisy copies of an event, after the jump.

    Parameters
    ----------
    classifier : callable
        One event to class scores, shape ``(classes,)``: any JAX function, or one that
        `fit_classifier` trained.
    energy : SmoothedScore, optional
        Whose jump comes first, and whose sigma is that of the noise. Left out: no jump.
    sigma : float
        Of the noise, where there is no energy.

    Raises
    ------
    InvalidArgumentError
        Neither energy nor sigma; a sigma that differs from the energy's; an energy that was not
        trained.
    """
    if not callable(classifier):
        raise InvalidArgumentError(
            "classifier must be a function of one event to class scores; got "
            f"{type(classifier).__name__}."
        )
    if jax.tree_util.all_leaves([classifier]):
        classifier = jax.tree_util.Partial(classifier)
    if energy is None:
        if sigma is None:
            raise InvalidArgumentError(
                "give an energy, whose sigma is that of the noise, or sigma."
            )
        return SmoothedClassifier(classifier, None, check_sigma(sigma))
    check_one_level(energy, "classify with")
    check_trained(energy)
    if sigma is not None and not np.isclose(float(energy.sigma), sigma, rtol=1e-6):
        raise InvalidArgumentError(
            f"sigma is {sigma:g} and the energy's {float(energy.sigma):g}: the jump is for the "
            "energy's noise alone. Leave sigma out, or take an energy of that sigma."
        )
    return SmoothedClassifier(classifier, energy, energy.sigma)


@jax.jit
def _votes(
    smoothed: SmoothedClassifier, rng_key: PRNGKey, x: Event, num_draws: Int[Array, ""]
) -> tuple[Array, Array]:
    """Counts of the classes among the votes for one event, a block at a time."""

    def block(i: Array, carry: tuple) -> tuple:
        counts, bad = carry
        copies = jnp.broadcast_to(x, (BLOCK, *x.shape))
        noisy = smooth(jax.random.fold_in(rng_key, i), copies, smoothed.sigma)
        scores = jax.vmap(smoothed.scores)(noisy)
        wanted = i * BLOCK + jnp.arange(BLOCK) < num_draws
        finite = jnp.isfinite(scores).all(axis=1)
        each = jax.nn.one_hot(scores.argmax(axis=1), scores.shape[1], dtype=jnp.int32)
        counts = counts + jnp.sum(each * (wanted & finite)[:, None], axis=0)
        return counts, bad + jnp.sum(wanted & ~finite)

    classes = jax.eval_shape(smoothed.scores, x).shape[0]
    start = jnp.zeros(classes, jnp.int32), jnp.zeros((), jnp.int32)
    return jax.lax.fori_loop(0, -(-num_draws // BLOCK), block, start)


def _check_scores(smoothed: SmoothedClassifier, x: Event) -> None:
    """Scores must be one number for each of two classes or more."""
    out: Any = jax.eval_shape(smoothed.scores, jnp.asarray(x))
    shape = getattr(out, "shape", None)
    if shape is None or len(shape) != 1 or shape[0] < 2:
        raise EventShapeError(
            f"classifier must give scores of shape (classes,) for one event {x.shape}; got "
            f"{shape if shape is not None else type(out).__name__}. Batched classifiers: "
            "lambda x: classifier(x[None])[0]."
        )
