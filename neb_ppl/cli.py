"""The command line: ``demo``, ``train``, ``walk``, ``denoise``, ``restore``, ``info``.

JAX and the library are imported inside the commands, so that ``--help`` answers at once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import numpy as np

    from neb_ppl.sampling import SampleResult
    from neb_ppl.walks import Walk

__all__ = ["app"]

app = typer.Typer(
    help="Learn the energy of a smoothed density, walk on it, jump back to clean space.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# No markup and no emoji: file names and messages hold brackets and colons of their own.
console = Console(highlight=False, markup=False, emoji=False)
errors = Console(stderr=True, highlight=False, markup=False, emoji=False)
show_tracebacks: ContextVar[bool] = ContextVar("show_tracebacks", default=False)


class Source(StrEnum):
    """Data sets that the demo knows."""

    digits = "digits"
    mnist = "mnist"
    fashion_mnist = "fashion-mnist"


class WalkName(StrEnum):
    """Walks by name."""

    baoab = "baoab"
    aboba = "aboba"
    obabo = "obabo"
    cheng = "cheng"
    ula = "ula"
    mala = "mala"
    hmc = "hmc"
    nuts = "nuts"
    ghmc = "ghmc"
    mclmc = "mclmc"


class JumpName(StrEnum):
    """Jumps by name."""

    mean = "mean"
    stochastic = "stochastic"


DataDir = Annotated[
    Path | None, typer.Option(help="Folder of the IDX files; default: NEB_PPL_DATA.")
]
Seed = Annotated[int, typer.Option(help="Seed of every random number.")]
Bar = Annotated[bool, typer.Option("--progress/--no-progress", help="Show progress bars.")]
Name = Annotated[WalkName, typer.Option(help="Which walk.")]
Step = Annotated[
    float | None, typer.Option(help="Step size; default from sigma, adapted where it can be.")
]
Scale = Annotated[float | None, typer.Option(help="Divide integer data by this, such as 255.")]
Key = Annotated[str | None, typer.Option(help="Which array of an .npz file.")]
Overwrite = Annotated[bool, typer.Option(help="Replace an existing file.")]
Refine = Annotated[
    int | None,
    typer.Option(help="Steps of refinement where walks go; default 400 on large images, else 0."),
]


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Learn the energy of a smoothed density, walk on it, jump back to clean space."""
    show_tracebacks.set(debug)


@app.command()
def demo(
    data: Annotated[Source, typer.Option(help="Which images.")] = Source.digits,
    data_dir: DataDir = None,
    out: Annotated[Path, typer.Option(help="Folder for pictures and the energy.")] = Path(
        "neb-demo"
    ),
    sigma: Annotated[float | None, typer.Option(help="Noise level; default from the data.")] = None,
    fraction: Annotated[float, typer.Option(help="sigma as a fraction of sigma_c.")] = 1.0,
    walk: Name = WalkName.baoab,
    step_size: Step = None,
    chains: Annotated[int, typer.Option(help="Number of chains.")] = 16,
    samples: Annotated[int, typer.Option(help="Jumps of each chain.")] = 600,
    steps_per_jump: Annotated[int, typer.Option(help="Walk steps between jumps.")] = 10,
    train_steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    refine_steps: Refine = None,
    seed: Seed = 0,
    progress: Bar = True,
) -> None:
    """The main job on real digits: sigma, energy, walk, jumps, verdict, pictures."""
    with _clean_errors():
        from neb_ppl.demo import DemoSettings, run_demo

        settings = DemoSettings(
            data=data.value,
            data_dir=data_dir,
            out=_folder(out),
            fraction=fraction,
            sigma=sigma,
            walk=_walk(walk, step_size),
            num_chains=chains,
            num_samples=samples,
            steps_per_jump=steps_per_jump,
            train_steps=train_steps,
            refine_steps=refine_steps,
            seed=seed,
            progress_bar=progress,
        )
        report = run_demo(settings, say=lambda phase: console.print(phase, style="bold"))
        _print_report(report, out)


