"""A visitor's many images: a row for each, what was found kept small, and everything in one ZIP or one report."""

from __future__ import annotations

import json
import os
import pickle
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from zsas import draw
from zsas.annotations import Annotations
from zsas.bulk import unique_names, walk
from zsas.bulk.sheet import Line
from zsas.cancellation import raise_if_cancelled
from zsas.errors import ZsasError
from zsas.export import json_bytes, save
from zsas.images import ReadImage, read_image
from zsas.limits import Judged, propose
from zsas.report import LARGE, Entry, report_html
from zsas.result import Result
from zsas.review import reviewed
from zsas.settings import Settings, all_settings
from zsas.ui import batch, drawing, export, views
from zsas.ui.engine import Engine
from zsas.ui.good import GoodPlace, good_places, named
from zsas.ui.visitor import Corrections, View

Decided = tuple[Result, Mapping[int, GoodPlace]]
"""A result, and for its findings the most similar places of the good parts."""
MOST_ROWS = 5000
THUMB_SIDE, OVERLAY_SIDE = 160, 480


@dataclass
class Row:
    """One image of the lot.

    Attributes:
        name: As the visitor gave it, with its folders.
        path: Where the file lies, None where it could not be unpacked.
        error: Why there is no result, "" where there is one or is still to be.
        saved_as: What the names of its output files begin with, with its folders.
        result: Without pixels, None where there is none.
        seconds: What it took.
        settings: Of its own closer look; None where those of the lot hold.
        closer: Setting, value and number of tiles of a closer look that would show more; None where nothing would.
        level: Another marking level that would show more, and why; None where the present one is right.
    """

    name: str
    path: Path | None
    error: str = ""
    saved_as: str = ""
    result: Result | None = None
    seconds: float = 0.0
    settings: Settings | None = None
    closer: tuple[str, str, int] | None = None
    level: tuple[float, str] | None = None


