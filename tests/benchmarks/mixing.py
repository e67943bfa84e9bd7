"""Mixing of every walk on a learned digits energy: classes visited, changes, distance."""

import argparse

import jax
import numpy as np

import neb_ppl as neb
from neb_ppl.demo import label_jumps
from neb_ppl.diagnostics import ClassMixing, class_mixing, diagnose
from tests.benchmarks.timing import report


def walks(sigma: float) -> dict[str, neb.Walk]:
    """Walks by the name that the table gives them."""
    kinetic = {
        f"{scheme} dt = {name}": neb.KineticLangevin(factor * sigma, scheme=scheme)
        for scheme, name, factor in (
            ("BAOAB", "sigma/2", 0.5),
            ("BAOAB", "sigma/8", 0.125),
            ("BAOAB", "sigma", 1.0),
            ("ABOBA", "sigma/2", 0.5),
            ("OBABO", "sigma/2", 0.5),
            ("cheng", "sigma/2", 0.5),
        )
    }
    return kinetic | {"ULA h = sigma^2/8": neb.ULA(), "MALA": neb.MALA(), "GHMC": neb.GHMC()}


def rows(sigma: float, steps: int) -> list[dict]:
    """One row a walk and a start: 16 chains, 600 jumps every 10 steps."""
    train, test = neb.data.digits("train"), neb.data.digits("test")
    energy = neb.deen(jax.random.key(0), (8, 8), sigma)
    energy, _ = neb.fit(jax.random.key(1), energy, train.x, num_steps=steps)
    starts = {
        "noise": neb.start_at_noise(jax.random.key(2), energy, 16),
        "data": neb.start_at_data(jax.random.key(2), energy, train.x, 16),
    }
    table = []
    for name, walk in walks(sigma).items():
        for start, position in starts.items():
            result = neb.sample(
                jax.random.key(3), energy, walk, position, num_samples=600, num_warmup=500,
                steps_per_jump=10,
            )  # fmt: skip
            labels, _ = label_jumps(train, test, result.x)
            mixing = class_mixing(labels, train.labels, num_classes=10)
            table.append({"sigma": sigma, "walk": name, "start": start} | seen(result, mixing))
    return table


def seen(result: neb.SampleResult, mixing: ClassMixing) -> dict:
    """The columns of a row."""
    rates = result.info.get("acceptance_rate")
    return {
        "chains with all ten": int((mixing.num_visited == 10).sum()),
        "changes per 1,000": round(mixing.changes_per_1000),
        "distance from data": round(mixing.total_variation, 3),
        "noise alone": round(mixing.expected_variation, 3),
        "R-hat of classes": round(float(np.nanmax(mixing.rhat)), 2),
        "lowest acceptance": "" if rates is None else round(float(rates.mean(axis=1).min()), 2),
        "diagnose": "ok" if diagnose(result).ok else "problem",
    }


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sigma", type=float, nargs="+", default=[0.3, 0.15])
    parser.add_argument("--train-steps", type=int, default=2_500)
    parser.add_argument("--json")
    options = parser.parse_args()
    report([row for s in options.sigma for row in rows(s, options.train_steps)], options.json)


if __name__ == "__main__":
    main()
