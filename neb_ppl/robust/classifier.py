"""Classify what is left of a noisy event after the jump, by majority, with a certificate."""

import math
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from scipy import stats

from neb_ppl._checks import check_counts, check_key, check_share
from neb_ppl._pytree import value
from neb_ppl.energies.base import SmoothedScore
from neb_ppl.errors import InvalidArgumentError, NebPPLWarning
from neb_ppl.estimators import bayes_estimator, smooth
from neb_ppl.progress import progress
from neb_ppl.robust.certificates import ABSTAIN, Certificates, certified_radius, lower_bound
from neb_ppl.robust.checks import check_call, check_classifier, check_decides, check_energy
from neb_ppl.types import Array, ArrayLike, Event, Int, PRNGKey, Scalar

__all__ = ["SmoothedClassifier", "smoothed_classifier"]

BLOCK = 100


@value
class SmoothedClassifier:
    r"""The majority's vote of a classifier on jumps from noisy copies of an event.

    .. math:: g(x) = \arg\max_c P\bigl(f(\hat x(x + \sigma \xi)) = c\bigr)

    Build it with `smoothed_classifier`. Without an energy it is plain randomised smoothing,
    :math:`f(x + \sigma \xi)`.

    Attributes
    ----------
    classifier : callable
        One event to class scores, shape ``(classes,)``.
    energy : SmoothedScore or None
    sigma : scalar array
        Of the noise; the energy's where there is one.
    """

    classifier: Callable[[Event], Array]
    energy: SmoothedScore | None
    sigma: Scalar

    def __repr__(self) -> str:
        function = getattr(self.classifier, "func", self.classifier)
        energy = None if self.energy is None else type(self.energy).__name__
        sigma = self.sigma if isinstance(self.sigma, Tracer) else f"{float(self.sigma):.4g}"
        size = sum(jnp.size(leaf) for leaf in jax.tree.leaves(self))
        return (
            f"SmoothedClassifier(classifier={type(function).__name__}, energy={energy}, "
            f"sigma={sigma}, {size:,} numbers)"
        )

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
        binomial test of the two largest counts. Votes that are not finite are counted as one more
        class, so that it abstains where they lead.

        Parameters
        ----------
        rng_key : key
        x : array, shape ``(n, *event)``
        num_draws : int
            Noisy copies of each event; each costs a jump and a call of the classifier.
        alpha : float
        progress_bar : bool

        Raises
        ------
        InvalidArgumentError, EventShapeError, NonFiniteDataError
            Among them too few draws for any to decide, and a classifier that gives no finite vote.

        Warns
        -----
        NebPPLWarning
            Votes that are not finite, with their number.
        DataRangeWarning
            x far outside the range that the energy was trained on.

        References
        ----------
        Hung and Fithian (2019) for the test; Cohen, Rosenfeld and Kolter (2019).
        """
        check_share("alpha", alpha)
        check_counts(num_draws=num_draws)
        check_decides("num_draws", num_draws, math.ceil(1 - math.log2(alpha)), alpha)
        counts, invalid = self.votes(rng_key, x, num_draws, progress_bar=progress_bar)
        if invalid.any():
            warnings.warn(
                f"{invalid.sum()} of {num_draws * len(invalid)} votes were not finite and counted "
                "as one more class: look at smoothed.scores of noisy events.",
                NebPPLWarning,
                stacklevel=2,
            )
        rivals = np.column_stack([counts, invalid])
        first, second = np.sort(rivals, axis=1)[:, :-3:-1].T
        pairs = zip(first, second, strict=True)
        p = np.array([stats.binomtest(int(a), int(a + b)).pvalue for a, b in pairs])
        top = rivals.argmax(axis=1)
        return np.where((p <= alpha) & (top < counts.shape[1]), top, ABSTAIN)

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
            3.2 sigma for 10,000 and 1 in 1,000.
        alpha : float
            Probability, over the noise, that a certificate is wrong; for each event.
        progress_bar : bool

        Returns
        -------
        Certificates

        Raises
        ------
        InvalidArgumentError, EventShapeError, NonFiniteDataError
            Among them too few votes for any to prove a majority.

        Warns
        -----
        DataRangeWarning
            x far outside the range that the energy was trained on.

        Notes
        -----
        What is proven holds for exact arithmetic: the rounding of float32 is not covered.

        References
        ----------
        Cohen, Rosenfeld and Kolter (2019); Saremi and Srivastava, "Provable robust classification
        via learned smoothed densities" (2020), for the jump.
        """
        check_key(rng_key)
        check_share("alpha", alpha)
        check_counts(num_choose=num_choose, num_estimate=num_estimate)
        check_decides("num_estimate", num_estimate, math.floor(-math.log2(alpha)) + 1, alpha)
        key_choose, key_estimate = jax.random.split(rng_key)
        counts, invalid = self.votes(key_estimate, x, num_estimate, progress_bar=progress_bar)
        chosen, _ = _tally(self, key_choose, np.asarray(x), num_choose, False)
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
        x, _ = check_call(self, x)
        counts, invalid = _tally(self, rng_key, x, num_draws, progress_bar)
        if not counts.any():
            raise InvalidArgumentError(
                f"classifier gave scores that are not finite in all {invalid.sum()} votes; "
                "expected finite numbers. Look at smoothed.scores of a noisy event."
            )
        return counts, invalid


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
        trained; no function.
    NotAnEnergyError
        An energy that is none, such as a number.
    """
    check_classifier(classifier)
    sigma_of_noise = check_energy(energy, sigma)
    if jax.tree_util.all_leaves([classifier]):
        classifier = jax.tree_util.Partial(classifier)
    return SmoothedClassifier(classifier, energy, sigma_of_noise)


def _tally(
    smoothed: SmoothedClassifier, rng_key: PRNGKey, x: np.ndarray, num_draws: int, show: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Counts as of `SmoothedClassifier.votes`, of events that were checked."""
    counts, invalid = [], []
    with progress(len(x), "votes", show=show, unit="event") as bar:
        for i, event in enumerate(x):
            key = jax.random.fold_in(rng_key, i)
            found, bad = _votes(smoothed, key, jnp.asarray(event), jnp.asarray(num_draws))
            counts.append(np.asarray(found))
            invalid.append(int(bad))
            bar.update(1)
    return np.stack(counts), np.array(invalid)


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
