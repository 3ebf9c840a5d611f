"""``python -m tiny.training.tiny_sam``: the training by itself, without the command line of zsas."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tiny.training.tiny_sam import train


def main(arguments: Sequence[str] | None = None) -> None:
    """Train from the shell: ``python -m tiny.training.tiny_sam --minutes 90 --out runs/tiny-sam``."""
    from tiny.training.pool import Pool

    parser = argparse.ArgumentParser(
        "python -m tiny.training.tiny_sam", description="Train the small SAM on made images."
    )
    parser.add_argument("--out", type=Path, default=Path("runs/tiny-sam"))
    parser.add_argument(
        "--pool", type=Path, action="append", help="folder of made images; several if repeated"
    )
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--start",
        type=Path,
        default=None,
        help="checkpoint of an earlier training, or folder of an exported model, to go on from",
    )
    given = parser.parse_args(arguments)
    train(
        given.out,
        minutes=given.minutes,
        steps=given.steps,
        seed=given.seed,
        pools=[Pool(folder) for folder in given.pool or [Path("runs/pool")]],
        threads=given.threads,
        start=given.start,
    )


if __name__ == "__main__":
    main()