@dataclass
class Many:
    """The lot of one visitor.

    Attributes:
        preset: Models of the run.
        settings: Of the run; only the limit may be another one later.
        folder: For everything that is kept on disk.
        rows: All files, in the order in which they came.
        done: How many of them are finished.
        running: Whether the run goes on.
        stopped: Whether the visitor stopped it.
        parts: Keys and names of the good parts that all are compared with.
        mutual: Whether the images are compared with each other first.
        neighbours: What that gave, once it has been done.
        compared: How many images have been read for it.
        beside: Region, scale and profile of the part that they show, a `Part`; None for nothing.
        views: What the visitor said about single rows.
        looking: Rows that are being looked at closer.
        written: Rows whose files hold a person's corrections.
        key: Of this look, in the addresses of its small pictures, which browsers keep.
    """

    preset: str
    settings: Settings
    folder: Path
    rows: list[Row]
    done: int = 0
    running: bool = True
    stopped: bool = False
    parts: tuple[tuple[str, str], ...] = ()
    mutual: bool = False
    neighbours: Any = None
    compared: int = 0
    beside: Any = None
    began: float = field(default_factory=time.monotonic)
    views: dict[int, View] = field(default_factory=dict)
    looking: set[int] = field(default_factory=set)
    written: set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    key: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def region(self) -> Any:
        """Where to look on all of them; None for everywhere."""
        return self.beside.region if self.beside is not None else None

    @classmethod
    def of(cls, files: Sequence[tuple[str, Path]], preset: str, settings: Settings) -> Many:
        """The lot of some uploads, ZIPs unpacked.

        Args:
            files: Names as the visitor gave them, and where the uploads lie.
            preset: Models.
            settings: Of the run.

        Raises:
            ZsasError: If there is nothing at all, or too much.
        """
        folder = export.new_folder()
        unpacked = folder / "unpacked"
        unpacked.mkdir()
        try:
            found = batch.unpack(files, unpacked, MOST_ROWS)
        except ZsasError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        stems = unique_names([_plain(name) for name, _, _ in found])
        rows = [
            Row(name, path, trouble, stem)
            for (name, path, trouble), stem in zip(found, stems, strict=True)
        ]
        return cls(preset, settings, folder, rows)

    def again(self, preset: str, settings: Settings) -> Many:
        """The same images, still to be examined with other models and settings; what a person said of them stays.

        Raises:
            ZsasError: If they are not kept any more.
        """
        self.check_kept()
        with self.lock:
            shutil.rmtree(self.folder / "results", ignore_errors=True)
        rows = [Row(r.name, r.path, "" if r.path else r.error, r.saved_as) for r in self.rows]
        return Many(preset, settings, self.folder, rows, mutual=self.mutual, views=self.views)

    def run(self, engine: Engine, draw: Any) -> Iterator[int]:
        """Decide on each image in turn, each with its own place in the line; yields the number of each that is done.

        Where they are compared with each other first, it yields −1 for each that was read for that.

        Args:
            engine: Encodes.
            draw: What the page shows of a result, from (number, result, places of its findings on good parts).
        """
        memory = self.memory(engine)

        def decide(images: list[ReadImage]) -> list[Decided]:
            return [self._decide(engine, image, self.settings, memory) for image in images]

        if self.mutual:
            yield from self._compare(engine)
        began = time.monotonic()
        for (number, row), answer in walk(enumerate(self.rows), _read, decide):
            try:
                if isinstance(answer, str):
                    raise ZsasError(answer.replace("The image could", "It could", 1))
                self._keep(number, answer, draw)
            except ZsasError as error:
                row.error = str(error)
            row.seconds, began = time.monotonic() - began, time.monotonic()
            self.done = number + 1
            os.utime(self.folder)  # else a lot that takes more than an hour would look forgotten
            yield number

    def memory(self, engine: Engine) -> Any:
        """What the good parts look like, None without any."""
        if not self.parts:
            return None
        given = (self.preset, tuple(key for key, _ in self.parts), self.settings, self.region)
        return engine.memory(*given) or engine.remember(*given)

    def _decide(self, engine: Engine, image: ReadImage, settings: Settings, memory: Any) -> Decided:
        encoding = engine.encode_apart(self.preset, image, settings, "batch")
        given = (self.preset, encoding, settings, (), memory, self.neighbours)
        result = named(engine.decide(*given, part=self.beside), self.parts)
        return result, good_places(engine, self.parts, encoding, memory, result)

    def look_closer(self, engine: Engine, number: int, draw: Any) -> None:
        """Look at one row again with as many tiles as show everything; see `views.look_closer`.

        Raises:
            ZsasError: If it cannot be read any more, or its models cannot be had.
        """
        row = self.rows[number]
        assert row.closer is not None
        name, value, _ = row.closer
        known = {setting.name: setting for setting in all_settings()}
        settings = (row.settings or self.settings).replace(**{name: known[name].parse(value)})
        began = time.monotonic()
        decided = self._decide(engine, self.image(number), settings, self.memory(engine))
        row.settings = settings
        self._keep(number, decided, draw)
        row.seconds = time.monotonic() - began

    def _compare(self, engine: Engine) -> Iterator[int]:
        """Compare the images with each other; those that cannot be read say so in their own row."""
        found: list[Any] = []
        given = (engine, self.preset, self.settings, self.region)
        for number, _ in batch.compared(*given, enumerate(self.rows), _read, found.append):
            self.compared = number + 1
            os.utime(self.folder)
            yield -1
        (self.neighbours,) = found

    def _keep(self, number: int, decided: Decided, draw: Any) -> None:
        """What is needed of a result later, on disk; in memory only what is small."""
        row, (result, good) = self.rows[number], decided
        kept = self.folder / "rows"
        kept.mkdir(exist_ok=True)
        target = self.folder / "results" / row.saved_as
        save(result, target.parent, stem=target.name)
        (kept / f"{number}.jpg").write_bytes(_thumb(result))
        # Pictures apart: inside the page's answer they would be compressed and read again each time it is opened.
        shown = draw(number, result, good)
        with (kept / f"{number}.screen").open("wb") as stream:
            pickle.dump((shown, drawing.pictures_of(json.dumps(shown))), stream)
        with (kept / f"{number}.entry").open("wb") as stream:
            pickle.dump(Entry.of(result, row.name), stream)
        row.closer, row.level = views.look_closer(result), views.suggested_level(result)
        row.result = _without_pixels(result)

    def check_kept(self) -> None:
        """Raise `ZsasError` if the files are gone, as nobody asked for any of them for an hour."""
        if not self.folder.is_dir():
            raise ZsasError("These photos are no longer kept; send them again.")

    def image(self, number: int) -> ReadImage:
        """The image of a row.

        Raises:
            ZsasError: If it cannot be read any more.
        """
        return _read((number, self.rows[number]))

    def drawn(self, number: int) -> dict[str, Any]:
        """What the page shows of a row.

        Raises:
            ZsasError: If it is not kept any more.
        """
        self.check_kept()
        with (self.folder / "rows" / f"{number}.screen").open("rb") as stream:
            found, pictures = pickle.load(stream)  # written by this process alone
        os.utime(self.folder)
        drawing.keep_again(pictures)
        return dict(found)

    def thumb(self, number: int) -> bytes | None:
        """The small picture of a row, JPEG."""
        path = self.folder / "rows" / f"{number}.jpg"
        return path.read_bytes() if path.is_file() else None

    def shown(self, number: int) -> dict[str, Any]:
        """A row as the browser needs it."""
        row, view = self.rows[number], self.views.get(number)
        said = view.now if view is not None else Corrections()
        result = self.reviewed(number)
        return {
            "number": number,
            "name": row.name,
            "error": row.error,
            "score": None if result is None else round(result.image_score, 4),
            "person": "" if result is None else result.persons_verdict,
            "settled": "" if result is None else result.settled,
            "corrected": said != Corrections(),
            "closer": "" if row.closer is None else views.closer_words(row.closer[2], row.seconds),
            "looking": number in self.looking,
            "closely": row.settings is not None,
        }

    def reviewed(self, number: int, limit: float | None = None) -> Result | None:
        """The result of a row without pixels, with what the person said, at a limit."""
        result, view = self.rows[number].result, self.views.get(number)
        if result is None:
            return None
        if limit is not None:
            result = at_limit(result, limit)
        return reviewed(result, view.now.review) if view is not None else result

    def proposal(self, limit: float) -> dict[str, Any]:
        """The limit that would have served this lot best, where a person has given a verdict; else nothing.

        Verdicts that nobody corrected count as right; unsure ones are left out.
        """
        results = [(row, self.reviewed(i, limit)) for i, row in enumerate(self.rows[: self.done])]
        judged = [
            Judged(row.name, one.verdict, one.image_score, bool(one.persons_verdict))
            for row, one in results
            if one is not None and one.verdict != "unsure"
        ]
        if not any(one.by_person for one in judged):
            return {}
        try:
            found = propose(judged, limit)
        except ZsasError:  # too few to say anything
            return {}
        return {"limit": found.limit, "text": found.sentence} if found.is_better else {}

    def summary(self) -> dict[str, Any]:
        """How far it is."""
        spent = time.monotonic() - self.began
        left = spent / self.done * (len(self.rows) - self.done) if self.done else 0.0
        return {
            "key": self.key,
            "total": len(self.rows),
            "done": self.done,
            "compared": self.compared if self.mutual and not self.done else 0,
            "running": self.running,
            "stopped": self.stopped and self.done < len(self.rows),
            "left": round(left),
        }

    # Files to take away

    def report(self, limit: float, corrected: Mapping[int, Result]) -> str:
        """The report of all that is done; see `archive`."""
        return report_html(list(self._entries(limit, corrected)))

    def _entries(self, limit: float, corrected: Mapping[int, Result]) -> Iterator[Entry]:
        done = enumerate(self.rows[: self.done])
        scores = {number: row.result.image_score for number, row in done if row.result}
        large = set(sorted(scores, key=lambda number: -scores[number])[:LARGE])
        for number, row in enumerate(self.rows[: self.done]):
            if row.error:
                yield Entry.failed(row.name, row.error)
                continue
            if number in corrected:
                entry = Entry.of(corrected[number], row.name, clicks=self.views[number].now.clicks)
            else:
                with (self.folder / "rows" / f"{number}.entry").open("rb") as stream:
                    entry = pickle.load(stream)  # written by this process alone
                result = self.reviewed(number, limit)
                assert result is not None
                entry = replace(entry, facts=_updated(entry.facts, result))
            if number not in large:  # thousands of them would not fit into memory
                entry = replace(entry, picture=b"", map_picture=b"")
            yield entry

    def archive(self, limit: float, corrected: Mapping[int, Result]) -> Path:
        """Everything in one ZIP: masks, score maps, overlays, JSON, CSV, COCO and the report, in the images' folders.

        Args:
            limit: The limit as it stands now.
            corrected: Whole results of the rows that a person corrected, or of which the files hold a correction.
        """
        inside = self.folder / "results"
        inside.mkdir(exist_ok=True)
        with self.lock:
            self.written |= corrected.keys()
            lines, annotations = [], Annotations()
            for number, row in enumerate(self.rows[: self.done]):
                result = self.reviewed(number, limit)
                if result is None:
                    lines.append(Line(row.name, error=row.error))
                    continue
                target = inside / row.saved_as
                whole = corrected.get(number)
                if whole is not None:
                    result = whole
                    save(whole, target.parent, stem=target.name)
                else:
                    target.with_name(f"{target.name}_result.json").write_bytes(json_bytes(result))
                annotations.add(row.name, result, row.saved_as)
                lines.append(batch.line_of(row.name, result, row.saved_as, row.seconds))
            batch.write_summary(inside, lines, annotations)
            (inside / "report.html").write_text(self.report(limit, corrected), encoding="utf-8")
            (inside / "settings.json").write_text(
                json.dumps(
                    {"preset": self.preset, "limit": limit, **self.settings.to_dict()}, indent=2
                )
            )
            return export.zip_folder(inside, self.folder / "zsas-results.zip")


