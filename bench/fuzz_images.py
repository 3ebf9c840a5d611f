"""Broken image files by the thousand: `python -m bench.fuzz_images --minutes 5`.

Each file of the tables in tests/images is mutated; `tests.images.oracle` says what must hold. With atheris
(`pip install atheris`) mutations are led by coverage of the Python code: `--atheris`; without it they are random.
What fails is written to the folder of `--keep`, one file a kind of failure.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import random
import re
import resource
import sys
import time
from pathlib import Path


def seeds() -> dict[str, bytes]:
    """A valid file of each kind."""
    from tests.images import (
        test_extra_formats,
        test_formats,
        test_jpeg,
        test_odd_files,
        test_tiff,
    )

    found = {f"TIFF {row[0]}": row[1] for row in test_tiff.TABLE}
    found |= {row[0]: row[1] for row in test_formats.TABLE}
    found |= {row[0]: row[1] for row in test_odd_files.TABLE}
    found |= {f"JPEG {name}": data for name, data in test_jpeg.KINDS.items()}
    found |= {f"DICOM {row[0]}": row[1] for row in test_extra_formats.TABLE}
    found["digital negative"] = test_extra_formats.dng()
    return found


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to eight small changes: bytes, numbers at interesting values, cuts, doubled and lost parts."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if not changed:
            break
        # Headers stand at the beginning, and often at the end.
        where = rng.choice(
            (
                rng.randrange(len(changed)),
                rng.randrange(min(len(changed), 200)),
                -rng.randint(1, min(len(changed), 300)),
            )
        )
        where %= len(changed)
        action = rng.randrange(7)
        if action == 0:
            changed[where] ^= 1 << rng.randrange(8)
        elif action == 1:
            changed[where] = rng.choice((0, 1, 2, 3, 4, 8, 16, 127, 128, 255, rng.randrange(256)))
        elif action == 2:
            number = rng.choice(
                (0, 1, 2, 255, 256, 65535, 2**31 - 1, 2**32 - 1, rng.randrange(2**16))
            )
            width = rng.choice((2, 4))
            part = (number % 256**width).to_bytes(width, rng.choice(("little", "big")))
            changed[where : where + width] = part
        elif action == 3:
            del changed[where:]
        elif action == 4:
            del changed[where : where + rng.randint(1, 40)]
        elif action == 5:
            changed[where:where] = changed[where : where + rng.randint(1, 40)]
        else:
            changed[where : where + 4] = rng.randbytes(rng.randint(1, 4))
    return bytes(changed)


class Findings:
    """Failures, one kept for each kind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kinds: collections.Counter[str] = collections.Counter()

    def add(self, seed: str, data: bytes, error: Exception) -> None:
        kind = f"{seed}: {re.sub(r'[0-9.,]+', '#', str(error))[:100]}"
        self.kinds[kind] += 1
        if self.kinds[kind] == 1:
            self.folder.mkdir(parents=True, exist_ok=True)
            name = hashlib.sha256(data).hexdigest()[:12]
            (self.folder / name).write_bytes(data)
            print(f"{seed}: {error} -> {self.folder / name}", flush=True)


def by_chance(minutes: float, findings: Findings, seed: int) -> None:
    from tests.images.oracle import Wrong, check

    rng = random.Random(seed)
    files = list(seeds().items())
    tried = read = 0
    slowest = 0.0
    until = time.monotonic() + 60 * minutes
    while time.monotonic() < until:
        name, data = rng.choice(files)
        changed = mutated(data, rng)
        begun = time.perf_counter()
        try:
            read += check(changed) is not None
        except Wrong as error:
            findings.add(name, changed, error)
        slowest = max(slowest, time.perf_counter() - begun)
        tried += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"{tried:,} files in {minutes:g} min: {read:,} read, {tried - read:,} refused or wrong; "
        f"{sum(findings.kinds.values())} wrong of {len(findings.kinds)} kinds; slowest {slowest:.2f} s, peak {peak} MB"
    )


def by_coverage(minutes: float, findings: Findings) -> None:
    import atheris

    # Whatever is imported before is not watched.
    with atheris.instrument_imports(include=["zsas.images", "tifffile", "PIL"]):
        from tests.images.oracle import Wrong, check
    corpus = findings.folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for name, data in seeds().items():
        (corpus / hashlib.sha256(name.encode()).hexdigest()[:12]).write_bytes(data)

    def one(data: bytes) -> None:
        try:
            check(data)
        except Wrong as error:
            findings.add("atheris", data, error)

    # Watched code takes several times as long; `check` has its own, stricter limits.
    limits = [f"-max_total_time={int(60 * minutes)}", "-timeout=20", "-rss_limit_mb=1500"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={findings.folder}/", str(corpus)], one)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true")
    told = parser.parse_args()
    findings = Findings(told.keep)
    if told.atheris:
        by_coverage(told.minutes, findings)
    else:
        by_chance(told.minutes, findings, told.seed)
    for kind, number in findings.kinds.most_common():
        print(f"{number:6} {kind}")


if __name__ == "__main__":
    main()