@app.command()
def train(
    data: Annotated[str, typer.Argument(help="digits, mnist, fashion-mnist, FILE.npy or .npz.")],
    out: Annotated[Path, typer.Option(help="Where the energy goes.")] = Path("energy.safetensors"),
    data_dir: DataDir = None,
    scale: Scale = None,
    key: Key = None,
    sigma: Annotated[float | None, typer.Option(help="Noise level; default from the data.")] = None,
    sigma_range: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Learn a range of noise levels, as restore wants."),
    ] = None,
    fraction: Annotated[float, typer.Option(help="sigma as a fraction of sigma_c.")] = 1.0,
    steps: Annotated[int, typer.Option(help="Training steps.")] = 2_000,
    batch_size: Annotated[int, typer.Option(help="Events a step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 4e-3,
    refine_steps: Refine = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="File to save training to, and to go on from.")
    ] = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    progress: Bar = True,
) -> None:
    """Learn an energy from data and save it."""
    with _clean_errors():
        import jax

        from neb_ppl import fit, refine, save_energy
        from neb_ppl.training import default_refinement

        _check_writable(out, overwrite)
        _check_levels(sigma, sigma_range, refine_steps)
        x = _load(data, data_dir, scale, key)
        key_net, key_fit, key_refine = jax.random.split(jax.random.key(seed), 3)
        untrained = _untrained(key_net, x, sigma, sigma_range, fraction)
        if refine_steps is None:
            refine_steps = 0 if sigma_range else default_refinement(x.shape[1:])
        energy, history = fit(
            key_fit,
            untrained,
            x,
            num_steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            checkpoint=checkpoint,
            progress_bar=progress,
        )
        console.print(str(history))
        facts = {"data": data, "steps": len(history.loss), "refine_steps": refine_steps}
        if refine_steps:
            energy, history = refine(
                key_refine, energy, x, num_steps=refine_steps, progress_bar=progress
            )
            console.print(f"refined: {history}")
        facts["validation_risk"] = history.best_risk
        save_energy(out, energy, extra=facts, overwrite=overwrite)
        console.print(f"saved to {out}")


@app.command()
def walk(
    energy: Annotated[Path, typer.Argument(help="A saved energy.")],
    out: Annotated[Path, typer.Option(help="Where the draws go: .npz or .nc.")] = Path("draws.npz"),
    walk: Name = WalkName.baoab,
    step_size: Step = None,
    chains: Annotated[int, typer.Option(help="Number of chains.")] = 8,
    samples: Annotated[int, typer.Option(help="Draws of each chain.")] = 500,
    steps_per_jump: Annotated[int, typer.Option(help="Walk steps between draws.")] = 10,
    warmup: Annotated[int, typer.Option(help="Walk steps before the first draw.")] = 500,
    start: Annotated[
        str, typer.Option(help="'noise', or FILE.npy of clean data to start from.")
    ] = "noise",
    jump: Annotated[JumpName, typer.Option(help="Posterior means, or draws.")] = JumpName.mean,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    progress: Bar = True,
) -> None:
    """Walk on a saved energy, jump, judge the run, save the draws."""
    with _clean_errors():
        import jax

        import neb_ppl as neb

        if out.suffix not in (".npz", ".nc"):
            raise neb.errors.InvalidArgumentError(f"--out must end in .npz or .nc; got {out}.")
        _check_writable(out, overwrite)
        if out.suffix == ".nc":
            _check_netcdf()
        model = _one_level(neb.load_energy(energy))
        key_start, key_walk = jax.random.split(jax.random.key(seed))
        if start == "noise":
            initial = neb.start_at_noise(key_start, model, chains)
        else:
            x = neb.data.check_data(neb.data.load_array(start), model.event_shape, name="start")
            initial = neb.start_at_data(key_start, model, jax.numpy.asarray(x), chains)
        result = neb.sample(
            key_walk,
            model,
            _walk(walk, step_size),
            initial,
            num_samples=samples,
            num_warmup=warmup,
            steps_per_jump=steps_per_jump,
            jump=neb.stochastic_jump if jump is JumpName.stochastic else neb.mean_jump,
            progress_bar=progress,
        )
        _save_draws(out, result)
        console.print(str(neb.diagnostics.diagnose(result)))
        console.print(f"saved to {out}")


