"""A part profile: what it keeps, what it refuses, and what it changes about a result."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.helpers.models import small_segmenter
from tests.localizers.test_references import plate
from zsas.cli import app
from zsas.errors import ZsasError
from zsas.models import ModelChoice
from zsas.part import FORMAT, MANIFEST, MEMORY, Part
from zsas.region import RegionOfInterest
from zsas.report import Entry, report_html
from zsas.scale import Scale, parse_smallest
from zsas.segmenter import Segmenter
from zsas.settings import Settings

SETTINGS = Settings(object_name="plate", tiles="off", views="one", verdict_threshold=0.6)
LEFT = RegionOfInterest.from_dict([{"rectangle": [0, 0, 112, 96]}])


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return small_segmenter()


@pytest.fixture(scope="module")
def part(segmenter: Segmenter) -> Part:
    good = segmenter.remember([plate(seed) for seed in range(4)], SETTINGS, LEFT)
    weights = segmenter.weights(SETTINGS)
    return Part("plate 7", SETTINGS, good, LEFT, Scale(0.1, 0.5), ModelChoice("tiny"), weights)


def test_it_gives_a_result_what_belongs_to_the_part(segmenter: Segmenter, part: Part) -> None:
    alone = segmenter.segment(
        plate(9, dent=True), SETTINGS, references=part.references, region=LEFT
    )
    again = Part.load(part.to_bytes())
    result = segmenter.segment(plate(9, dent=True), part=again)
    np.testing.assert_array_equal(result.score_map, alone.score_map)
    assert result.image_score == alone.image_score
    assert result.normal_ratio == alone.normal_ratio
    assert result.settings == SETTINGS
    assert result.to_dict()["scale"] == {"mm_per_px": 0.1, "least_mm2": 0.5}
    # What is given beside it counts more.
    other = segmenter.segment(plate(9), Settings(verdict_threshold=0.3), part=again)
    assert other.settings.verdict_threshold == 0.3
    assert other.settings.object_name == "plate"


def test_the_file_is_a_zip_with_a_readable_manifest(part: Part, tmp_path: Path) -> None:
    part.save(tmp_path / "part.zsas")
    with zipfile.ZipFile(tmp_path / "part.zsas") as archive:
        assert archive.namelist() == [MANIFEST, MEMORY]
        facts = json.loads(archive.read(MANIFEST))
        assert b"pickle" not in archive.read(MEMORY)[:4096]
    assert facts["name"] == "plate 7"
    assert facts["limit"] == 0.6
    assert facts["references"]["images"] == 4
    assert facts["scale"] == {"mm_per_px": 0.1, "least_mm2": 0.5}
    again = Part.load(tmp_path / "part.zsas")
    assert again.references is not None
    assert again.region == LEFT
    assert replace(again, references=None, written="") == replace(part, references=None)


def changed(part: Part, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The file with another manifest."""
    with zipfile.ZipFile(io.BytesIO(part.to_bytes())) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    facts = json.loads(entries[MANIFEST])
    change(facts)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, json.dumps(facts) if name == MANIFEST else data)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": FORMAT + 1}, "newer version"),
        ({"format": "1"}, "damaged"),
        ({"format": 0}, "damaged"),
        ({"kind": "song"}, "something else"),
        ({"name": 5}, "damaged"),
        ({"name": "x" * 1000}, "too long"),
        ({"settings": []}, "damaged"),
        ({"settings": {}}, "damaged"),
        ({"given": ["magic"]}, "damaged"),
        ({"settings": {"verdict_threshold": 7}, "given": ["verdict_threshold"]}, "0 to 1"),
        ({"models": {"preset": 5}}, "no names"),
        ({"models": {"engine": "x"}}, "another kind"),
        ({"models": {"weights": 3}}, "damaged"),
        ({"region": {"region": [{"polygon": [[0, 0]]}]}}, "polygon"),
        ({"scale": {"mm_per_px": -1}}, "millimetres"),
        ({"scale": {"inch": 1}}, "nothing else"),
        ({"scale": None}, "nothing else"),
        ({"references": {"images": 4, "sha256": "0"}}, "missing or changed"),
        ({"references": 3}, "damaged"),
    ],
)
def test_a_manifest_that_says_something_wrong_is_a_sentence(part, change, says) -> None:
    with pytest.raises(ZsasError) as caught:
        Part.load(changed(part, lambda facts: facts.update(change)))
    assert says in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("missing", ["settings", "models", "region", "scale", "references", "name"])
def test_a_manifest_without_an_entry_is_a_sentence(part: Part, missing: str) -> None:
    with pytest.raises(ZsasError, match="damaged"):
        Part.load(changed(part, lambda facts: facts.pop(missing)))


