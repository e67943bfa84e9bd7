"""Scores that are gradients, and scores that are not: Saremi, "On approximating grad f" (2019).

An energy's score has a symmetric Jacobian, an explicit network's has not. Measured: how far from it
they are before and after training; what is left of the features of a feed-forward network whose
Jacobian is made symmetric; and what a walk on a score that is no gradient does.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import neb_ppl as neb
from neb_ppl.diagnostics import asymmetry, circulation
from neb_ppl.energies.scale import fit_data_scale
from neb_ppl.plots._style import COLOURS, restrain
from tests.benchmarks.kept import Kept
from tests.benchmarks.papers.symmetric import (
    PENALTIES,
    blocks,
    exactly,
    penalised,
)

SEEDS = 2
KINDS = ("implicit", "convex", "explicit")
STEPS = {"digits": 1_000, "mixture": 2_000}
MIXING = (0.0, 0.01, 0.1, 1.0)
TURNS = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)
QUIET = {"progress_bar": False}


def plane() -> neb.GaussianMixtureEnergy:
    """Three unequal modes in two dimensions."""
    means = [[1.5, 0.0], [-1.0, 1.2], [-0.7, -1.2]]
    covariances = [[[0.1, 0.05], [0.05, 0.2]], [[0.3, 0.0], [0.0, 0.05]], [[0.05, 0.0], [0.0, 0.1]]]
    return neb.gaussian_mixture([0.5, 0.3, 0.2], means, covariances, 0.5)


def data(name: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Training and test events, and sigma."""
    if name == "digits":
        return neb.data.digits("train").x, neb.data.digits("test").x, 0.3
    exact = plane()
    draws = exact.sample_clean(jax.random.key(0), (12_000,))
    return np.asarray(draws[:10_000]), np.asarray(draws[10_000:]), float(exact.sigma)


def untrained(name: str, kind: str) -> Any:
    """An implicit, a convex or an explicit model, all of about one size."""
    x, _, sigma = data(name)
    key, shape, hidden = jax.random.key(1), x.shape[1:], 128 if name == "digits" else 64
    if kind == "convex":
        model = neb.convex(key, shape, sigma, hidden=hidden)
    else:
        build = neb.deen if kind == "implicit" else neb.score_network
        model = build(key, shape, sigma, network=neb.MLP(hidden=hidden, blocks=2))
    return dataclasses.replace(model, scale=fit_data_scale(x))


def trained(name: str, kind: str) -> Any:
    """The same after training."""
    x, steps = data(name)[0], STEPS[name]
    return neb.fit(jax.random.key(3), untrained(name, kind), x, num_steps=steps, **QUIET)[0]


def judged(model: Any, name: str) -> dict[str, float]:
    """Risk, asymmetry and work around loops of radius 2 sigma, at held-out data + noise."""
    key_noise, key_probe, key_loop = jax.random.split(jax.random.key(2), 3)
    x = data(name)[1]
    y = neb.smooth(key_noise, jnp.asarray(x), model.sigma)
    estimates = jax.jit(jax.vmap(lambda y: neb.bayes_estimator(model, y)))(y)
    errors = np.mean((x - np.asarray(estimates)) ** 2, axis=tuple(range(1, x.ndim)))
    ratio = asymmetry(key_probe, model, y[:256])
    work = circulation(key_loop, model, y[:256], 2 * float(model.sigma))
    return {
        "risk": float(errors.mean()),
        "risk_error": float(errors.std() / len(x) ** 0.5),
        "asymmetry": ratio.ratio,
        "asymmetry_error": ratio.standard_error,
        "work": float(np.sqrt(np.mean(work.work**2))),
    }


def turned(exact: neb.GaussianMixtureEnergy, turn: float) -> neb.SmoothedScore:
    """``s + turn R s``, R a quarter of a turn: another flow with the same stationary density.

    ``div(p R s) = div(R grad p) = 0``. Its stationary current is ``turn R s``, and entropy is
    produced at the rate ``turn^2 E |s|^2``.
    """
    quarter = jnp.array([[0.0, -1.0], [1.0, 0.0]])
    score = lambda y: exact.score(y) + turn * quarter @ exact.score(y)  # noqa: E731
    return neb.from_score(score, exact.sigma, event_shape=(2,))


