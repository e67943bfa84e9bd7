"""The whole road on real digits: sigma, energy, walk, jumps, verdict, pictures."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl import plots
from neb_ppl._checks import check_counts
from neb_ppl.checkpoints import save_energy
from neb_ppl.data import Labelled, digits, fashion_mnist, mnist
from neb_ppl.diagnostics import ClassMixing, Diagnosis, class_mixing, diagnose
from neb_ppl.diagnostics.arviz import has_netcdf, save_netcdf
from neb_ppl.energies import NeuralEnergy, deen, kernel_density
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.estimators import bayes_estimator, smooth, smoothed_energies
from neb_ppl.geometry import suggest_sigma
from neb_ppl.sampling import SampleResult, sample
from neb_ppl.training import History, default_refinement, fit, refine
from neb_ppl.types import Array, ArrayLike
from neb_ppl.walks import KineticLangevin, Walk, start_at_noise

__all__ = ["DemoReport", "DemoSettings", "label_jumps", "linear_estimator", "run_demo"]

VERDICT = "diagnosis.txt"
MAX_NEIGHBOURS = 10_000
LABELLED = 6_000
TRAIN_STEPS = {"digits": 2_500}
IMAGE_STEPS = 3_000


@dataclasses.dataclass(frozen=True)
class DemoSettings:
    """What the demo can be told; the defaults take under a minute on two cores."""

    data: str = "digits"
    data_dir: Path | None = None
    out: Path = Path("neb-demo")
    fraction: float = 1.0
    sigma: float | None = None
    walk: Walk = dataclasses.field(default_factory=KineticLangevin)
    num_chains: int = 16
    num_samples: int = 600
    steps_per_jump: int = 10
    num_warmup: int = 500
    train_steps: int | None = None
    refine_steps: int | None = None
    seed: int = 0
    progress_bar: bool = True


@dataclasses.dataclass(frozen=True)
class DemoReport:
    """What the demo found; ``errors`` are squared errors per pixel on held-out images."""

    sigma: float
    sigma_reason: str
    errors: dict[str, float]
    mixing: ClassMixing
    accuracy: float
    diagnosis: Diagnosis
    seconds: dict[str, float]
    files: dict[str, str]


def run_demo(settings: DemoSettings, say: Callable[[str], None] = print) -> DemoReport:
    """Run every phase and write the folder ``settings.out``.

    Parameters
    ----------
    settings : DemoSettings
    say : callable
        Told the name of each phase as it begins.
    """
    clock = _Clock(say)
    check_counts(num_samples=settings.num_samples, steps_per_jump=settings.steps_per_jump)
    check_counts(num_chains=settings.num_chains)
    _claim(settings.out)
    key_net, key_fit, key_refine, key_test, key_start, key_walk = jax.random.split(
        jax.random.key(settings.seed), 6
    )
    clock.start("Reading the data and choosing sigma")
    train, test = _load(settings)
    suggestion = suggest_sigma(train.x, fraction=settings.fraction)
    sigma = suggestion.sigma if settings.sigma is None else settings.sigma
    clock.start(f"Learning the energy at sigma = {sigma:.3f}")
    steps = settings.train_steps
    if steps is None:
        steps = TRAIN_STEPS.get(settings.data, IMAGE_STEPS)
    batch_size = 128 if settings.data in TRAIN_STEPS else 32
    energy = deen(key_net, train.x.shape[1:], sigma)
    energy, history = fit(
        key_fit,
        energy,
        train.x,
        num_steps=steps,
        batch_size=batch_size,
        progress_bar=settings.progress_bar,
    )
    refine_steps = settings.refine_steps
    if refine_steps is None:
        refine_steps = default_refinement(energy.event_shape)
    if refine_steps:
        clock.start("Refining it where walks go")
        energy, _ = refine(
            key_refine,
            energy,
            train.x,
            num_steps=refine_steps,
            progress_bar=settings.progress_bar,
        )
    errors, rows = _denoise(key_test, energy, train.x, test.x[:1_000])
    clock.start(f"Walking with {settings.num_chains} chains")
    start = start_at_noise(key_start, energy, settings.num_chains)
    result = sample(
        key_walk,
        energy,
        settings.walk,
        start,
        num_samples=settings.num_samples,
        num_warmup=settings.num_warmup,
        steps_per_jump=settings.steps_per_jump,
        progress_bar=settings.progress_bar,
    )
    clock.start("Judging the mixing")
    labels, accuracy = label_jumps(train, test, result.x)
    mixing = class_mixing(labels, train.labels, num_classes=int(train.labels.max()) + 1)
    reference = np.asarray(smoothed_energies(key_test, energy, test.x[:1_000]))
    diagnosis = diagnose(result, reference)
    clock.start("Drawing and saving")
    reason = suggestion.reason if settings.sigma is None else "sigma was given"
    facts = {
        "data": settings.data,
        "errors": errors,
        "train_steps": steps,
        "refine_steps": refine_steps,
    }
    save_energy(settings.out / "energy.safetensors", energy, extra=facts, overwrite=True)
    pictures = _pictures(
        settings, rows, history, errors, result, labels, mixing, reference, train.x, suggestion
    )
    files = pictures | {"energy.safetensors": "the learned energy: neb_ppl.load_energy"}
    files |= _save_draws(settings.out / "draws.nc", result) | {VERDICT: "what is printed above"}
    seconds = clock.stop()
    report = DemoReport(sigma, reason, errors, mixing, accuracy, diagnosis, seconds, files)
    (settings.out / VERDICT).write_text(f"{diagnosis}\n\n{mixing}\n")
    return report


def _claim(folder: Path) -> None:
    """The folder is new, empty, or an older demo's; nobody else's files are replaced."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / VERDICT).exists():
        raise InvalidArgumentError(
            f"the folder {folder} holds other files: give a new one, or an older demo's."
        )
    folder.mkdir(parents=True, exist_ok=True)