def test_damaged_files_are_a_sentence(part: Part, tmp_path: Path) -> None:
    whole = part.to_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255  # in the memory: its CRC no longer fits
    end = whole.rindex(b"PK\x05\x06")  # its directory would begin before the file does
    far = whole[: end + 16] + (2**24).to_bytes(4, "little") + whole[end + 20 :]
    short = whole[:-200], whole[: len(whole) // 2]
    for data in (b"", b"PK", b"\x00" * 500, *short, bytes(flipped), far):
        with pytest.raises(ZsasError, match="damaged"):
            Part.load(data)
    with pytest.raises(ZsasError, match="no file"):
        Part.load(tmp_path / "missing.zsas")
    with pytest.raises(ZsasError):
        Part.load(tmp_path)
    with pytest.raises(ZsasError, match="cannot be written"):
        part.save("/proc/part.zsas")


def test_other_models_are_refused(part: Part) -> None:
    other = small_segmenter(linear=False)
    with pytest.raises(ZsasError, match="other models"):
        other.segment(plate(1), part=part)


def test_a_region_of_an_image_of_another_shape_is_refused(segmenter: Segmenter, part: Part) -> None:
    sized = replace(part, references=None, region=RegionOfInterest.from_mask(LEFT.on(96, 128)))
    assert segmenter.segment(plate(1), part=sized).region == sized.region
    with pytest.raises(ZsasError, match="another shape"):
        segmenter.segment(np.zeros((50, 200, 3), np.uint8), part=sized)


def two_dents() -> np.ndarray:
    """A grey image with a spot of 4 × 4 pixels and one of 20 × 20."""
    image = np.full((96, 128, 3), 128, np.uint8)
    image[10:14, 10:14] = image[50:70, 80:100] = 255
    return image


def test_what_is_smaller_than_counts_is_listed_as_ignored(segmenter: Segmenter) -> None:
    chosen = Settings(
        refiner="none", threshold=0.8, threshold_mode="quantile", blur=0, verdict_threshold=0.0
    )
    plain = segmenter.segment(two_dents(), chosen)
    areas = sorted(region.area for region in plain.regions)
    assert len(areas) >= 2
    assert areas[0] < areas[-1]
    least = areas[-1]
    result = segmenter.segment(two_dents(), chosen, part=Part(scale=Scale(0.1, least_px=least)))
    ignored = [region for region in result.regions if region.ignored]
    assert len(result.regions) == len(plain.regions)
    assert all(region.area < least for region in ignored)
    assert result.mask.sum() == sum(region.area for region in result.regions if region.counts)
    assert result.regions[0].counts
    assert [region.id for region in result.regions] == list(range(1, len(areas) + 1))
    facts = result.to_dict()["regions"]
    assert sum("ignored" in region for region in facts) == len(ignored)
    assert facts[0]["area_mm2"] == pytest.approx(facts[0]["area"] * 0.01)
    assert result.verdict != "normal"
    assert f"{len(ignored)} smaller than {least} px ignored" in result.sentence
    nothing = segmenter.segment(two_dents(), chosen, part=Part(scale=Scale(least_px=10**6)))
    assert nothing.verdict == "normal"
    assert nothing.ok
    assert not nothing.mask.any()
    assert "no region left" in nothing.sentence


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"mm_per_px": 0}, "millimetres per pixel"),
        ({"mm_per_px": float("nan")}, "millimetres per pixel"),
        ({"mm_per_px": 10**400}, "millimetres per pixel"),
        ({"mm_per_px": "0.1"}, "millimetres per pixel"),
        ({"least_px": -1}, "smallest"),
        ({"least_px": float("inf")}, "smallest"),
        ({"least_mm2": 1.0}, "mm"),
    ],
)
def test_a_scale_that_cannot_be_is_a_sentence(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ZsasError, match=says):
        Scale(**values)


@pytest.mark.parametrize("text", ["", "5", "mm2", "-1px", "1e3px", "5 inch", "nanpx"])
def test_a_smallest_anomaly_that_is_no_size_is_a_sentence(text: str) -> None:
    with pytest.raises(ZsasError, match="mm2 or 20px"):
        parse_smallest(text)


# The shell.


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, segmenter: Segmenter) -> Any:
    monkeypatch.setattr("zsas.bulk.run.load", lambda *_, **__: segmenter)
    monkeypatch.setattr("zsas.bulk.load", lambda *_, **__: segmenter)

    def call(*arguments: object) -> Any:
        found = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
        assert "Traceback" not in found.output
        return found

    return call


def good_images(folder: Path, count: int = 4) -> Path:
    folder.mkdir()
    for seed in range(count):
        Image.fromarray(plate(seed)).save(folder / f"{seed}.png")
    return folder


FLAGS = ("--tiles", "off", "--views", "one", "--preset", "tiny", "--device", "cpu")


