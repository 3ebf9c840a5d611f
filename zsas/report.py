"""A report for people: one self-contained HTML file on one image or many, that prints to PDF."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas import draw
from zsas.errors import ZsasError
from zsas.files import check_place, write_whole, writing
from zsas.images import digest
from zsas.prompts import Click
from zsas.region import RegionOfInterest
from zsas.result import Result
from zsas.rle import decode
from zsas.settings import Settings
from zsas.stages import counted

PICTURE_SIDE = 720
SPECK = 1e-4
"""Regions of a smaller fraction of the image are counted apart."""
LARGE = 200
"""Of more images than these, only those with the highest scores are shown large; the table has them all."""
THUMB_SIDE = 96
NUMBERED = 30
"""Findings beyond these have no number on the picture."""
_SIGNS = {"anomalous": "▲ Anomalous", "unsure": "? Unsure", "normal": "✓ Normal"}
_LIMITS = {
    "references": " (from the good images)",
    "person": " (set by a person)",
    "verdicts": " (from verdicts of a lot)",
}
"""Where the limit comes from, in words, where it is not the system's own."""
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#18181b;background:#fff;max-width:1060px;margin:24px auto;padding:0 20px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:0 0 6px}p{margin:4px 0}small,.soft{color:#52525b}
table{border-collapse:collapse;width:100%;margin:12px 0;font-size:14px}th,td{text-align:left;padding:5px 8px;
border-bottom:1px solid #e4e4e7;vertical-align:middle}td img{display:block;border-radius:4px;
max-width:64px;max-height:64px}
h1,h2,li,.soft,td.file,td.why{overflow-wrap:anywhere}td.file{min-width:12ch}
td>span{white-space:nowrap}
section{border-top:2px solid #e4e4e7;padding:16px 0;break-inside:avoid}.pair{display:flex;gap:12px;flex-wrap:wrap}
.pair figure{margin:8px 0;flex:1 1 320px;min-width:0}.pair img{width:100%;
max-height:720px;object-fit:contain;object-position:left;border-radius:6px}
figcaption{font-size:13px;color:#52525b}
.anomalous{color:#8a4b00;font-weight:600}.normal{color:#0b6b57;font-weight:600}.unsure{color:#3f3f46;font-weight:600}
.settings{columns:3 240px;padding:0;list-style:none;font-size:14px}.settings li{break-inside:avoid;padding:2px 0}
.failed{color:#b42318}del{color:#52525b}code{font-size:12px;overflow-wrap:anywhere}
@media print{body{margin:0;max-width:none}a{color:inherit}}
"""


@dataclass(frozen=True)
class Entry:
    """One image of a report: its facts, and two small pictures.

    Attributes:
        name: Name of the file, with its folders.
        facts: What `Result.to_dict` says, without outlines and stages.
        picture: The image with its findings, JPEG.
        map_picture: The anomaly map over the image, JPEG; empty if there is none.
        thumb: The image with its findings, small, JPEG.
        pixels: Digest of the image's pixels.
        clicks: How many points a person set.
        error: Why there is no result, "" where there is one.
    """

    name: str
    facts: Mapping[str, Any]
    picture: bytes = b""
    map_picture: bytes = b""
    thumb: bytes = b""
    pixels: str = ""
    clicks: int = 0
    error: str = ""

    @classmethod
    def of(cls, result: Result, name: str, *, clicks: Sequence[Click] = ()) -> Entry:
        """The entry of a result, reviewed or not."""
        facts = result.to_dict()
        for entry, region in zip(facts["regions"], result.regions, strict=True):
            x0, y0, x1, y1 = region.box
            inside = region.mask[y0:y1, x0:x1]
            entry["map_peak"] = round(float(result.anomaly_map[y0:y1, x0:x1][inside].max()), 4)
        drawn = cls._drawn(
            *(name, facts, result.image, result.mask, result.anomaly_map), result.inside
        )
        return replace(drawn, clicks=len(clicks))

    @classmethod
    def stored(
        cls, name: str, facts: Mapping[str, Any], image: NDArray[np.uint8], score: Path | None
    ) -> Entry:
        """The entry of an image whose result was written earlier.

        Args:
            name: Of its file.
            facts: What `result.json` holds.
            image: uint8 RGB (H, W, 3).
            score: Its `score.png`, None where there is none.
        """
        mask = np.zeros(image.shape[:2], bool)
        for region in facts["regions"]:
            if not (region.get("rejected") or region.get("ignored")):
                mask |= decode(region["rle"])
        inside = None
        if facts.get("region"):
            inside = RegionOfInterest.from_facts(facts["region"]).on(*image.shape[:2])
        anomaly_map = None
        if score is not None and score.is_file():
            # Not by its path: OpenCV ends the process at a name that is no UTF-8.
            data = np.frombuffer(score.read_bytes(), np.uint8)
            found = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
            if found is not None:
                anomaly_map = (found / np.float32(65535)).astype(np.float32)
        return cls._drawn(name, facts, image, mask, anomaly_map, inside)

    @classmethod
    def _drawn(
        cls,
        name: str,
        facts: Mapping[str, Any],
        image: NDArray[np.uint8],
        mask: NDArray[np.bool_],
        anomaly_map: NDArray[np.float32] | None,
        inside: NDArray[np.bool_] | None = None,
    ) -> Entry:
        pixels = mask.shape[0] * mask.shape[1]
        regions = [
            {
                **{key: value for key, value in region.items() if key != "rle"},
                "percent": 100 * region["area"] / pixels,
            }
            for region in facts["regions"]
        ]
        small, its_mask = _small(image), _small(mask.astype(np.uint8)) > 0
        looked = None if inside is None else _small(inside.astype(np.uint8)) > 0
        marked = draw.mask_overlay(small, its_mask, inside=looked)
        warm = b""
        if anomaly_map is not None:
            warm = _jpeg(draw.heat_overlay(small, _small(anomaly_map), its_mask), PICTURE_SIDE)
        left_out = ("stages", "points", "regions")
        return cls(
            name,
            {**{k: v for k, v in facts.items() if k not in left_out}, "regions": regions},
            _jpeg(_numbered(marked, regions, small.shape[1] / mask.shape[1]), PICTURE_SIDE),
            warm,
            _jpeg(marked, THUMB_SIDE),
            pixels=digest(image),
        )

    @classmethod
    def failed(cls, name: str, error: str) -> Entry:
        """The entry of a file that could not be read."""
        return cls(name, {}, error=error)


def report(
    results: Result | Mapping[str, Result] | Iterable[tuple[str, Result]], path: str | Path
) -> Path:
    """Write a report.

    Args:
        results: One result, or results by the names of their files.
        path: The HTML file.

    Raises:
        ZsasError: If it cannot be written, or these are no results.
    """
    if isinstance(results, Result):
        results = [("image", results)]
    pairs = list(results.items() if isinstance(results, Mapping) else results)
    if not all(isinstance(one, tuple) and isinstance(one[-1], Result) for one in pairs):
        raise ZsasError(
            'A report is made of one result, or of results by the names of their files, as {"gear.png": result}.'
        )
    return write_report([Entry.of(result, name) for name, result in pairs], Path(path))


def write_report(entries: Sequence[Entry], path: Path) -> Path:
    """Write the report of some entries.

    Raises:
        ZsasError: If it cannot be written.
    """
    with _writing(path):
        write_whole(path, report_html(entries).encode())
    return path


def check_report(path: Path) -> None:
    """Try whether a report can be written, before the images that it will show are examined.

    Raises:
        ZsasError: If it cannot.
    """
    with _writing(path):
        check_place(path)


def _writing(path: Path) -> AbstractContextManager[None]:
    return writing(f"The report cannot be written to {path}", "name another file")


def report_html(entries: Sequence[Entry]) -> str:
    """The report as one HTML file that needs nothing from outside; names that are no UTF-8 are escaped."""
    return _html(entries).encode(errors="backslashreplace").decode()


def _html(entries: Sequence[Entry]) -> str:
    done = [entry for entry in entries if not entry.error]
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    title = "Inspection report" if len(entries) != 1 else f"Inspection report: {entries[0].name}"
    counts = ", ".join(f"{sum(e.facts['verdict'] == word for e in done)} {word}" for word in _SIGNS)
    failed = len(entries) - len(done)
    large = shown_large(entries)
    summary = (
        f"<p>{len(entries)} images: {counts}{f', {failed} not readable' if failed else ''}."
        f"{f' The {LARGE} with the highest scores are shown large.' if len(large) < len(done) else ''}</p>"
    )
    pieces = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f'<p class="soft">{now} · zsas · an opinion, not a certificate</p>',
        summary if len(entries) > 1 else "",
        _table(entries, large) if len(entries) > 1 else "",
        *(_section(entries[at], at + 1) for at in large),
        _conditions(done),
        "</body></html>",
    ]
    return "".join(pieces)


def shown_large(entries: Sequence[Entry]) -> list[int]:
    """Which entries are shown large, by their places in the list and in its order."""
    done = [at for at, entry in enumerate(entries) if not entry.error]
    worst = sorted(done, key=lambda at: -float(entries[at].facts["image_score"]))[:LARGE]
    return sorted(worst)


def _table(entries: Sequence[Entry], large: Sequence[int]) -> str:
    rows, linked = [], set(large)
    for number, entry in enumerate(entries, 1):
        name = escape(entry.name)
        if entry.error:
            rows.append(
                f'<tr class="failed"><td></td><td class="file">{name}</td>'
                f'<td class="why" colspan="3">✕ {escape(entry.error)}</td></tr>'
            )
            continue
        facts = entry.facts
        link = f'<a href="#image-{number}">{name}</a>' if number - 1 in linked else name
        rows.append(
            f'<tr><td><img src="{_uri(entry.thumb)}" alt=""></td>'
            f'<td class="file">{link}</td><td>{_verdict(facts)}</td>'
            f"<td>{facts['image_score']:.2f}</td><td>{_count(facts)}</td></tr>"
        )
    return (
        "<table><thead><tr><th></th><th>File</th><th>Verdict</th><th>Score</th><th>Findings</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _section(entry: Entry, number: int) -> str:
    facts = entry.facts
    findings = "".join(
        f"<tr><td>{r['id']}</td><td>{_size(r)}</td><td>{r.get('map_peak', r['score']):.2f}</td>"
        f"<td>{', '.join(str(value) for value in r['box'])}</td>"
        f"<td>{_fate(r)}</td></tr>"
        for r in facts["regions"]
    )
    table = (
        "<table><thead><tr><th>Finding</th><th>Size, of the image</th><th>Heat</th><th>Box x0, y0, x1, y1</th><th></th>"
        f"</tr></thead><tbody>{findings}</tbody></table>"
        if findings
        else "<p>Nothing is marked.</p>"
    )
    changed = []
    if entry.clicks:
        changed.append(f"{counted(entry.clicks, 'point')} set by a person")
    rejected = sum(bool(r.get("rejected")) for r in facts["regions"])
    if rejected:
        changed.append(f"{counted(rejected, 'finding')} rejected")
    if facts["decided_by"] == "person":
        changed.append("the verdict")
    said = f"<p>Changed by a person: {', '.join(changed)}.</p>" if changed else ""
    looked = facts.get("region")
    part = f"; {100 * looked['fraction']:.3g} % of it was looked at" if looked else ""
    read = facts.get("input") or {}
    if read.get("pages", 1) > 1:
        part = f", page {read['page']} of {read['pages']}{part}"
    notes = "".join(
        f"<p>{escape(f'{note[:1].upper()}{note[1:]}')}.</p>" for note in read.get("notes", ())
    )
    digests = f"pixels <code>{entry.pixels}</code>"
    if sha256 := read.get("sha256"):
        digests += f", file SHA-256 <code>{sha256}</code>"
    return (
        f'<section id="image-{number}"><h2>{escape(entry.name)}</h2>'
        f"<p>{_verdict(facts)}: score {facts['image_score']:.2f}, "
        f"limit {facts['limit']:.2f}{_LIMITS.get(facts.get('limit_from', ''), '')}, "
        f"unsure within {facts['unsure_band']:.2f}.</p>{said}{notes}"
        f'<div class="pair"><figure><img src="{_uri(entry.picture)}" alt="The image with its findings">'
        "<figcaption>Findings</figcaption></figure>"
        f'{_map(entry)}</div>{table}<p class="soft">'
        f"{facts['width']} × {facts['height']} px{part}; {digests}</p>{_compared(facts)}</section>"
    )


def _compared(facts: Mapping[str, Any]) -> str:
    """The good images that an image was compared with, by name and digest."""
    references = facts.get("references") or []
    if not references:
        return ""
    named = ", ".join(
        f"{escape(one['name'] or 'without a name')} <code>{escape(one['pixels'])}</code>"
        for one in references
    )
    return f'<p class="soft">Compared with {counted(len(references), "good image")}: {named}.</p>'


def _numbered(
    picture: NDArray[np.uint8], regions: Sequence[Mapping[str, Any]], scale: float
) -> NDArray[np.uint8]:
    """A copy with the numbers of the findings at their upper left corners.

    Args:
        picture: uint8 RGB (h, w, 3).
        regions: Their facts, boxes in pixels of the whole image.
        scale: Pixels of the picture for one of the image.
    """
    picture = picture.copy()
    size = max(picture.shape[:2]) / 720
    radius = max(6, round(11 * size))
    shown = [one for one in regions if not (one.get("rejected") or one.get("ignored"))]
    for region in shown[:NUMBERED]:
        x0, y0, *_ = region["box"]
        height, width = picture.shape[:2]
        x = min(max(round(x0 * scale) - radius, radius), max(width - radius, radius))
        y = min(max(round(y0 * scale) - radius, radius), max(height - radius, radius))
        cv2.circle(picture, (x, y), radius, (24, 24, 27), -1, cv2.LINE_AA)
        text, font = str(region["id"]), cv2.FONT_HERSHEY_SIMPLEX
        large = 0.5 * radius / 11 * (1 if len(text) == 1 else 0.8)
        (wide, tall), _ = cv2.getTextSize(text, font, large, 1)
        place = (x - wide // 2, y + tall // 2)
        cv2.putText(picture, text, place, font, large, (255, 255, 255), 1, cv2.LINE_AA)
    return picture


def _map(entry: Entry) -> str:
    if not entry.map_picture:
        return ""
    return (
        f'<figure><img src="{_uri(entry.map_picture)}" alt="The anomaly map over the image">'
        "<figcaption>Anomaly map</figcaption></figure>"
    )


def _conditions(entries: Sequence[Entry]) -> str:
    """Settings, models and versions: once where all images share them."""
    seen: list[Mapping[str, Any]] = []
    for entry in entries:
        same = {key: entry.facts[key] for key in ("system", "settings", "models", "versions")}
        if same not in seen:
            seen.append(same)
    pieces = []
    for facts in seen[:20]:
        usual = Settings(system=facts["system"])
        used = usual.replace(refiner=facts["settings"].get("refiner", "own")).used()
        rows = "".join(
            f"<li>{escape(name)} <b>{escape(str(value))}</b>"
            f"{' <small>changed</small>' if getattr(usual, name, value) != value else ''}</li>"
            for name, value in facts["settings"].items()
            if name in used
        )
        models = ", ".join(
            f"{key} {value}" for key, value in facts["models"].items() if isinstance(value, str)
        )
        versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
        pieces.append(
            f"<section><h2>Conditions</h2><p>System {escape(facts['system'])}; {escape(models)}</p>"
            f'<p>{escape(versions)}</p><h2>Settings</h2><ul class="settings">{rows}</ul></section>'
        )
    return "".join(pieces)


def _size(region: Mapping[str, Any]) -> str:
    """A finding's size: its fraction of the image, and mm² where they are known."""
    mm2 = region.get("area_mm2")
    return f"{region['percent']:.2g} %" + (f", {mm2:.3g} mm²" if mm2 is not None else "")


def _fate(region: Mapping[str, Any]) -> str:
    """Why a finding does not count; "" if it does."""
    if region.get("rejected"):
        return "<del>rejected by a person</del>"
    return "<del>too small to count</del>" if region.get("ignored") else ""


def _verdict(facts: Mapping[str, Any]) -> str:
    by = " <small>by a person</small>" if facts["decided_by"] == "person" else ""
    return f'<span class="{facts["verdict"]}">{_SIGNS[facts["verdict"]]}</span>{by}'


def _count(facts: Mapping[str, Any]) -> str:
    """How many findings count, and how many of them are specks, as on the page: "5 + 9 specks"."""
    kept = [r for r in facts["regions"] if not (r.get("rejected") or r.get("ignored"))]
    specks = sum(r["percent"] < 100 * SPECK for r in kept)
    return f"{len(kept) - specks}" + (f" + {counted(specks, 'speck')}" if specks else "")


def _small(values: NDArray[Any], side: int = PICTURE_SIDE) -> NDArray[Any]:
    """Shrunk to what the report shows, before anything is drawn on it."""
    height, width = values.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA)


def _jpeg(picture: NDArray[np.uint8], side: int) -> bytes:
    small = cv2.cvtColor(_small(picture, side), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 84])[1].tobytes()


def _uri(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