@app.command()
def denoise(
    energy: Annotated[Path, typer.Argument(help="A saved energy.")],
    source: Annotated[Path, typer.Argument(help="Noisy events, .npy or .npz.")],
    target: Annotated[Path, typer.Argument(help="Where the estimates go, .npy.")],
    add_noise: Annotated[bool, typer.Option(help="The input is clean: smooth it first.")] = False,
    scale: Scale = None,
    key: Key = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
) -> None:
    """Bayes estimates of clean events from noisy ones."""
    with _clean_errors():
        import jax
        import jax.numpy as jnp
        import numpy as np

        import neb_ppl as neb
        from neb_ppl.energies.scale import warn_of_units

        _check_suffix(target, ".npy", "the target")
        _check_writable(target, overwrite)
        model = _one_level(neb.load_energy(energy))
        loaded = neb.data.load_array(source, key=key)
        y = jnp.asarray(neb.data.check_data(loaded, model.event_shape, name="input", scale=scale))
        warn_of_units(model, y, name="input", noise=0.0 if add_noise else None)
        if add_noise:
            y = neb.smooth(jax.random.key(seed), y, model.sigma)
        estimate = jax.jit(
            lambda model, y: jax.lax.map(
                lambda event: neb.bayes_estimator(model, event), y, batch_size=64
            )
        )
        x = np.asarray(estimate(model, y))
        np.save(target, x)
        console.print(f"{len(x)} events at sigma = {float(model.sigma):.4g}, saved to {target}")


@app.command()
def restore(
    energy: Annotated[
        Path, typer.Argument(help="A saved energy, best of a range of noise levels.")
    ],
    source: Annotated[Path, typer.Argument(help="What was seen, .npy or .npz: one event or more.")],
    target: Annotated[Path, typer.Argument(help="Where mean, sd, intervals and draws go, .npz.")],
    noise_scale: Annotated[
        float, typer.Option(help="Standard deviation of the noise, in data units.")
    ],
    mask: Annotated[
        Path | None,
        typer.Option(help="Inpaint: FILE.npy of an event's shape, True where it was seen."),
    ] = None,
    blur: Annotated[
        float | None, typer.Option(help="Deblur: width in pixels of a periodic Gaussian blur.")
    ] = None,
    downsample: Annotated[
        int | None, typer.Option(help="Upsample: means over so many pixels were seen.")
    ] = None,
    closure: Annotated[str, typer.Option(help="As in neb_ppl.posterior_energy.")] = "auto",
    sigma: Annotated[
        float | None, typer.Option(help="Which level of a range; default the best.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Draws of each clean event, at least.")] = 256,
    chains: Annotated[int, typer.Option(help="Number of chains.")] = 16,
    samples: Annotated[int, typer.Option(help="Walk draws of each chain.")] = 128,
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.9,
    scale: Scale = None,
    key: Key = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the first events, .png.")] = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    progress: Bar = True,
) -> None:
    """Inpaint, deblur, upsample or denoise: draws of clean events, with intervals."""
    with _clean_errors():
        import numpy as np

        from neb_ppl import load_energy
        from neb_ppl.data import load_array
        from neb_ppl.restore import RestoreSettings, check_images, restore_events, restored_picture

        _check_suffix(target, ".npz", "the target")
        _check_writable(target, overwrite)
        model = load_energy(energy)
        if picture is not None:
            _check_suffix(picture, ".png", "--picture")
            _check_writable(picture, overwrite)
            check_images(model.event_shape)
        settings = RestoreSettings(
            noise_scale=noise_scale,
            keep=None if mask is None else load_array(mask),
            blur=blur,
            downsample=downsample,
            closure=closure,
            sigma=sigma,
            num_draws=draws,
            num_chains=chains,
            num_samples=samples,
            level=level,
            seed=seed,
            progress_bar=progress,
        )
        seen = load_array(source, key=key)
        restored = restore_events(model, seen, settings, scale=scale, say=_say)
        np.savez(target, **restored._asdict())  # pyright: ignore[reportArgumentType]
        if picture is not None:
            restored_picture(seen, restored, settings).savefig(picture, dpi=150)
        count, each = restored.draws.shape[:2]
        console.print(f"{count} events, {each} draws of each, saved to {target}")


