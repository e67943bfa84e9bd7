"""Variational energies: functions of y, their parts and codes; linear ones in closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neb_ppl as neb
from neb_ppl.diagnostics import latent_report
from neb_ppl.energies.scale import fit_data_scale
from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.training import negative_elbo

KEY = jax.random.key(0)
SMALL = neb.VAE(3, hidden=16)
D, SIGMA = 6, 0.5
EIGENVALUES = np.array([4.0, 2.0, 1.0, 0.5, 0.2, 0.1])


def small():
    return neb.uvb(KEY, (D,), SIGMA, network=SMALL)


def scaled():
    """As after training, which is what tells a trained one."""
    return dataclasses.replace(small(), scale=fit_data_scale(data(9)))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def data(count, seed=0):
    """Gaussian data whose covariance has known eigenvalues, mean 0 and overall deviation known."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(D, D)))[0]
    z = rng.normal(size=(count, D))
    z -= z.mean(0)
    z = z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / count)).T  # exactly white
    return (z * np.sqrt(EIGENVALUES)) @ basis.T


def test_the_parts_are_those_of_the_formula(x64):
    """Misfit and divergence by NumPy, from the encoder's and decoder's own outputs."""
    model = neb.uvb(KEY, (4,), 0.7, network=SMALL, num_points=5)
    y = jnp.array([0.3, -1.0, 0.5, 2.0])
    mean, deviation = (np.asarray(a) for a in model.encode(y))
    misfit = np.mean(
        [
            np.sum((y - model.decode(jnp.asarray(mean + deviation * e))) ** 2) / (2 * 0.7**2)
            for e in np.asarray(model.points)
        ]
    )
    divergence = 0.5 * (mean**2 + deviation**2 - 1 - 2 * np.log(deviation))
    np.testing.assert_allclose(model.terms(y)[0], misfit, rtol=1e-12)
    np.testing.assert_allclose(model.terms(y)[1], divergence, rtol=1e-9)
    np.testing.assert_allclose(model(y), misfit + divergence.sum(), rtol=1e-12)
    shown = [np.asarray(model.decode(jnp.asarray(mean + deviation * e))) for e in model.points]
    laplace = np.mean([np.abs(y - x).sum() for x in shown]) * 2**0.5 / 0.7
    np.testing.assert_allclose(model.terms(y, "laplace")[0], laplace, rtol=1e-12)
    assert model.renewed(jax.random.key(9))(y) != model(y)


def test_fewer_points_are_another_loss(x64):
    """One point costs, on average, the loss of 16 and the variance of the jump over them."""
    model = neb.uvb(KEY, (4,), 0.7, network=SMALL, num_points=16)
    x, y = jax.random.normal(jax.random.key(1), (2, 50, 4))
    each = [dataclasses.replace(model, points=point[None]) for point in model.points]
    jumps = jnp.stack([jax.vmap(lambda y, e=e: neb.bayes_estimator(e, y))(y) for e in each])
    together = jax.vmap(lambda y: neb.bayes_estimator(model, y))(y)
    np.testing.assert_allclose(jumps.mean(0), together, rtol=1e-12, atol=1e-12)
    one, many, spread = (float(jnp.mean(a**2)) for a in (x - jumps, x - together, jumps - together))
    assert one == pytest.approx(many + spread, rel=1e-12) and spread > 0.01 * many


def test_sigma_is_another_name_for_beta(x64):
    """``s2^2 L(s2) = s1^2 L(s1, beta)`` with ``beta = s2^2 / s1^2``: to rounding."""
    x = jnp.asarray(data(50))
    one, two = (neb.uvb(KEY, (D,), sigma, network=SMALL) for sigma in (0.3, 0.8))
    left = 0.8**2 * negative_elbo(two, jax.random.key(1), x)
    right = 0.3**2 * negative_elbo(one, jax.random.key(1), x, beta=0.8**2 / 0.3**2)
    np.testing.assert_allclose(left, right, rtol=1e-13)


def test_training_at_sigma_is_training_at_beta(x64):
    """200 steps of Adam, which does not see the scale of a loss: the same weights to 1e-6."""
    x, trained = data(200), []
    for sigma, beta in ((0.8, 1.0), (0.3, 0.8**2 / 0.3**2)):
        model = neb.uvb(KEY, (D,), sigma, network=SMALL)
        model, _ = neb.fit(
            jax.random.key(2), model, x, loss=neb.ELBOLoss(beta=beta), num_steps=200,
            optimizer=optax.adam(1e-3, eps=1e-30), validation_fraction=0, progress_bar=False,
        )  # fmt: skip
        trained.append(model.weights)
    gaps = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), *trained)
    assert max(jax.tree.leaves(gaps)) < 1e-6


def test_a_linear_one_keeps_what_is_wider_than_sigma():
    """The divergence of the optimum is ``sum over eigenvalues > sigma^2 of log(l / sigma^2) / 2``.

    Within 3 %, where 6,000 steps end; entries of the others collapse, and the report says how many.
    """
    x = data(2_000)
    model = neb.uvb(KEY, (D,), SIGMA, network=neb.LinearVAE(D))
    model, _ = neb.fit(
        jax.random.key(3), model, x, loss=neb.ELBOLoss(), num_steps=6_000, batch_size=200,
        learning_rate=1e-2, progress_bar=False,
    )  # fmt: skip
    kept = EIGENVALUES[EIGENVALUES > SIGMA**2]
    report = latent_report(model, x)
    assert report.total == pytest.approx(0.5 * np.log(kept / SIGMA**2).sum(), rel=0.03)
    assert report.num_active == len(kept)
    np.testing.assert_array_equal(report.active, np.arange(D) < len(kept))
    np.testing.assert_allclose(
        np.sort(report.divergence)[::-1][: len(kept)].sum(), report.total, rtol=0.01
    )
    assert f"{len(kept)} of {D} entries are active" in str(report)


