"""Other backbones for eq. 4: their features lie where the image says, and the cascade's points follow them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.models import CPU, fixed_segmenter, small_vision
from zsas.backbones.patch_features import PatchBackbone
from zsas.errors import ZsasError
from zsas.models import ModelChoice, Models
from zsas.models.loaders import load_features
from zsas.settings import Settings

IMAGE = np.random.default_rng(0).integers(0, 256, (90, 150, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("features")
    for kind in ("dinov2", "resnet"):
        small_vision(kind).save_pretrained(root / kind)
    return root


def loaded(folder: Path, kind: str) -> PatchBackbone:
    return load_features(str(folder), kind=kind, wanted_for="tiny", device=CPU, precision="fp32")


@pytest.mark.parametrize(
    ("kind", "channels", "side", "grid"), [("dinov2", 24, 84, 6), ("resnet", 16, 512, 32)]
)
def test_features_lie_on_the_backbones_own_grid(folders, kind, channels, side, grid):
    backbone = loaded(folders / kind, kind)
    one, other = backbone.encode([IMAGE, IMAGE[:, :60]])
    assert one.valid.shape == other.valid.shape == (channels, grid, grid)
    assert one.valid.dtype == np.float32
    assert one.frame.grid_hw == (grid, grid)
    assert (one.frame.height, one.frame.width, one.frame.side) == (90, 150, side)
    np.testing.assert_allclose(backbone.encode([IMAGE])[0].valid, one.valid, atol=1e-5)


def test_dinov2_is_the_librarys_own(folders):
    backbone = loaded(folders / "dinov2", "dinov2")
    with torch.inference_mode():
        own = small_vision("dinov2")(backbone.pixels([IMAGE])).last_hidden_state[0, 1:]
    np.testing.assert_allclose(
        backbone.encode([IMAGE])[0].valid, own.T.reshape(24, 6, 6), atol=1e-5
    )


def test_a_cell_shows_its_own_part_of_the_image(folders):
    """What changes at the right does not reach the left of a ResNet's grid."""
    backbone = loaded(folders / "resnet", "resnet")
    changed = IMAGE.copy()
    changed[:, 140:] = 0
    one, other = (found.valid for found in backbone.encode([IMAGE, changed]))
    different = np.abs(one - other).max(axis=(0, 1))
    assert different[:16].max() == 0 < different[-1]


@pytest.fixture
def segmenter():
    heat = np.full((90, 150), 0.1, np.float32)
    heat[30:50, 40:70] = 0.9
    return fixed_segmenter(heat)


@pytest.mark.parametrize("kind", ["dinov2", "resnet"])
def test_negative_points_follow_the_chosen_features(segmenter, kind):
    encoding = segmenter.encode(IMAGE, Settings())
    own = segmenter.segment(encoding, Settings())
    other = segmenter.segment(encoding, Settings(point_features=kind))
    positive = own.points.labels == 1
    np.testing.assert_array_equal(own.points.xy[positive], other.points.xy[positive])
    assert not np.array_equal(own.points.xy[~positive], other.points.xy[~positive])
    said = next(stage.caption for stage in other.stages if stage.name == "points")
    assert {"dinov2": "DINOv2's", "resnet": "a ResNet's"}[kind] in said
    assert other.models["point_features"].endswith(kind)
    assert "point_features" not in own.models
    assert kind in other.timings


def test_other_features_are_encoded_once_and_kept_by_content(segmenter):
    dino = Settings(point_features="dinov2")
    for settings in (Settings(), dino, dino.replace(k_negative=5)):
        segmenter(IMAGE, settings)
    assert segmenter.images_encoded == {"localizer": 1, "sam": 1, "dinov2": 1}
    segmenter(IMAGE.copy(), dino)
    assert segmenter.images_encoded["dinov2"] == 1


def test_without_negative_points_nothing_is_encoded_for_them(segmenter):
    segmenter(IMAGE, Settings(point_features="dinov2", negatives=False))
    assert "dinov2" not in segmenter.images_encoded


def test_what_is_not_at_hand_is_one_sentence_before_anything_runs(folders, segmenter, monkeypatch):
    tiny = Models(ModelChoice("tiny"))
    monkeypatch.setattr(segmenter.models, "source_of_features", tiny.source_of_features)
    encoding = segmenter.begin(IMAGE)
    with pytest.raises(ZsasError, match=r"'tiny' brings no dinov2.*--features"):
        next(segmenter.stages(encoding, Settings(point_features="dinov2")))
    with pytest.raises(ZsasError, match=r"of the type 'resnet', but one of the type 'dinov2'"):
        loaded(folders / "resnet", "dinov2")
    with pytest.raises(ZsasError, match="There is no folder /nowhere"):
        loaded(Path("/nowhere"), "dinov2")


def test_sources_are_the_usual_ones_or_what_was_named():
    assert Models(ModelChoice("light")).source_of_features("dinov2") == "facebook/dinov2-base"
    assert Models(ModelChoice("light")).source_of_features("resnet") == "microsoft/resnet-50"
    choice = ModelChoice("tiny", features="/models/dino")
    assert Models(choice).source_of_features("dinov2") == "/models/dino"
    assert choice.to_dict()["features"] == "/models/dino"