@app.command()
def info(energy: Annotated[Path, typer.Argument(help="A saved energy.")]) -> None:
    """What a saved energy is, once its file has been verified."""
    with _clean_errors():
        import math

        from neb_ppl import describe_energy

        manifest = describe_energy(energy)
        shapes = [entry["shape"] for name, entry in manifest["arrays"].items() if "weights" in name]
        fields = ", ".join(f"{k}={v}" for k, v in manifest["architecture"]["fields"].items())
        table = _table("file", energy.name)
        table.add_row("verified", "every array matches its SHA-256")
        table.add_row("kind", manifest["kind"])
        table.add_row("event shape", str(tuple(manifest["event_shape"])))
        table.add_row("sigma", f"{manifest['sigma']} (data units)")
        table.add_row("network", f"{manifest['architecture']['name']}({fields})")
        table.add_row("weights", f"{sum(math.prod(shape) for shape in shapes):,}")
        table.add_row("data range", f"{manifest['scale']['low']} to {manifest['scale']['high']}")
        table.add_row("versions", ", ".join(f"{k} {v}" for k, v in manifest["versions"].items()))
        for name, fact in manifest["extra"].items():
            table.add_row(name, str(fact))
        console.print(table)


@contextmanager
def _clean_errors() -> Iterator[None]:
    """The library's own errors as one line and exit code 2; warnings as one line each."""
    import warnings

    from neb_ppl.errors import NebPPLError, NebPPLWarning

    def show(message: Any, category: type, *rest: Any, **options: Any) -> None:
        if issubclass(category, NebPPLWarning):
            errors.print(f"warning: {message}", style="yellow", soft_wrap=True)
        else:
            shown_by_python(message, category, *rest, **options)

    with warnings.catch_warnings():
        warnings.simplefilter("always", NebPPLWarning)
        shown_by_python, warnings.showwarning = warnings.showwarning, show
        try:
            yield
        except NebPPLError as error:
            if show_tracebacks.get():
                raise
            errors.print(f"error: {error}", style="red", soft_wrap=True)
            raise typer.Exit(2) from None


def _walk(name: WalkName, step_size: float | None) -> "Walk":
    import neb_ppl as neb

    kinds: dict[WalkName, Callable[..., Walk]] = {
        WalkName.ula: neb.ULA,
        WalkName.mala: neb.MALA,
        WalkName.hmc: neb.HMC,
        WalkName.nuts: neb.NUTS,
        WalkName.ghmc: neb.GHMC,
        WalkName.mclmc: neb.MCLMC,
    }
    if name in kinds:
        return kinds[name](step_size=step_size)
    scheme = "cheng" if name is WalkName.cheng else name.value.upper()
    return neb.KineticLangevin(step_size=step_size, scheme=scheme)


def _load(data: str, data_dir: Path | None, scale: float | None, key: str | None) -> "np.ndarray":
    import numpy as np

    from neb_ppl import data as sources

    if data == Source.digits:
        return sources.digits("train").x
    if data in (Source.mnist, Source.fashion_mnist):
        reader = {Source.mnist: sources.mnist, Source.fashion_mnist: sources.fashion_mnist}
        return reader[Source(data)]("train", folder=data_dir).x
    loaded = sources.load_array(data, key=key)
    return np.asarray(sources.check_data(loaded, scale=scale, name=data))


def _say(text: str) -> None:
    console.print(text, soft_wrap=True)


