"""Other people's functions: right in any units, with weights as leaves, refused in words."""

import equinox
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import neb_ppl as neb

SIGMA, SHIFT, SCALE = 0.4, 3.0, 2.0
MEANS = np.array([[0.0, 0.0], [1.0, -2.0]])
ORACLE = neb.gaussian_mixture([0.7, 0.3], MEANS, np.full(2, 0.5), SIGMA)
OWN_UNITS = neb.gaussian_mixture(
    [0.7, 0.3], (MEANS - SHIFT) / SCALE, np.full(2, 0.5 / SCALE**2), SIGMA / SCALE
)
UNITS = {"shift": SHIFT, "scale": SCALE, "event_shape": (2,)}
Y = ORACLE.sample(jax.random.key(0), (6,))


@pytest.mark.parametrize(
    "model",
    [
        neb.from_energy(OWN_UNITS.__call__, SIGMA, **UNITS),
        neb.from_score(lambda u: OWN_UNITS.score(u), SIGMA, **UNITS),
        neb.from_denoiser(lambda u: neb.bayes_estimator(OWN_UNITS, u), SIGMA, **UNITS),
    ],
)
def test_a_function_in_other_units_is_the_same_density(model):
    for y in Y:
        assert jnp.allclose(model.score(y), ORACLE.score(y), atol=1e-4)
        assert jnp.allclose(neb.bayes_estimator(model, y), ORACLE.posterior_mean(y), atol=1e-4)


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Linear(2, 2, rngs=rngs)

    def __call__(self, u):
        return self.layer(u)


def nets(seed):
    """The same affine denoiser in four libraries."""
    linen = flax.linen.Dense(2)
    variables = linen.init(jax.random.key(seed), jnp.zeros(2))
    return {
        "nnx": (NnxNet(nnx.Rngs(seed)), {}),
        "equinox": (equinox.nn.Linear(2, 2, key=jax.random.key(seed)), {}),
        "linen": (linen.apply, {"params": variables}),
        "plain": (affine, {"params": (jnp.eye(2) * seed, jnp.zeros(2))}),
    }


def affine(params, u):
    return params[0] @ u + params[1]


@pytest.mark.parametrize("library", ["nnx", "equinox", "plain"])
def test_new_weights_are_leaves_and_do_not_retrace(library):
    score = jax.jit(lambda model, y: model.score(y))
    values = []
    for seed in (1, 2):
        function, settings = nets(seed)[library]
        values.append(score(neb.from_denoiser(function, SIGMA, **settings), Y[0]))
    assert score._cache_size() == 1
    assert not jnp.allclose(values[0], values[1])


def test_a_linen_module():
    apply, settings = nets(1)["linen"]
    model = neb.from_denoiser(apply, SIGMA, **settings)
    assert jnp.allclose(
        neb.bayes_estimator(model, Y[0]), apply(settings["params"], Y[0]), atol=1e-5
    )


def test_wrong_outputs_are_named():
    with pytest.raises(neb.errors.EventShapeError, match=r"from_energy returned shape \(1,\)"):
        neb.from_energy(lambda y: jnp.sum(y, keepdims=True), 0.3)(jnp.zeros(2))
    with pytest.raises(neb.errors.EventShapeError, match=r"from_score returned shape \(\)"):
        neb.from_score(jnp.sum, 0.3).score(jnp.zeros(2))
    with pytest.raises(neb.errors.InvalidArgumentError, match="takes a function"):
        neb.from_energy(3.0, 0.3)
    with pytest.raises(neb.errors.InvalidArgumentError, match="scale must be positive"):
        neb.from_energy(jnp.sum, 0.3, scale=0.0)


def test_a_bare_score_jumps_and_drifts_but_cannot_be_adjusted():
    model = neb.from_score(ORACLE.score, SIGMA, event_shape=(2,))
    for walk in (neb.ULA(), neb.KineticLangevin(), neb.KineticLangevin(scheme="ABOBA")):
        result = neb.sample(jax.random.key(0), model, walk, Y, num_samples=5, progress_bar=False)
        assert np.isfinite(result.x).all()
        assert np.isnan(result.info["lp"]).all()
    for walk in (neb.MALA(), neb.HMC(), neb.NUTS(), neb.GHMC(), neb.MCLMC()):
        with pytest.raises(neb.errors.NotAnEnergyError, match="Use ULA") as caught:
            walk(model)
        assert isinstance(caught.value, TypeError)
    with pytest.raises(TypeError, match="stochastic_jump needs an energy"):
        neb.stochastic_jump(jax.random.key(0), model, Y[0])
