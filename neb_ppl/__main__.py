"""``python -m neb_ppl`` and ``neb-ppl``: the command line, if its extra is installed."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from neb_ppl.cli import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "neb_ppl":
            raise
        sys.exit(f"neb-ppl needs {error.name}: install it with  pip install 'neb-ppl[demo]'")
    app()


if __name__ == "__main__":
    main()
