"""``python -m tiny.training.tiny_clip``: the training by itself, as ``torchrun -m`` starts it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tiny.training.tiny_clip import ROUNDS, export, parts, train


def main(arguments: Sequence[str] | None = None) -> None:
    """Train from the shell: ``python -m tiny.training.tiny_clip --minutes 80 --out runs/tiny-clip``."""
    parser = argparse.ArgumentParser(
        "python -m tiny.training.tiny_clip", description="Train the small CLIP on made images."
    )
    parser.add_argument("--out", type=Path, default=Path("runs/tiny-clip"))
    parser.add_argument(
        "--pool", type=Path, action="append", help="folder of made images; several if repeated"
    )
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="start anew, not from the checkpoint")
    parser.add_argument(
        "--sam", type=Path, default=None, help="checkpoint of a small SAM to start from"
    )
    parser.add_argument(
        "--start",
        type=Path,
        default=None,
        help="checkpoint of an earlier training, or folder of an exported model, to go on from",
    )
    parser.add_argument(
        "--round",
        type=int,
        choices=range(1, len(ROUNDS) + 1),
        help="recipe; by default 2 with --start, else 1",
    )
    parser.add_argument("--export", type=Path, default=None, help="only export to this folder")
    parser.add_argument(
        "--mix",
        action="append",
        default=[],
        metavar="CHECKPOINT=SHARE",
        help="earlier checkpoint that is mixed in on export, with its part",
    )
    given = parser.parse_args(arguments)
    if given.export is None:
        train(
            given.out, minutes=given.minutes, steps=given.steps, seed=given.seed,
            pools=given.pool or [Path("runs/pool")], resume=not given.fresh,
            threads=given.threads, sam=given.sam, start=given.start,
            recipe=ROUNDS[given.round - 1] if given.round else None,
        )  # fmt: skip
    else:
        export(given.out / "checkpoint.pt", given.export, earlier=parts(given.mix))


if __name__ == "__main__":
    main()