def walked(model: Any, steps: int = 4_000, chains: int = 512) -> dict:
    """Entropy production in nats a time of sigma^2, and the distance of the walk's density.

    Work along the path, ``sum (s(y_k) + s(y_k+1)) / 2 . (y_k+1 - y_k)`` (Stratonovich), grows
    without end where there is a current. From it goes the fall of the energy along the path, the
    exact one where the model has none: its mean is nothing once the walk is stationary, and its
    noise most of the work's. Errors are over chains, whose first half is left out.
    """
    exact = plane()
    step = float(exact.sigma) ** 2 / 32
    start = exact.sample(jax.random.key(10), (chains,))
    result = neb.sample(
        jax.random.key(11), model, neb.ULA(step_size=step), start,
        num_samples=steps // 2, num_warmup=steps // 2, jump=None, **QUIET,
    )  # fmt: skip
    path = jnp.asarray(result.y)
    s = jax.jit(lambda y: jax.lax.map(model.score, y, batch_size=1024))(path.reshape(-1, 2))
    s = s.reshape(path.shape)
    work = jnp.sum((s[:, 1:] + s[:, :-1]) / 2 * jnp.diff(path, axis=1), axis=(1, 2))
    phi = jax.vmap(model if isinstance(model, neb.SmoothedEnergy) else exact)
    fall = phi(path[:, 0]) - phi(path[:, -1])
    rate = np.asarray(work - fall) / ((path.shape[1] - 1) * step) * float(exact.sigma) ** 2
    halves = [distance(np.asarray(half), exact) for half in jnp.split(path, 2, axis=0)]
    return {
        "entropy": float(rate.mean()),
        "entropy_error": float(rate.std() / chains**0.5),
        "distance": float(np.mean(halves)),
        "distance_error": float(np.abs(np.diff(halves))[0] / 2),
    }


def distance(draws: np.ndarray, exact: neb.GaussianMixtureEnergy, cells: int = 16) -> float:
    """Total variation between a histogram of draws and the exact probabilities of its cells."""
    fine, reach = 8, 4.0
    edges = np.linspace(-reach, reach, cells + 1)
    middles = (np.arange(cells * fine) + 0.5) * 2 * reach / (cells * fine) - reach
    grid = jnp.asarray(np.stack(np.meshgrid(middles, middles, indexing="ij"), axis=-1))
    density = np.exp(-np.asarray(jax.vmap(jax.vmap(exact))(grid)))
    exactly = density.reshape(cells, fine, cells, fine).sum(axis=(1, 3))
    seen, *_ = np.histogram2d(*draws.reshape(-1, 2).T, bins=(edges, edges))
    return float(0.5 * np.abs(seen / seen.sum() - exactly / exactly.sum()).sum())


def control(turn: float, **settings: int) -> dict:
    """A turned exact score, whose entropy production is known."""
    exact = plane()
    y = exact.sample(jax.random.key(12), (200_000,))
    force = exact.sigma**2 * jnp.mean(jnp.sum(jax.vmap(exact.score)(y) ** 2, axis=1))
    return {"turn": turn, "known": turn**2 * float(force)} | walked(turned(exact, turn), **settings)


def measure(kept: Kept) -> dict:
    """Asymmetry of each kind, features under penalties, walks."""

    def row(name: str, compute: Callable[[], dict]) -> dict:
        return kept.row("scores", name, compute)

    def model(name: str, kind: str) -> Any:
        return kept.energy(f"scores-{name}-{kind}", lambda: trained(name, kind))

    def both(name: str, kind: str) -> dict:
        title = f"{kind} on {name}"
        before = row(f"{title}, before", lambda: judged(untrained(name, kind), name))
        return {"before": before, "after": row(title, lambda: judged(model(name, kind), name))}

    def penalty(name: str, layers: int, weight: float, seed: int) -> dict:
        title = f"{layers} hidden on {name}, penalty {weight:g}, seed {seed}"
        return row(title, lambda: penalised(name, layers, weight, seed))

    return {
        "kinds": {name: {kind: both(name, kind) for kind in KINDS} for name in STEPS},
        "exact": row("exact on mixture", lambda: judged(plane(), "mixture")),
        "corners": row("exact on corners", exactly),
        "features": {
            name: [penalty(name, n, p, s) for n in (1, 2) for p in penalties for s in range(SEEDS)]
            for name, penalties in PENALTIES.items()
        },
        "blocks": [
            row(f"blocks, mixing {m:g}", lambda m=m: blocks(m) | {"mixing": m}) for m in MIXING
        ],
        "controls": [row(f"turned by {turn:g}", lambda turn=turn: control(turn)) for turn in TURNS],
        "walks": {
            kind: row(f"walk, {kind}", lambda kind=kind: walked(model("mixture", kind)))
            for kind in KINDS
        },
    }


def draw(found: dict) -> Figure:
    """Kinds above; features under penalties and currents of walks below."""
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    axes = figure.subplots(2, 3)
    for axis, (name, title) in zip(
        axes[0],
        {
            "asymmetry": "asymmetry of the Jacobian",
            "work": "work around loops of radius 2 sigma (nats)",
            "risk": "denoising risk / sigma²",
        }.items(),
        strict=True,
    ):
        draw_kinds(axis, found["kinds"], name, title)
    axes[0, 2].axhline(found["exact"]["risk"] / 0.25, color="black", lw=1, label="exact, mixture")
    axes[0, 2].set_ylim(0, 1)
    axes[0, 2].legend(fontsize=8, loc="lower right")
    draw_trade(axes[1, 0], found)
    draw_features(axes[1, 1], found)
    draw_walks(axes[1, 2], found)
    for axis in axes.flat:
        restrain(axis)
    return figure