@pytest.mark.slow
def test_the_shell_makes_shows_and_changes_a_profile(run: Any, tmp_path: Path) -> None:
    file, good = tmp_path / "part.zsas", good_images(tmp_path / "good")
    look = tmp_path / "look.json"
    look.write_text(json.dumps(LEFT.to_dict()))
    made = run(
        *("part", "create", file, "--name", "plate", "--references", good, "--region", look),
        *("--mm-per-pixel", 0.05, "--smallest", "0.5mm2", *FLAGS),
    )
    assert made.exit_code == 0, made.output
    assert "from the good images" in made.output
    assert "0.5 mm²" in made.output
    part = Part.load(file)
    assert part.limit_from == "references"
    assert part.limit != Settings().verdict_threshold
    assert "is there already" in run("part", "create", file).output
    shown = run("part", "show", file, "--json")
    assert json.loads(shown.stdout)["references"]["images"] == 4
    # The region is that of the good images too.
    refused = run("part", "update", file, "--everywhere")
    assert refused.exit_code == 2
    assert "--references" in refused.output
    for flag, value in (("window", 0.1), ("rotation", 90)):
        refused = run("part", "update", file, f"--reference-{flag}", value)
        assert "How good images are compared is another one now" in refused.output
    assert "How good" in run("part", "update", file, "--few-shot", "published").output
    assert run("part", "update", file, "--verdict-threshold", 0.4, "--name", "lid").exit_code == 0
    again = Part.load(file)
    assert (again.limit, again.limit_from, again.name) == (0.4, "person", "lid")
    assert again.references is not None
    assert run("part", "update", file).exit_code == 2  # nothing is to be changed
    assert run("part", "show", look).exit_code == 2


def test_segment_takes_the_profile_and_what_is_named_beside_it(run: Any, tmp_path: Path) -> None:
    file, good = tmp_path / "part.zsas", good_images(tmp_path / "good")
    run("part", "create", file, "--references", good, "--mm-per-pixel", 0.1, *FLAGS)
    image = tmp_path / "new.png"
    Image.fromarray(plate(9, dent=True)).save(image)
    found = run("segment", image, "--json", "--part", file, "--verdict-threshold", 0.9)
    assert found.exit_code == 0, found.output
    body = json.loads(found.stdout)
    assert body["scale"] == {"mm_per_px": 0.1}
    assert body["limit"] == 0.9
    assert body["settings"]["tiles"] == "off"
    assert body["normal_ratio"] is not None


