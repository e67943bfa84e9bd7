"""G3: the bias of every Langevin scheme is the one that theory gives.

On a Gaussian each scheme is a linear recursion ``z' = M z + noise``; its stationary covariance S
solves the discrete Lyapunov equation ``S = M S M^T + Q``, built here from the letters alone. Chains
start from S itself, so that no warm-up is needed, and the empirical variance over chains and time
must lie within 5 standard errors of it, the error taken between independent chains: a false alarm
in about 6e-7 a comparison.

The position variance of BAOAB, ABOBA and OBABO does not depend on friction at all, so M and Q are
checked by themselves too: M by differences of one step (1e-12, float64, nothing random), Q and S
with positions and momenta over independent keys and chains (5 exact standard errors).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm, solve_discrete_lyapunov

import neb_ppl as neb

S2 = 0.8
CHAINS, DRAWS = 512, 400
STEPS = [0.1, 0.5, 1.0, 1.4]
SCHEMES = ["BAOAB", "ABOBA", "OBABO", "cheng", "ABO"]


def recursion(scheme: str, dt: float, friction: float) -> tuple[np.ndarray, np.ndarray]:
    """M and Q of one step on the potential y^2 / (2 S2)."""
    if scheme == "cheng":
        return _cheng(dt, friction)
    matrix, noise = np.eye(2), np.zeros((2, 2))
    for letter in scheme:
        part = dt / scheme.count(letter)
        decay = np.exp(-friction * part)
        step = {
            "A": np.array([[1, part], [0, 1]]),
            "B": np.array([[1, 0], [-part / S2, 1]]),
            "O": np.diag([1, decay]),
        }[letter]
        matrix, noise = step @ matrix, step @ noise @ step.T
        if letter == "O":
            noise[1, 1] += 1 - decay**2
    return matrix, noise


def _cheng(dt: float, friction: float) -> tuple[np.ndarray, np.ndarray]:
    """By matrix exponentials: drift over (y, v, frozen y), noise by Van Loan's block matrix."""
    drift = np.array([[0, 1, 0], [0, -friction, -1 / S2], [0, 0, 0]])
    flow = expm(drift * dt)
    matrix = np.array(
        [[flow[0, 0] + flow[0, 2], flow[0, 1]], [flow[1, 0] + flow[1, 2], flow[1, 1]]]
    )
    linear, spread = drift[:2, :2], np.diag([0, 2 * friction])
    block = np.block([[-linear, spread], [np.zeros((2, 2)), linear.T]])
    big = expm(block * dt)
    return matrix, big[2:, 2:].T @ big[:2, 2:]


def stationary(scheme: str, dt: float, friction: float) -> np.ndarray:
    return solve_discrete_lyapunov(*recursion(scheme, dt, friction))


def standard_errors_off(walk, truth: float, start: np.ndarray) -> float:
    """How many standard errors the walk's variance lies from `truth`, chains independent."""
    energy = neb.from_energy(lambda y: y[0] ** 2 / (2 * S2), 1.0, event_shape=(1,))
    result = neb.sample(
        jax.random.key(3), energy, walk, start, num_samples=DRAWS, steps_per_jump=3,
        num_warmup=150, progress_bar=False,
    )  # fmt: skip
    each = np.asarray(result.y, np.float64)[..., 0].__pow__(2).mean(axis=1)
    return float((each.mean() - truth) / (each.std() / np.sqrt(CHAINS)))


def starts(variance: float) -> np.ndarray:
    return np.sqrt(variance) * np.random.default_rng(0).normal(size=(CHAINS, 1))