def draw_kinds(axis: Any, kinds: dict, name: str, title: str) -> None:
    """Open marks before training, full ones after."""
    scales = {"digits": 0.3**2, "mixture": 0.5**2}
    for marker, (data, rows) in zip("os", kinds.items(), strict=True):
        for i, pair in enumerate(rows.values()):
            at = i + (0.12 if data == "mixture" else -0.12)
            for when, row in pair.items():
                height = row[name] / (scales[data] if name == "risk" else 1)
                face = COLOURS[i] if when == "after" else "white"
                axis.plot(at, height, marker, color=COLOURS[i], mfc=face, ms=8)
    axis.set_title(title, fontsize=10)
    axis.set(
        yscale="linear" if name == "risk" else "log", xticks=range(len(KINDS)), xticklabels=KINDS
    )
    axis.set_xlim(-0.5, len(KINDS) - 0.5)
    if name == "asymmetry":
        for marker, label in (("o", "digits"), ("s", "mixture")):
            axis.plot([], [], marker, color="grey", label=f"{label}, trained")
            axis.plot([], [], marker, color="grey", mfc="white", label=f"{label}, before")
        axis.legend(fontsize=8)


def draw_trade(axis: Any, found: dict) -> None:
    """What symmetry costs."""
    for count, colour in ((1, COLOURS[2]), (2, COLOURS[1])):
        for name, style in (("corners", "o-"), ("digits", "s:")):
            rows = [row for row in found["features"][name] if row["hidden layers"] == count]
            for seed in range(SEEDS):
                line = [row for row in rows if row["seed"] == seed]
                points = [[row[key] for row in line] for key in ("asymmetry", "error")]
                label = f"{count} hidden, {name}" if seed == 0 else None
                axis.loglog(*points, style, color=colour, ms=5, lw=1, label=label)
    axis.axhline(found["corners"]["affine"], color="black", lw=1, label="best affine, corners")
    axis.set(xlabel="asymmetry", ylabel="excess risk; on digits, risk")
    axis.set_title("the price of symmetry, penalties from 0 up", fontsize=10)
    axis.legend(fontsize=8)


def draw_features(axis: Any, found: dict) -> None:
    """Whether input weights become parallel, and what happens instead."""
    penalties = PENALTIES["corners"]
    ticks = range(len(penalties))

    def line(count: int, name: str) -> list[float]:
        rows = [row for row in found["features"]["corners"] if row["hidden layers"] == count]
        return [np.mean([r[name] for r in rows if r["penalty"] == p]) for p in penalties]

    axis.plot(ticks, line(2, "share"), "o-", color=COLOURS[1], label="2 layers: first feature")
    axis.plot(ticks, line(1, "share"), "o-", color=COLOURS[2], label="1 layer: first feature")
    axis.plot(
        ticks,
        line(2, "second layer"),
        "s--",
        color=COLOURS[0],
        label="2 layers: owed to the second",
    )
    size = np.array(line(2, "bend")) / found["corners"]["bend"]
    axis.plot(ticks, size, "^:", color=COLOURS[3], label="2 layers: bends / exact bends")
    axis.axhline(found["corners"]["share"], color="black", lw=1, label="exact: first feature")
    axis.set(xticks=ticks, xticklabels=[f"{p:g}" for p in penalties], ylim=(0, 1.25))
    axis.set(xlabel="penalty, corners", ylabel="share")
    axis.set_title("not parallel: the second layer goes linear", fontsize=10)
    axis.legend(fontsize=7, loc="upper left", ncols=2)


def draw_walks(axis: Any, found: dict) -> None:
    """Measured entropy production against the known, and that of the learned."""
    rows = [row for row in found["controls"] if row["turn"]]
    known, seen = ([row[name] for row in rows] for name in ("known", "entropy"))
    axis.plot(known, known, color="black", lw=1, label="known")
    errors = [row["entropy_error"] for row in rows]
    axis.errorbar(known, seen, errors, fmt="o", color=COLOURS[4], label="exact score, turned")
    for colour, (kind, row) in zip(COLOURS, found["walks"].items(), strict=False):
        error, far = row["entropy_error"], row["distance"]
        label = f"{kind}: {row['entropy']:.1e} ± {error:.0e}, density off by {far:.2f}"
        axis.axhline(max(row["entropy"], 1e-4), color=colour, lw=1.5, ls="--", label=label)
    axis.set(xscale="log", yscale="log", xlabel="known", ylabel="measured")
    axis.set_ylim(1e-4, 2e2)
    axis.set_title("entropy production of a walk (nats a sigma²)", fontsize=10)
    axis.legend(fontsize=8, loc="upper left")