def test_verdicts_propose_a_limit_that_only_a_yes_writes(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "part.zsas"
    run("part", "create", file, "--verdict-threshold", 0.9, *FLAGS)
    verdicts = tmp_path / "verdicts.csv"
    verdicts.write_text("file,verdict,score\na.png,normal,0.3\nb.png,nok,0.6\nc.png,normal,0.4\n")
    before = file.read_bytes()
    said = run("part", "update", file, "--verdicts", verdicts)
    assert said.exit_code == 0
    assert "limit 0.5 would have given 0 false alarms and 0 misses" in said.output
    assert "0 false alarms and 1 miss on 2 normal and 1 anomalous parts" in said.output
    assert file.read_bytes() == before
    assert run("part", "update", file, "--verdicts", verdicts, "--yes").exit_code == 0
    assert (Part.load(file).limit, Part.load(file).limit_from) == (0.5, "verdicts")


def test_verdicts_without_scores_are_examined(run: Any, tmp_path: Path) -> None:
    file, good = tmp_path / "part.zsas", good_images(tmp_path / "good")
    run("part", "create", file, "--references", good, *FLAGS)
    Image.fromarray(plate(9, dent=True)).save(good / "bad.png")
    (good / "verdicts.csv").write_text(
        "file;verdict\n0.png;ok\n1.png;ok\nbad.png;nok\nmissing.png;ok\n"
    )
    said = run("part", "update", file, "--verdicts", good / "verdicts.csv")
    assert said.exit_code == 0, said.output
    assert "2 normal and 1 anomalous parts" in said.output
    assert "missing.png" in said.output


@pytest.mark.slow
def test_segment_takes_the_limit_from_good_images_unless_one_is_named(
    run: Any, tmp_path: Path
) -> None:
    good, image = good_images(tmp_path / "good"), tmp_path / "new.png"
    Image.fromarray(plate(9)).save(image)
    for words, source in (((), "references"), (("--verdict-threshold", 0.7), "person")):
        found = run("segment", image, "--references", good, "--json", *FLAGS, *words)
        facts = json.loads(found.stdout)
        assert facts["limit_from"] == source
        assert (facts["limit"] == 0.7) == (source == "person")
    file = tmp_path / "part.zsas"
    assert run("part", "create", file, "--references", good, *FLAGS).exit_code == 0
    for words, source in (((), "references"), (("--verdict-threshold", 0.41), "person")):
        found = run("segment", image, "--part", file, "--json", *words)
        assert json.loads(found.stdout)["limit_from"] == source


@pytest.mark.slow
def test_watch_and_compare_take_the_profile(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)  # this process is not ended by it
    file, camera = tmp_path / "part.zsas", tmp_path / "camera"
    camera.mkdir()
    Image.fromarray(plate(9, dent=True)).save(camera / "new.png")
    look = tmp_path / "look.json"
    look.write_text(json.dumps(LEFT.to_dict()))
    made = ("--region", look, "--verdict-threshold", 0.45, "--mm-per-pixel", 0.1, *FLAGS)
    assert run("part", "create", file, *made).exit_code == 0
    seen = run("watch", camera, "--out", tmp_path / "out", "--once", "--json", "--part", file)
    assert seen.exit_code == 0, seen.output
    assert json.loads(seen.stdout)["limit"] == 0.45
    facts = json.loads((tmp_path / "out" / "new" / "result.json").read_text())
    assert facts["region"]["fraction"] == pytest.approx(112 / 128)
    assert facts["scale"] == {"mm_per_px": 0.1}
    command = ("compare", camera / "new.png", "--out", tmp_path / "side", "--systems", "april-gan")
    side = run(*command, "--part", file)
    assert side.exit_code == 0, side.output
    facts = json.loads((tmp_path / "side" / "april-gan" / "result.json").read_text())
    assert facts["region"]["fraction"] == pytest.approx(112 / 128)
    assert facts["limit"] == 0.45


def test_good_images_named_beside_a_profile_bring_their_own_limit(segmenter: Segmenter) -> None:
    good = segmenter.remember([plate(seed) for seed in range(3)], SETTINGS)
    own = replace(Part("p", SETTINGS, good), limit_from="references")
    other = segmenter.remember([plate(seed) for seed in range(10, 13)], SETTINGS)
    kept = segmenter.segment(plate(9), part=own)
    assert (kept.settings.verdict_threshold, kept.limit_from) == (0.6, "references")
    asked = segmenter.segment(plate(9), part=own, references=other)
    assert asked.settings.verdict_threshold == segmenter.limit_of(other, SETTINGS)
    named = replace(own, limit_from="person")
    told = segmenter.segment(plate(9), part=named, references=other)
    assert (told.settings.verdict_threshold, told.limit_from) == (0.6, "person")


@pytest.mark.slow
def test_compare_takes_the_good_images_and_their_limit_for_the_profiles_own_system(
    run: Any, tmp_path: Path
) -> None:
    file, image = tmp_path / "part.zsas", tmp_path / "new.png"
    Image.fromarray(plate(9, dent=True)).save(image)
    made = ("--system", "april-gan", "--references", good_images(tmp_path / "good"), *FLAGS)
    assert run("part", "create", file, *made).exit_code == 0
    command = ("compare", image, "--out", tmp_path / "side", "--systems", "april-gan,vv", "--json")
    rows = json.loads(run(*command, "--part", file).stdout)["rows"]
    assert [row["good_images"] for row in rows] == [4, 0]
    own, other = (
        json.loads((tmp_path / "side" / name / "result.json").read_text())
        for name in ("april-gan", "vv")
    )
    assert own["limit_from"] == "references"
    assert own["limit"] == Part.load(file).limit
    assert (other["limit_from"], other["limit"]) == ("default", 0.7)
    plain = json.loads(run(*command).stdout)["rows"]
    assert plain[0]["image_score"] != rows[0]["image_score"]
    assert plain[1]["image_score"] == rows[1]["image_score"]


def test_the_report_says_what_was_looked_at_and_how_large_things_are(segmenter: Segmenter) -> None:
    chosen = Settings(refiner="none", threshold=0.8, threshold_mode="quantile")
    whole = Part(region=LEFT, scale=Scale(0.1, least_px=30))
    result = segmenter.segment(two_dents(), chosen, part=whole)
    text = report_html([Entry.of(result, "lid.png")])
    assert "87.5 % of it was looked at" in text
    assert "mm²" in text
    assert text.count("too small to count") == sum(one.ignored for one in result.regions)
    again = Entry.stored("lid.png", result.to_dict(), result.image, None)
    assert again.picture == Entry.of(result, "lid.png").picture


def test_a_name_that_could_not_be_read_again_is_refused() -> None:
    longest = Part("x" * 80)
    assert Part.load(longest.to_bytes()).name == longest.name
    with pytest.raises(ZsasError, match="has 81 characters, but at most 80 are kept"):
        Part("x" * 81)
    assert Part.load(Part("gr\udcfcn").to_bytes()).name == "gr\\xfcn"
