"""The command's entry point, also ``python -m accelnn``."""

import gc

__all__ = ["main"]


def main() -> None:
    """Run :func:`accelnn.cli.main`."""
    # Imports make hundreds of thousands of objects that stay. Looking through them for garbage again and again, and
    # once more on the way out, takes a quarter of a short command's time.
    gc.set_threshold(1_000_000)
    try:
        from accelnn.cli import main as run

        run()
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
