"""One contract for all systems of the registry, whoever adds the next one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from tests.helpers.models import (
    CPU,
    ReadyModels,
    every_system_segmenter,
    small_adapter,
    small_backbone,
    small_prompts,
    small_sam,
    small_segmenter,
    small_umci,
)
from zsas import catalogue, comparison, systems
from zsas.backbones.sam import Sam
from zsas.backbones.sam_families import TransformersSam
from zsas.cli import app
from zsas.cli.settings import settings_page
from zsas.declare import Setting, SettingsGroup, Values, declared, setting
from zsas.errors import ZsasError
from zsas.flags import with_settings
from zsas.images import read_image
from zsas.localizers.anomalyclip import AnomalyClip
from zsas.localizers.base import Context, Localizer, Scored, map_stage
from zsas.localizers.linear import FewShotSettings, Linear
from zsas.localizers.patches import PatchFeatures
from zsas.localizers.references import ReferenceSettings
from zsas.localizers.umci import UmciLocalizer
from zsas.localizers.vv import VV
from zsas.models import Models
from zsas.refiners.none import NoRefiner
from zsas.segmenter import Segmenter
from zsas.settings import Settings, all_settings
from zsas.systems import SYSTEMS, System, system_named

NAMES = list(SYSTEMS)
MARKED = {"threshold": 0.9, "threshold_mode": "quantile"}
"""Something is marked on any map that is not constant."""


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return every_system_segmenter()


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    """A plate with two dark spots and some noise, 96 × 128."""
    found = np.random.default_rng(0).integers(90, 160, (96, 128, 3)).astype(np.uint8)
    cv2.circle(found, (40, 30), 9, (20, 20, 25), -1)
    cv2.circle(found, (95, 70), 7, (240, 235, 220), -1)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gives_the_same_as_single_images(segmenter, image, name):
    settings = Settings(system=name, refiner="none")
    localizer = segmenter.localizer(settings)
    images = [image, 255 - image, image[:, ::-1].copy()]
    with torch.inference_mode():
        together = localizer.encode(images, settings)
        alone = [localizer.encode([one], settings)[0] for one in images]
        for one, other, photo in zip(together, alone, images, strict=True):
            context = Context(photo, segmenter._session(segmenter.begin(photo, settings)))
            a, b = (localizer.score(f, settings, context) for f in (one, other))
            np.testing.assert_allclose(a.map, b.map, atol=2e-3)
            assert a.evidence.keys() == b.evidence.keys()
            assert one.nbytes > 0
            assert one.to("cpu") is one


@pytest.mark.parametrize("name", NAMES)
def test_maps_masks_and_stages_are_as_declared(segmenter, image, name):
    result = segmenter(image, Settings(system=name, **MARKED))
    assert result.anomaly_map.shape == image.shape[:2]
    assert result.anomaly_map.dtype == np.float32
    assert 0 <= result.anomaly_map.min() < result.anomaly_map.max() <= 1
    assert not result.anomaly_map.flags.writeable
    assert 0 <= result.image_score <= 1
    declared_names = [stage.name for stage in system_named(name).stages]
    shown = [stage.name for stage in result.stages]
    assert shown == [one for one in declared_names if one in shown]
    assert shown[-1] == "fused"
    for stage in result.stages:
        assert stage.spec in system_named(name).stages
        assert stage.caption


@pytest.mark.parametrize("name", NAMES)
def test_results_are_json_and_settings_come_back_from_it(segmenter, image, name):
    settings = Settings(system=name, **MARKED)
    found = json.loads(json.dumps(segmenter(image, settings).to_dict()))
    assert Settings.from_dict(found["settings"]) == settings
    assert found["settings"]["system"] == name


REACHES: Mapping[str, Mapping[str, Any]] = {
    "object_name": {"object_name": "metal nut"},
    "resolution": {"resolution": 160},
    "sdp_distance": {"sdp_distance": 0.05, "sdp_text": "dbscan"},
    "sdp_neighbours": {"sdp_neighbours": 198, "sdp_text": "dbscan"},
    "sdp_text": {"sdp_text": "pca"},
    "tiles": {"tiles": 64},
    "max_tiles": {"max_tiles": 2},
    "views": {"views": "all"},
    "verdict_threshold": {"verdict_threshold": 0.0},
    "visualad_norm": {"visualad_norm": "pretrained"},
    "saa_phrases": {"saa_phrases": "scratch, flaw"},
    "saa_general": {"saa_general": False, "saa_phrases": "scratch"},
    "saa_area": {"saa_area": 0.02},
    "saa_best": {"saa_best": True, "saa_box_level": 1.0},
    "saa_most_boxes": {"saa_most_boxes": 2},
    "saa_nearest": {"saa_nearest": 3},
}
"""Values that make a difference on random weights, where another value of the range may not."""


BASES: Mapping[str, Mapping[str, Any]] = {"saa_known": {"object_name": "carpet"}}
"""What else must be chosen for a setting to make a difference."""


def another(one: Setting) -> dict[str, Any]:
    """A value that is not the default."""
    if one.name in REACHES:
        return dict(REACHES[one.name])
    if one.choices:
        return {one.name: next(word for word in one.choices if word != one.default)}
    if one.type is bool:
        return {one.name: not one.default}
    return {one.name: one.high if one.default != one.high else one.low}


def own_settings(name: str) -> list[Setting]:
    """What the localizers of a system and the verdict read; refiners and good images have tests of their own."""
    groups = [group for part in SYSTEMS[name].localizers[:1] for group in part.settings]
    groups = [group for group in groups if group not in (ReferenceSettings, FewShotSettings)]
    return [one for group in dict.fromkeys(groups) for one in declared(group)]


@pytest.mark.parametrize(
    ("name", "one"),
    [pytest.param(n, one, id=f"{n}-{one.name}") for n in NAMES for one in own_settings(n)],
)
def test_every_setting_of_a_localizer_reaches_the_map_or_the_encoding(segmenter, image, name, one):
    tiled = {"tiles": 80} if one.name in ("tile_overlap", "max_tiles", "views") else {}
    base = Settings(system=name, refiner="none", **tiled, **BASES.get(one.name, {}))
    changed = base.replace(**another(one))
    assert getattr(changed, one.name) != getattr(base, one.name)
    before, after = (segmenter(image, settings).anomaly_map for settings in (base, changed))
    assert not np.array_equal(before, after)
    encoding = segmenter.begin(image, base)
    if one.encoding:
        with pytest.raises(ZsasError, match="encode it again"):
            segmenter(encoding, changed)
    else:
        segmenter(encoding, changed)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_settings_that_only_decide_never_encode(segmenter, image, name):
    base = Settings(system=name, **MARKED)
    encoding = segmenter.encode(image, base)
    segmenter(encoding, base)
    counts = dict(segmenter.images_encoded)
    used = base.used()
    for one in all_settings():
        if one.name in used and not one.encoding and one.name not in ("refiner", "system"):
            segmenter(encoding, base.replace(**another(one)))
    assert segmenter.images_encoded == counts


@pytest.mark.parametrize("name", NAMES)
def test_an_encoding_of_another_system_is_refused_unless_the_localizer_is_the_same(
    segmenter, image, name
):
    encoding = segmenter.begin(image, Settings(system=name, tiles="off"))
    own = segmenter.localizer(Settings(system=name)).name
    for other in NAMES:
        if segmenter.localizer(Settings(system=other)).name == own:
            segmenter.segment(encoding, Settings(system=other, refiner="none", tiles="off"))
        else:
            with pytest.raises(ZsasError, match="encode it again"):
                segmenter.segment(encoding, Settings(system=other))


def test_systems_share_the_pass_of_a_backbone_where_it_is_the_same_function(image):
    """Linear layers and UMCI of one activation take one pass; bilinear positions and the V-V stream another one."""
    clip = small_backbone()
    learned = [
        Linear(clip, small_adapter(clip)),
        UmciLocalizer(clip, small_umci(clip)),
        AnomalyClip(clip, small_prompts(clip)),
    ]
    sam = Sam(TransformersSam(small_sam(), CPU, "fp32"), CPU)
    segmenter = Segmenter(ReadyModels(clip, sam), localizers=learned)
    found = read_image(image)

    def compared(*names: str) -> list[str]:
        chosen = comparison.combinations(names)
        return [row.error for row in comparison.compare(segmenter, found, chosen)]

    assert compared("paper", "april-gan", "clipsam") == [""] * 3
    assert clip.passes == 1
    assert compared("anomalyclip") == [""]
    assert clip.passes == 2
    assert segmenter.images_encoded["localizer"] == 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("refiner", ["none", "cascade"])
def test_any_localizer_is_followed_by_any_refiner(segmenter, image, name, refiner):
    result = segmenter(image, Settings(system=name, refiner=refiner, **MARKED))
    assert result.mask.shape == image.shape[:2]
    assert result.models["refiner"] == refiner


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_good_images_are_compared_by_any_system(segmenter, image, name):
    settings = Settings(system=name, refiner="none")
    references = segmenter.remember([255 - image, image[::-1].copy()], settings)
    has_patches = isinstance(segmenter.begin(image, settings).features, PatchFeatures)
    if not has_patches and not segmenter.localizer(settings).own_way(settings):
        with pytest.raises(ZsasError, match="no patch features"):
            segmenter.segment(image, settings, references=references)
        return
    result = segmenter.segment(image, settings, references=references)
    assert result.anomaly_map.shape == image.shape[:2]
    alone = segmenter(image, settings)
    assert alone.normal_ratio is None
    # How much they count depends on how alike they are; a system may have a way of its own.
    own = not np.array_equal(result.anomaly_map, alone.anomaly_map)
    assert result.normal_ratio is not None or own


def test_defaults_of_systems_are_settings_within_their_ranges():
    known = {one.name for one in all_settings()}
    for name, system in SYSTEMS.items():
        assert set(system.defaults) <= known
        values = Settings(system=name)
        for setting_name, value in system.defaults.items():
            found = getattr(values, setting_name)
            assert found == (value if isinstance(value, str) else pytest.approx(value))
            step = next(one.step for one in all_settings() if one.name == setting_name)
            if step and not isinstance(value, str):  # sliders stand on it
                assert value / step == pytest.approx(round(value / step), abs=1e-6)


@pytest.mark.slow
def test_every_interface_takes_every_name(segmenter):
    (system,) = (one for one in all_settings() if one.name == "system")
    assert set(system.choices) == set(SYSTEMS)
    wide = {"COLUMNS": "400"}  # where lines are short, names are broken in the middle
    output = CliRunner().invoke(app, ["segment", "--help"], env=wide).output
    for name in NAMES:
        assert name in output


def test_what_is_trained_here_is_what_the_localizers_say():
    from zsas.training.learners import LEARNERS

    parts = [part for system in SYSTEMS.values() for part in system.localizers]
    assert {part.trained_as for part in parts if part.trained_as} == set(LEARNERS)
    for name in LEARNERS:
        assert SYSTEMS[name].localizers[0].trained_as == name


# A toy: one file, one entry.


@dataclass(frozen=True)
class ToySettings(SettingsGroup, key="toy", title="Toy"):
    """How the toy sees."""

    toy_channel: Literal["red", "green"] = setting("red", "Channel", "Which channel is the map.")


class ToyLocalizer(Localizer):
    """A channel is the map."""

    name = "toy"
    title = "a channel"
    roles = ()
    settings = (ToySettings,)

    @classmethod
    def load(cls, models: Models) -> ToyLocalizer:
        return cls()

    def encode(self, images: Sequence[NDArray[np.uint8]], values: Values) -> list[torch.Tensor]:
        return [torch.from_numpy(one.copy()) for one in images]

    def score(self, features: torch.Tensor, values: Values, context: Context) -> Scored:
        channel = 0 if values.of(ToySettings).toy_channel == "red" else 1
        found = (features[..., channel].numpy() / 255).astype(np.float32)
        return Scored(found, {"map": float(found.max())}, (map_stage(found, "A channel"),))


@pytest.fixture
def toy(monkeypatch):
    entry = System("A toy", (ToyLocalizer,), NoRefiner, "0000.00000", {"threshold": 0.25})
    monkeypatch.setitem(systems.SYSTEMS, "toy", entry)


def test_a_toy_is_one_file_and_one_line(toy, segmenter, image):
    assert "toy_channel" in {one.name for one in all_settings()}
    settings = Settings(system="toy")
    assert settings.threshold == 0.25
    result = segmenter(image, settings)
    np.testing.assert_allclose(result.anomaly_map, image[..., 0] / 255, atol=1e-6)
    (spec,) = result.to_dict()["stages"][:1]
    assert spec["name"] == "anomaly_map"
    green = segmenter(image, settings.replace(toy_channel="green"))
    np.testing.assert_allclose(green.anomaly_map, image[..., 1] / 255, atol=1e-6)
    segmenter(image, settings.replace(refiner="cascade"))

    def command(settings: Settings) -> None: ...

    flags = with_settings(command).__signature__.parameters  # type: ignore[attr-defined]
    assert "toy_channel" in flags
    assert "`toy_channel`" in settings_page()
    assert "| `toy` | A toy |" in catalogue.table()
    (entry,) = (one for one in catalogue.entries() if one.name == "toy")
    assert entry.presets["tiny"] == catalogue.RUNS


# The listing.


def test_the_list_says_what_runs_here_and_what_is_missing():
    found = {entry.name: entry for entry in catalogue.entries()}
    assert found["winclip"].presets["tiny"] == catalogue.RUNS
    assert "ViT-B-16-plus-240" in found["winclip"].presets["paper"]
    assert "834 MB" in found["winclip"].presets["paper"]
    assert "anomalyclip:visa" in found["anomalyclip"].presets["paper"]
    assert "anomalyclip:visa" not in found["anomalyclip"].presets["base"]
    assert "zsas models fetch base" in found["sdp"].presets["base"]
    assert found["auto"].weights == ()
    assert found["sdp+"].weights == ("sdp+",)


def test_the_command_prints_a_table_json_or_markdown():
    run = CliRunner().invoke
    shown = run(app, ["systems"]).output
    assert "winclip" in shown
    # A reason that many cells share stands once.
    assert shown.count("zsas train adapters --system sdp+") == 1
    listed = json.loads(run(app, ["systems", "--json"]).output)
    assert [entry["name"] for entry in listed] == NAMES
    assert run(app, ["systems", "--markdown"]).output == catalogue.table()


def test_the_table_in_the_docs_is_the_generated_one():
    page = Path(__file__).parents[1] / "docs" / "systems.md"
    assert catalogue.table() in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_segmenter_may_have_another_system_where_no_settings_are_given(photo):
    models = small_segmenter().models
    other = Segmenter(models, localizers=[VV(models.clip)], system="vv")
    assert other(photo).settings.system == "vv"
    assert other.encode(photo).made_by == other.made_by(Settings(system="vv"))
    assert other(photo, Settings(system="auto")).settings.system == "auto"
    (first,) = other.segment_batch([photo])
    assert first.settings.system == "vv"
    with pytest.raises(ZsasError, match="magic"):
        Segmenter.from_preset("tiny", system="magic")