def linear_estimator(x: ArrayLike, sigma: float) -> Callable[[Array], Array]:
    """The best linear estimator of data with the mean and covariance of x, for batches of y."""
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    mean, covariance = flat.mean(axis=0), np.cov(flat.T)
    gain = covariance @ np.linalg.inv(covariance + sigma**2 * np.eye(len(mean)))
    centre, matrix = jnp.asarray(mean, float), jnp.asarray(gain, float)

    def estimate(y: Array) -> Array:
        return (centre + (y.reshape(len(y), -1) - centre) @ matrix.T).reshape(y.shape)

    return estimate


def label_jumps(train: Labelled, test: Labelled, x: ArrayLike) -> tuple[np.ndarray, float]:
    """Class of every jump by a support vector machine, and its accuracy on the test images."""
    from sklearn.svm import SVC

    def flat(images: ArrayLike) -> np.ndarray:
        return np.asarray(images).reshape(-1, train.x[0].size)

    classifier = SVC(C=10.0, gamma="scale").fit(flat(train.x[:LABELLED]), train.labels[:LABELLED])
    accuracy = float(classifier.score(flat(test.x[:2_000]), test.labels[:2_000]))
    labels = classifier.predict(flat(x)).astype(int)
    return labels.reshape(np.asarray(x).shape[:2]), accuracy


class _Clock:
    """Seconds of each phase, told as it begins."""

    def __init__(self, say: Callable[[str], None]):
        self.say, self.seconds, self.name, self.since = say, {}, "", 0.0

    def start(self, name: str) -> None:
        self.stop()
        self.say(name)
        self.name, self.since = name, time.perf_counter()

    def stop(self) -> dict[str, float]:
        if self.name:
            self.seconds[self.name] = time.perf_counter() - self.since
        self.name = ""
        return self.seconds


def _load(settings: DemoSettings) -> tuple[Labelled, Labelled]:
    if settings.data == "digits":
        return digits("train"), digits("test")
    source = {"mnist": mnist, "fashion-mnist": fashion_mnist}[settings.data]
    return source("train", folder=settings.data_dir), source("test", folder=settings.data_dir)


def _denoise(
    rng_key: Any, energy: NeuralEnergy, train: np.ndarray, test: np.ndarray
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Squared errors per pixel of three estimators on the same noisy images, and some rows."""
    x, sigma = jnp.asarray(test), float(energy.sigma)
    y = smooth(rng_key, x, sigma)
    neighbours = kernel_density(train[:MAX_NEIGHBOURS], sigma)
    estimates = {
        "learned energy": _jumps(energy, y),
        "linear estimator": linear_estimator(train, sigma)(y),
        "kernel density": _jumps(neighbours, y),
    }
    errors = {name: float(jnp.mean((x - out) ** 2)) for name, out in estimates.items()}
    shown = slice(0, 16)
    rows = {"clean": x[shown], "noisy": y[shown], "jump": estimates["learned energy"][shown]}
    return errors, {name: np.asarray(row) for name, row in rows.items()}


@jax.jit
def _jumps(energy: Any, y: Array) -> Array:
    return jax.lax.map(lambda event: bayes_estimator(energy, event), y, batch_size=100)


def _pictures(
    settings: DemoSettings,
    rows: dict[str, np.ndarray],
    history: History,
    errors: dict[str, float],
    result: SampleResult,
    labels: np.ndarray,
    mixing: ClassMixing,
    reference: np.ndarray,
    x: np.ndarray,
    suggestion: Any,
) -> dict[str, str]:
    """Draw and write every picture; names with what they show."""
    sigma = result.settings["sigma"]
    baselines = {name: error for name, error in errors.items() if name != "learned energy"}
    told = f"held-out images, sigma = {sigma:.2f}: squared error {errors['learned energy']:.4f}"
    film = np.asarray(result.x)[0, :100]
    figures = {
        "rows.png": (plots.image_rows(rows, told), "held-out images: clean, noisy, jump"),
        "film.png": (plots.film_strip(film, settings.steps_per_jump), "one chain's jumps in time"),
        "energy.png": (
            plots.energy_trace(result, reference),
            "energy along the chains, against data's",
        ),
        "ranks.png": (plots.trace_and_rank(result), "traces, and ranks by chain"),
        "classes.png": (plots.class_visits(labels, mixing), "classes visited by each chain"),
        "training.png": (plots.training_curve(history, baselines), "loss and risk"),
        "spheres.png": (
            plots.sphere_overlap(x, sigma, suggestion.critical_sigma),
            "how far apart the data are, against sigma",
        ),
    }
    for name, (figure, _) in figures.items():
        figure.savefig(settings.out / name, dpi=150)
    return {name: shows for name, (_, shows) in figures.items()}


def _save_draws(path: Path, result: SampleResult) -> dict[str, str]:
    """The draws as netCDF where its library is installed; never those of an older run."""
    path.unlink(missing_ok=True)
    if not has_netcdf():
        return {"(no draws.nc)": "install h5netcdf to save the draws for ArviZ"}
    save_netcdf(path, result)
    return {"draws.nc": "the draws, for ArviZ"}