def test_a_collapsed_code_is_told():
    """At a sigma far above the data the decoder has nothing to gain from the code."""
    model = neb.uvb(KEY, (D,), 10.0, network=neb.LinearVAE(2))
    model, _ = neb.fit(
        jax.random.key(4), model, data(500), loss=neb.ELBOLoss(), num_steps=1_500,
        learning_rate=1e-2, progress_bar=False,
    )  # fmt: skip
    report = latent_report(model, data(500))
    assert report.num_active == 0 and "collapsed" in str(report)


def test_the_history_of_a_bound_is_in_nats():
    """Batches and held-out data alike: of the same law, their bounds agree within 5 %."""
    model = neb.uvb(KEY, (D,), SIGMA, network=neb.LinearVAE(2))
    model, history = neb.fit(
        jax.random.key(4), model, data(2_000), loss=neb.ELBOLoss(), num_steps=400,
        learning_rate=1e-2, progress_bar=False,
    )  # fmt: skip
    assert history.training_risk[-100:].mean() == pytest.approx(history.risk[-1], rel=0.05)
    scaled = history.training_risk * float(SIGMA / model.scale.scale) ** 2 / D
    np.testing.assert_allclose(scaled, history.loss, rtol=1e-5)
    assert f"{history.best_risk:.5g} (negative evidence bound, nats)" in repr(history)


def test_denoising_makes_it_an_energy():
    """Trained as UVB on two modes: better than the linear estimator, and a walk with jumps runs."""
    x = np.random.default_rng(0).normal(size=(4_000, 2)) * 0.1
    x[:, 0] += np.random.default_rng(1).choice([-1.0, 1.0], 4_000)
    model = neb.uvb(KEY, (2,), 0.5, network=neb.VAE(2, hidden=64))
    x, fresh = np.split(x.astype(np.float32), 2)
    model, _ = neb.fit(jax.random.key(5), model, x, num_steps=1_500, progress_bar=False)
    values = np.linalg.eigvalsh(np.cov(x.T))
    linear = np.mean(0.25 * values / (values + 0.25))
    assert neb.denoising_loss(model, jax.random.key(8), fresh) < 0.6 * linear
    assert np.isfinite(model.data_energy).all()
    start = neb.start_at_data(jax.random.key(6), model, x, 4)
    walk = neb.sample(jax.random.key(7), model, neb.MALA(), start, num_samples=50,
                      num_warmup=100, jump=neb.stochastic_jump, progress_bar=False)  # fmt: skip
    assert np.abs(np.abs(walk.x[..., 0]) - 1).mean() < 0.5


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda: neb.uvb(KEY, (2,), 0.5, network=neb.VAE), "specification"),
        (lambda: neb.uvb(KEY, (2,), 0.5, network=neb.MLP()), "neb_ppl.VAE"),
        (lambda: neb.uvb(KEY, (2,), 0.5, network=neb.VAE(0)), "latent"),
        (lambda: neb.uvb(KEY, (2,), 0.5, num_points=0), "num_points"),
        (
            lambda: neb.fit(KEY, neb.deen(KEY, (2,), 0.5), np.eye(2), loss=neb.ELBOLoss()),
            "no code",
        ),
        (
            lambda: neb.fit(
                KEY, neb.uvb(KEY, (2,), 0.5), np.eye(2), loss=neb.ELBOLoss(noise="cauchy")
            ),
            "'cauchy'",
        ),
        (lambda: neb.fit(KEY, neb.uvb(KEY, (2,), 0.5), np.eye(2), loss=neb.ELBOLoss), "SURELoss()"),
        (lambda: small().terms(jnp.zeros(D), "Gaussian"), "'Gaussian'"),
        (lambda: negative_elbo(small(), KEY, data(9), noise="cauchy"), '"gaussian" or "laplace"'),
        (lambda: latent_report(neb.deen(KEY, (2,), 0.5), np.eye(2)), "neb_ppl.uvb"),
        (lambda: latent_report(small(), data(9)), "model has not been trained"),
        (lambda: latent_report(scaled(), data(9)[:1]), "x must hold at least 2 events; got 1"),
    ],
)
def test_refused(build, words):
    with pytest.raises(InvalidArgumentError) as caught:
        build()
    assert words in str(caught.value)


@pytest.mark.parametrize("beta", [0.0, "a", None, [1.0, 2.0], np.inf])
def test_beta_is_a_positive_number(beta):
    with pytest.raises(InvalidArgumentError, match="beta must be a positive, finite number; got"):
        neb.fit(KEY, small(), data(9), loss=neb.ELBOLoss(beta=beta))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: small().encode(jnp.zeros((4, D))), r"y .*\(4, 6\).* batch with jax.vmap"),
        (lambda: small().terms(jnp.zeros((4, D))), r"y .*\(4, 6\).* batch with jax.vmap"),
        (lambda: small().encode(jnp.zeros(5)), r"y has shape \(5,\)"),
        (lambda: small().decode(jnp.zeros((4, 3))), r"z .*\(4, 3\).* \(3,\). Batch with jax.vmap"),
        (lambda: small().decode(jnp.zeros(D)), r"z has shape \(6,\)"),
        (lambda: negative_elbo(small(), KEY, data(9)[:, :4]), r"y has shape \(4,\)"),
    ],
)
def test_other_shapes_are_refused(call, words):
    with pytest.raises(EventShapeError, match=words):
        call()