def _check_levels(sigma: Any, sigma_range: Any, refine_steps: int | None) -> None:
    from neb_ppl.errors import InvalidArgumentError

    if sigma_range and sigma is not None:
        raise InvalidArgumentError(
            f"give --sigma or --sigma-range, not both; got {sigma} and {sigma_range}."
        )
    if sigma_range and refine_steps:
        raise InvalidArgumentError(
            f"--refine-steps is for one noise level; got {refine_steps} with --sigma-range."
        )


def _untrained(
    rng_key: Any,
    x: "np.ndarray",
    sigma: float | None,
    sigma_range: tuple[float, float] | None,
    fraction: float,
) -> Any:
    """One noise level, given or suggested, or a range."""
    from neb_ppl import deen, noise_conditional, suggest_sigma

    if sigma_range:
        return noise_conditional(rng_key, x.shape[1:], sigma_range)
    if sigma is None:
        suggestion = suggest_sigma(x, fraction=fraction)
        sigma = suggestion.sigma
        console.print(suggestion.reason)
    return deen(rng_key, x.shape[1:], sigma)


def _one_level(model: Any) -> Any:
    from neb_ppl import NoiseConditionalEnergy
    from neb_ppl.errors import InvalidArgumentError

    if isinstance(model, NoiseConditionalEnergy):
        raise InvalidArgumentError(
            "this energy holds a range of noise levels: take one with .at(sigma) and save it."
        )
    return model


def _check_suffix(path: Path, suffix: str, name: str) -> None:
    from neb_ppl.errors import InvalidArgumentError

    if path.suffix != suffix:
        raise InvalidArgumentError(f"{name} must end in {suffix}; got {path}.")


def _check_writable(path: Path, overwrite: bool) -> None:
    """Notice before the work starts, not after it."""
    import os

    from neb_ppl.errors import CheckpointWriteError

    folder = path.parent
    if path.exists() and not overwrite:
        raise CheckpointWriteError(f"{path} exists already. Pass --overwrite to replace it.")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise CheckpointWriteError(f"cannot write to the folder {folder}.")


def _check_netcdf() -> None:
    """Before the walk: a missing engine would be found when its draws are to be saved."""
    from neb_ppl.diagnostics.arviz import has_netcdf
    from neb_ppl.errors import InvalidArgumentError

    if not has_netcdf():
        raise InvalidArgumentError(
            "--out with .nc needs h5netcdf: pip install h5netcdf, or write .npz."
        )


def _folder(path: Path) -> Path:
    from neb_ppl.errors import CheckpointWriteError

    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointWriteError(f"cannot make the folder {path}: {error.strerror}.") from error
    _check_writable(path / "file", overwrite=True)
    return path


def _save_draws(path: Path, result: "SampleResult") -> None:
    import numpy as np

    if path.suffix == ".npz":
        np.savez(path, **{"y": result.y, "x": result.x} | result.info)  # pyright: ignore
        return
    from neb_ppl.diagnostics.arviz import save_netcdf

    save_netcdf(path, result)


def _table(*heading: str) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2))
    table.add_row(*heading)
    return table


def _print_report(report: Any, out: Path) -> None:
    table = _table("sigma", f"{report.sigma:.4f}: {report.sigma_reason}")
    for name, error in report.errors.items():
        table.add_row(f"error, {name}", f"{error:.4f} per pixel, squared, held-out images")
    table.add_row("mixing", str(report.mixing))
    table.add_row("", f"(labelled by a classifier that is right on {report.accuracy:.1%})")
    table.add_row("verdict", str(report.diagnosis))
    seconds = sum(report.seconds.values())
    table.add_row("time", f"{seconds:.0f} s: " + "; ".join(_phases(report.seconds)))
    console.print()
    console.print(table)
    console.print(f"\nLook in {out}:", style="bold")
    for name, shows in report.files.items():
        console.print(f"  {name:<20} {shows}")


def _phases(seconds: dict[str, float]) -> list[str]:
    return [f"{name.split()[0].lower()} {spent:.0f} s" for name, spent in seconds.items()]