def at_limit(result: Result, limit: float) -> Result:
    """The result at a limit; another one than it has was named by a person."""
    if limit == result.settings.verdict_threshold:
        return result
    settings = result.settings.replace(verdict_threshold=limit)
    return replace(result, settings=settings, limit_from="person")


def _read(numbered: tuple[int, Row]) -> ReadImage:
    raise_if_cancelled()
    _, row = numbered
    if row.path is None or row.error:
        raise ZsasError(row.error)
    try:
        return read_image(row.path)
    except ZsasError as error:
        raise ZsasError(str(error).replace(str(row.path), Path(row.name).name)) from None


def _plain(name: str) -> str:
    """A name with its folders, each of harmless letters."""
    path = Path(name)
    parts = [export.stem_of(part) for part in path.parent.parts if part not in ("/", "..", ".")]
    return "/".join([*parts, f"{export.stem_of(path.stem)}{path.suffix}"])


def _thumb(result: Result) -> bytes:
    """The image with its mask, JPEG; shrunk first, as drawing on a large one would cost more than it shows."""
    image = drawing.shrink(result.image, OVERLAY_SIDE)
    mask = drawing.shrink(result.mask.astype(np.uint8), OVERLAY_SIDE) > 0
    drawn = draw.mask_overlay(np.asarray(image, np.uint8), mask)
    return drawing.jpeg(drawing.shrink(drawn, THUMB_SIDE), 82)


def _without_pixels(result: Result) -> Result:
    """The result without its arrays: regions know their outlines themselves."""
    shape = result.mask.shape
    return replace(
        result,
        image=np.zeros((1, 1, 3), np.uint8),
        anomaly_map=np.zeros((1, 1), np.float32),
        score_map=np.zeros((1, 1), np.float32),
        mask=np.broadcast_to(np.zeros((), bool), shape),
        stages=(),
    )


def _updated(facts: Mapping[str, Any], result: Result) -> dict[str, Any]:
    """An entry's facts with another limit."""
    now = result.to_dict()
    keys = ("verdict", "anomalous", "ok", "decided_by", "limit", "sentence", "settings")
    return {**facts, **{key: now[key] for key in keys}}
