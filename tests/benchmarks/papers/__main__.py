"""Figures of the papers on MNIST: compute what is missing, draw, and print the numbers.

    python -m tests.benchmarks.papers --data-dir FOLDER --out papers

goes on where an earlier run stopped. ``--figures`` picks some of them.
"""

import argparse
import importlib
from pathlib import Path

from neb_ppl.errors import NebPPLError
from tests.benchmarks.kept import Kept

FIGURES = ("spheres", "scores", "imaginary", "variational", "certified", "memory")


def main() -> None:
    """Run, draw, say where."""
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks.papers",
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data-dir", type=Path, help="MNIST's IDX files, else NEB_PPL_DATA's")
    parser.add_argument("--out", type=Path, default=Path("papers"), help="what is kept, pictures")
    parser.add_argument("--figures", nargs="+", choices=FIGURES, default=FIGURES, help="which")
    options = parser.parse_args()
    kept = Kept(options.out, options.data_dir)
    try:
        kept.mnist("test")
    except NebPPLError as error:
        parser.error(str(error))
    for name in options.figures:
        figure = importlib.import_module(f"tests.benchmarks.papers.{name}")
        picture = options.out / f"{name}.png"
        figure.draw(figure.measure(kept)).savefig(picture, dpi=110)
        print(f"Look at {picture}.", flush=True)


if __name__ == "__main__":
    main()
