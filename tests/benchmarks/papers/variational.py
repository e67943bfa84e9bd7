"""UVB against DEEN of equal size at sigma = 1: denoising, and one long walk without a restart."""

import jax
import numpy as np
from matplotlib.figure import Figure

import neb_ppl as neb
from neb_ppl.diagnostics import class_mixing, effective_sample_size
from tests.benchmarks.kept import Kept
from tests.benchmarks.papers.learned import label

SIGMA = 1.0
STEPS = 2_000
# At UVB's rate the perceptron's energy has wells into which one jump of a thousand falls.
RATES = {"UVB": 4e-3, "DEEN": 1e-3}
NETWORKS = {
    "UVB": neb.VAE(latent=32, hidden=512, blocks=1),
    "DEEN": neb.MLP(hidden=512, blocks=1),
}
CHAINS, JUMPS, THINNING = 4, 1_000, 20


def measure(kept: Kept) -> dict[str, dict]:
    """A row for each."""
    return {name: kept.row("variational", name, lambda n=name: of(kept, n)) for name in NETWORKS}


def energy(kept: Kept, name: str) -> neb.SmoothedEnergy:
    """Trained by the denoising loss."""

    def train() -> neb.SmoothedEnergy:
        network, key = NETWORKS[name], jax.random.key(0)
        if name == "UVB":
            start = neb.uvb(key, (28, 28), SIGMA, network=network)
        else:
            start = neb.deen(key, (28, 28), SIGMA, network=network)
        settings = {"num_steps": STEPS, "learning_rate": RATES[name]}
        return neb.fit(jax.random.key(1), start, kept.mnist("train").x, **settings)[0]

    return kept.energy(f"variational-{name}", train)


def of(kept: Kept, name: str) -> dict:
    """Size, denoising error, and the classes that chains from noise visit."""
    model, test = energy(kept, name), kept.mnist("test")
    size = sum(int(np.size(leaf)) for leaf in model.weights.values())
    error = np.mean(
        [float(neb.denoising_loss(model, jax.random.key(10 + i), test.x[:1_000])) for i in range(3)]
    )
    start = neb.start_at_noise(jax.random.key(2), model, CHAINS)
    walk = neb.sample(
        jax.random.key(3), model, neb.KineticLangevin(), start, num_samples=JUMPS,
        num_warmup=500, steps_per_jump=THINNING,
    )  # fmt: skip
    labels, known = label(kept, np.asarray(walk.x)), labels_of_jumps(kept, model)
    mixing = class_mixing(labels, known, num_classes=10)
    single = class_mixing(labels[:1], known, num_classes=10)
    indicators = (labels[..., None] == np.arange(10)).astype(float)
    return {
        "weights": size,
        "error": float(error),
        "classes_of_one_chain": int(single.num_visited[0]),
        "fewest_classes": int(mixing.num_visited.min()),
        "changes_per_1000": mixing.changes_per_1000,
        "distance": mixing.total_variation,
        "noise_alone": mixing.expected_variation,
        "labels_alone": float(np.abs(shares(known) - shares(test.labels)).sum() / 2),
        "rhat": float(np.nanmax(mixing.rhat)),
        "ess": float(np.nanmin(effective_sample_size(indicators))),
        "labels": labels[0].tolist(),
        "film": np.round(np.asarray(walk.x)[0, :: JUMPS // 24][:24], 3).tolist(),
    }


def labels_of_jumps(kept: Kept, model: neb.SmoothedEnergy) -> np.ndarray:
    """Of jumps from test images + noise: blurred digits are not labelled as sharp ones are."""
    noisy = neb.smooth(jax.random.key(5), kept.mnist("test").x, SIGMA)
    jumps = jax.lax.map(lambda y: neb.bayes_estimator(model, y), noisy, batch_size=100)
    return label(kept, np.asarray(jumps))


def shares(labels: np.ndarray) -> np.ndarray:
    """Frequencies of the ten classes."""
    return np.bincount(labels, minlength=10) / len(labels)


def draw(found: dict[str, dict]) -> Figure:
    """Classes of one chain over time, and some of its jumps."""
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    axes = figure.subplots(len(found), 2, width_ratios=(1, 1.3))
    for (trace, film), (name, row) in zip(axes, found.items(), strict=True):
        trace.plot(row["labels"], ".", ms=2)
        trace.set(yticks=range(10), ylabel="class", xlabel=f"jump, every {THINNING} steps")
        trace.set_title(f"{name}: error {row['error']:.4f}, R-hat {row['rhat']:.3f}")
        images = np.array(row["film"])
        film.imshow(np.block([list(images[:12]), list(images[12:])]), cmap="gray", vmin=0, vmax=1)
        film.set(xticks=[], yticks=[], title="jumps of the same chain, evenly spaced")
    return figure