@pytest.mark.parametrize("dt", STEPS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_kinetic_schemes(scheme, dt):
    if scheme == "cheng":
        dt = dt / 2  # it is unstable at 1.4
    variance = stationary(scheme, dt, 1.5)[0, 0]
    walk = neb.KineticLangevin(dt, 1.5, scheme=scheme)
    assert abs(standard_errors_off(walk, variance, starts(variance))) < 5


@pytest.mark.parametrize("h", [0.02, 0.1, 0.4, 0.8])
def test_ula(h):
    variance = S2 / (1 - h / (2 * S2))
    assert abs(standard_errors_off(neb.ULA(h), variance, starts(variance))) < 5


def test_position_variance_of_baoab_and_aboba_is_exact():
    for scheme in ("BAOAB", "ABOBA"):
        assert stationary(scheme, 1.0, 1.5)[0, 0] == pytest.approx(S2)
    assert stationary("OBABO", 1.0, 1.5)[0, 0] > 1.2 * S2


def test_step_convention_mutant_fails():
    """ULA told h as if the noise were sqrt(h): half the step, another bias."""
    variance = S2 / (1 - 0.8 / (2 * S2))
    assert abs(standard_errors_off(neb.ULA(0.4), variance, starts(variance))) > 5


def test_friction_convention_mutant_fails():
    """Velocities that decay by exp(-friction) a step, not exp(-friction dt): seen under Cheng."""
    dt, friction = 0.5, 0.4
    variance = stationary("cheng", dt, friction)[0, 0]
    wrong = neb.KineticLangevin(dt, friction / dt, scheme="cheng")
    right = neb.KineticLangevin(dt, friction, scheme="cheng")
    assert abs(standard_errors_off(right, variance, starts(variance))) < 5
    assert abs(standard_errors_off(wrong, variance, starts(variance))) > 5


def potential(y):
    return jnp.sum(y**2) / (2 * S2)


def one_step(walk):
    """A step as a function of (position, momentum) and the key, both as arrays of 2."""
    algorithm = walk(potential)

    def step(z, key):
        state = algorithm.init(z[:1], key)._replace(momentum=z[1:])
        new, _ = algorithm.step(key, state)
        return jnp.concatenate([new.position, new.momentum])

    return step


def step_matrix(walk) -> np.ndarray:
    """M of the walk's own step, which is affine in (position, momentum) at a fixed key."""
    step, key = one_step(walk), jax.random.key(0)
    return np.stack([step(e, key) - step(jnp.zeros(2), key) for e in jnp.eye(2)], axis=1)


def covariance_z(z: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """z-scores of second moments of independent centred Gaussian pairs, shape (n, 2)."""
    z = np.asarray(z, np.float64)
    variances = np.outer(truth.diagonal(), truth.diagonal()) + truth**2
    # The floor is for noise that is exactly zero, as in y after ABO.
    return (z.T @ z / len(z) - truth) / (np.sqrt(variances / len(z)) + 1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_step_is_the_recursion(scheme):
    """Kills both friction conventions and a share of the step that is wrong in any letter."""
    dt, friction = 0.5, 1.5
    matrix, noise = recursion(scheme, dt, friction)
    with jax.enable_x64(True):
        walk = neb.KineticLangevin(dt, friction, scheme=scheme)
        assert np.abs(step_matrix(walk) - matrix).max() < 1e-12
        for wrong in (friction / dt, friction / 2):
            mutant = neb.KineticLangevin(dt, wrong, scheme=scheme)
            assert np.abs(step_matrix(mutant) - matrix).max() > 1e-2
        keys = jax.random.split(jax.random.key(1), 50_000)
        z = jax.vmap(one_step(walk), (None, 0))(jnp.zeros(2), keys)
    assert np.abs(covariance_z(z, noise)).max() < 5


@pytest.mark.parametrize("scheme", SCHEMES)
def test_positions_and_momenta_together(scheme):
    dt, friction, chains = 0.7, 1.5, 20_000
    walk = neb.KineticLangevin(dt, friction, scheme=scheme)
    start = np.random.default_rng(1).normal(size=(chains, 1))
    energy = neb.from_energy(potential, 1.0, event_shape=(1,))
    state = neb.sample(
        jax.random.key(4), energy, walk, start, num_samples=1, steps_per_jump=200,
        progress_bar=False,
    ).state.kernel  # fmt: skip
    z = np.concatenate([state.position, state.momentum], axis=1)
    truth = stationary(scheme, dt, friction)
    assert np.abs(covariance_z(z, truth)).max() < 5
    assert np.abs(covariance_z(z, 1.1 * truth)).max() > 5


@pytest.mark.parametrize("a", [1e-6, 1e-4, 1e-2, 0.4, 0.6, 3.0])
def test_chengs_noise_in_float32_is_its_closed_form(a):
    """Q of a float32 step at friction * dt = a, entries scaled to unit size: 5 standard errors."""
    dt, friction = np.float32(a), np.float32(1.0)
    noise = _cheng_noise(float(dt))
    walk = neb.KineticLangevin(dt, friction, scheme="cheng")
    keys = jax.random.split(jax.random.key(5), 50_000)
    z = np.asarray(jax.vmap(one_step(walk), (None, 0))(jnp.zeros(2), keys), np.float64)
    size = np.sqrt(noise.diagonal())
    assert np.abs(covariance_z(z / size, noise / np.outer(size, size))).max() < 5


def _cheng_noise(a: float) -> np.ndarray:
    """Noise of (y, v) at unit friction, every entry by its own convergent series in float64."""
    k = np.arange(1.0, 80.0)
    terms = np.cumprod(-a / k)  # (-a)^k / k!
    m, twice = -np.expm1(-a), -np.expm1(-2 * a)
    var_y = float(np.sum((terms * (4 - 2.0**k))[2:]))
    return np.array([[var_y, m**2], [m**2, twice]])


def test_the_noise_of_chengs_step_keeps_its_digits_at_tiny_steps():
    """2(a - m) - m^2 is 2 a^3 / 3 for small a: float32 must not cancel it away."""
    from neb_ppl.walks.splittings import _drift_variance

    for a in np.geomspace(1e-4, 3, 40):
        wide = float(sum((-1) ** k * a**k * (4 - 2.0**k) / np.prod(np.arange(1.0, k + 1))
                         for k in range(3, 60)))  # fmt: skip
        assert float(_drift_variance(np.float32(a))) == pytest.approx(wide, rel=1e-5)
