"""One contract for every energy: values, scores, transformations, errors."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from energies.zoo import NAMES, SHAPE, build

import neb_ppl as neb
from neb_ppl.energies.convex import ICNN
from neb_ppl.errors import InvalidArgumentError


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_values_scores_and_transformations(name, dtype):
    with jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext():
        energy = build(name)
        y = jax.random.normal(jax.random.key(1), (4, *SHAPE))
        assert energy(y[0]).shape == ()
        assert energy(y[0]).dtype == energy.score(y[0]).dtype == jnp.dtype(dtype)
        batch = jax.jit(jax.vmap(energy.score))(y)
        assert jnp.allclose(batch[2], energy.score(y[2]), atol=1e-5)
        assert jnp.allclose(-jax.grad(energy)(y[0]), energy.score(y[0]))
        leaves, structure = jax.tree.flatten(energy)
        assert jax.tree.unflatten(structure, leaves)(y[0]) == energy(y[0])


@pytest.mark.parametrize("name", NAMES)
def test_new_leaves_do_not_retrace(name):
    phi = jax.jit(lambda energy, y: energy(y))
    y = jnp.ones(SHAPE)
    values = [float(phi(build(name, sigma, seed), y)) for sigma, seed in ((0.4, 0), (0.5, 1))]
    assert phi._cache_size() == 1
    assert values[0] != values[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_refused_with_the_way_out(name):
    with pytest.raises(neb.errors.EventShapeError, match=r"\(5, 2, 3\).*\(2, 3\).*jax\.vmap"):
        build(name)(jnp.zeros((5, *SHAPE)))
    with pytest.raises(neb.errors.EventShapeError, match=r"\(6,\)"):
        neb.bayes_estimator(build(name), jnp.zeros(6))


@pytest.mark.parametrize("sigma", [0.0, -1.0, np.nan, np.inf, [0.1, 0.2], None])
@pytest.mark.parametrize("name", NAMES)
def test_bad_sigma_is_refused_at_construction(name, sigma):
    """Row 3: never inside jit."""
    with pytest.raises(ValueError, match="sigma must"):
        build(name, sigma)


def test_images_take_the_unet_and_differentiate_twice():
    for shape in ((16, 16), (16, 16, 3)):
        energy = neb.deen(jax.random.key(0), shape, 0.3)
        assert isinstance(energy.network, neb.UNet)
        y = jax.random.normal(jax.random.key(1), shape)
        v = jax.random.normal(jax.random.key(2), shape)
        product = jax.jvp(jax.grad(energy), (y,), (v,))[1]
        assert jnp.isfinite(product).all()
        assert float(jnp.abs(product).max()) > 0
    with pytest.raises(neb.errors.EventShapeError, match="divisible by 4"):
        neb.deen(jax.random.key(0), (18, 18), 0.3, network=neb.UNet())


@pytest.mark.parametrize("setting", [0, 1.5, (64, 64)])
@pytest.mark.parametrize(
    "spec, name",
    [
        (lambda n: neb.MLP(hidden=n), "hidden"),
        (lambda n: neb.MLP(blocks=n), "blocks"),
        (lambda n: neb.UNet(blocks=n), "blocks"),
        (lambda n: neb.UNet(widths=(32, n)), r"widths\[1\]"),
        (lambda n: neb.UNet(bottleneck=(n, 512)), r"bottleneck\[0\]"),
        (lambda n: neb.VAE(latent=n), "latent"),
        (lambda n: neb.VAE(hidden=n), "hidden"),
        (lambda n: neb.VAE(blocks=n), "blocks"),
        (lambda n: neb.LinearVAE(n), "latent"),
        (ICNN, "hidden"),
        (lambda n: ICNN(layers=n), "layers"),
    ],
)
def test_specifications_are_whole_numbers(spec, name, setting):
    with pytest.raises(InvalidArgumentError, match=f"{name} must be a whole number of at least 1"):
        spec(setting)


@pytest.mark.parametrize("network", [neb.MLP, neb.UNet])
def test_switches_are_true_or_false(network):
    with pytest.raises(InvalidArgumentError, match="conditional must be True or False; got 'no'"):
        network(conditional="no")


@pytest.mark.parametrize("pair", [64, [32, 64], (32, 64, 128), None])
def test_pairs_are_tuples_of_two(pair):
    with pytest.raises(InvalidArgumentError, match="widths must be a tuple of two numbers; got"):
        neb.UNet(widths=pair)


@pytest.mark.parametrize("network", [neb.VAE(2), neb.LinearVAE(2), ICNN(8), neb.MLP, "mlp"])
@pytest.mark.parametrize("learn", [neb.deen, neb.score_network, neb.noise_conditional])
def test_a_network_of_another_kind_is_refused_at_construction(learn, network):
    sigma = (0.1, 1.0) if learn is neb.noise_conditional else 0.5
    with pytest.raises(InvalidArgumentError, match=r"network must .*MLP\(\).*; got"):
        learn(jax.random.key(0), (1,), sigma, network=network)


@pytest.mark.parametrize("event_shape", [None, "ab", (2, None), (2.5,)])
@pytest.mark.parametrize("learn", [neb.deen, neb.score_network, neb.uvb, neb.convex])
def test_a_bad_event_shape_is_refused_at_construction(learn, event_shape):
    with pytest.raises(neb.errors.EventShapeError, match="event_shape must be positive sizes"):
        learn(jax.random.key(0), event_shape, 0.5)


def test_both_convolutions_agree():
    from neb_ppl.energies.layers import _lax_convolve, _matrix_convolve

    x = jax.random.normal(jax.random.key(0), (6, 8, 3))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 5))
    assert jnp.allclose(_matrix_convolve(x, kernel), _lax_convolve(x, kernel), atol=1e-4)


def test_a_large_kernel_density_fits_in_bounded_memory():
    """60,000 x 784 with 256 queries: the gradient's temporaries stay far below 2 GiB."""
    x = np.zeros((60_000, 784), np.float32)
    x[:, 0] = np.linspace(0, 1, len(x))
    energy = neb.kernel_density(x, 0.3)
    queries = jax.ShapeDtypeStruct((256, 784), jnp.float32)
    compiled = jax.jit(lambda e, y: jax.vmap(e.score)(y)).lower(energy, queries).compile()
    memory = compiled.memory_analysis()
    used = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    assert used < 2**31


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, 0.6], np.zeros((2, 2)), np.ones(2)), "sum to 1"),
        (([1.0], np.zeros((2, 2)), np.ones(2)), "shapes"),
        (([1.0], np.zeros((1, 2)), -np.ones(1)), "positive semi-definite"),
        (([1.0], np.zeros((1, 2)), np.array([[[1.0, 0.5], [0.0, 1.0]]])), "symmetric"),
        (([1.0], np.zeros((1, 2)), np.ones((1, 3))), "covariances must have shape"),
    ],
)
def test_bad_mixtures(arguments, message):
    with pytest.raises(ValueError, match=message):
        neb.gaussian_mixture(*arguments, 0.3)


def test_bad_kernel_densities():
    with pytest.raises(neb.errors.NonFiniteDataError, match=r"1 .*\(1, 0\)"):
        neb.kernel_density(np.array([[0.0], [np.nan]]), 0.3)
    for x in (np.zeros((0, 2)), np.zeros(3)):
        with pytest.raises(neb.errors.EventShapeError):
            neb.kernel_density(x, 0.3)
