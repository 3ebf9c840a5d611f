"""Each family of SAM in transformers gives what transformers' own processor and model give."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import SamModel

from tests.helpers.models import (
    CPU,
    ReadyModels,
    small_backbone,
    small_clip,
    with_lively_weights,
)
from tests.helpers.sams import BUILDERS, as_published, processor, small_model, theirs
from zsas.backbones.sam import Sam
from zsas.backbones.sam_families import network_for, read_normalisation, sam_class
from zsas.errors import ZsasError
from zsas.localizers.vv import VV
from zsas.models.loaders import load_sam
from zsas.prompts import Prompt
from zsas.segmenter import Segmenter
from zsas.settings import Settings

POINTS = np.array([[80, 60], [30, 100], [5, 90]], np.float32)
LABELS = np.array([1, 0, 1], np.int64)
BOX = np.array([20, 30, 81, 121], np.float32)  # x1 and y1 exclusive
NO_POINTS = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)


def sam_of(model: object) -> Sam:
    return Sam(network_for(model, CPU, "fp32"), CPU)


def assert_equal(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Together to 1e-4 of the largest value, and not both nothing."""
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 1e-2
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "shape"),
    [(f, (150, 220)) for f in BUILDERS] + [(f, (300, 90)) for f in ("sam_hq", "sam2")],
)
def test_a_family_is_transformers_own_on_images_that_are_not_square(family, shape):
    model = small_model(family)
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    sam = sam_of(model)
    (features,) = sam.encode([image])
    inclusive = BOX - np.array([0, 0, 1, 1], np.float32)
    logits, iou = theirs(model, family, image, POINTS, LABELS)
    for prompt, given in (
        (Prompt(POINTS, LABELS), {}),
        (Prompt(POINTS, LABELS, logits=logits[0]), {"logits": logits[0]}),
        (
            Prompt(POINTS, LABELS, box=BOX, logits=logits[1]),
            {"box": inclusive, "logits": logits[1]},
        ),
    ):
        (answer,) = sam.decode(features, [prompt])
        logits, iou = theirs(model, family, image, POINTS, LABELS, **given)
        assert_equal(answer.logits, logits)
        assert_equal(answer.iou, iou)
    (answer,) = sam.decode(features, [Prompt(*NO_POINTS, box=BOX)])
    assert_equal(answer.logits, theirs(model, family, image, None, None, box=inclusive)[0])
    (answer,) = sam.decode(features, [Prompt(*NO_POINTS, box=BOX, single=True)])
    assert answer.iou.shape == (1,)
    wanted = theirs(model, family, image, None, None, box=inclusive, single=True)
    assert_equal(answer.logits, wanted[0])


@pytest.mark.slow
def test_a_pruned_sam_is_read_by_its_own_widths(tmp_path):
    """SlimSAM's blocks are narrower than usual: 14 channels a head, and an MLP that is no multiple of them."""
    config = small_model("sam").config
    config.vision_config.hidden_size, config.vision_config.num_attention_heads = 42, 3
    config.vision_config.mlp_dim = 174
    torch.manual_seed(0)
    model = with_lively_weights(SamModel(config).eval())
    model.save_pretrained(tmp_path)
    sam = load_sam(str(tmp_path), wanted_for="tiny", device=CPU, precision="fp32")
    image = np.random.default_rng(0).integers(0, 255, (150, 220, 3), dtype=np.uint8)
    (answer,) = sam.decode(sam.encode([image])[0], [Prompt(POINTS, LABELS)])
    logits, iou = theirs(model, "sam", image, POINTS, LABELS)
    assert_equal(answer.logits, logits)
    assert_equal(answer.iou, iou)


@pytest.mark.parametrize("family", BUILDERS)
def test_pixels_are_the_processors(family):
    image = np.random.default_rng(1).integers(0, 255, (70, 130, 3), dtype=np.uint8)
    pixels, frame = sam_of(small_model(family)).pixels(image)
    wanted = processor(family)(images=image, return_tensors="pt")["pixel_values"][0]
    np.testing.assert_allclose(pixels, wanted, atol=2e-6)
    assert frame.side == pixels.shape[-1]


@pytest.mark.slow
@pytest.mark.parametrize("family", BUILDERS)
def test_batches_and_grouped_prompts_change_nothing(family):
    sam = sam_of(small_model(family))
    rng = np.random.default_rng(2)
    images = [rng.integers(0, 255, (h, w, 3), dtype=np.uint8) for h, w in ((60, 100), (128, 128))]
    together = sam.encode(images)
    prompts = [Prompt(POINTS[i : i + 1], LABELS[i : i + 1], box=BOX) for i in range(3)]
    for features, image in zip(together, images, strict=True):
        (alone,) = sam.encode([image])
        np.testing.assert_allclose(features.embedding, alone.embedding, atol=1e-4)
        looped = sam.decode(features, prompts)
        groups, sam._groups = sam._groups, lambda prompts: [list(range(len(prompts)))]
        for grouped, one in zip(sam.decode(features, prompts), looped, strict=True):
            np.testing.assert_allclose(grouped.logits, one.logits, atol=1e-3)
        sam._groups = groups


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sam_hq", "sam2", "sam3_tracker"])
def test_the_whole_method_runs_with_a_family(family, photo):
    clip = small_backbone()
    models = ReadyModels(clip, sam_of(small_model(family)))
    segmenter = Segmenter(models, localizers=[VV(clip)])
    result = segmenter(photo, Settings(threshold=0.9, threshold_mode="quantile", fusion="mask"))
    assert result.mask.shape == photo.shape[:2]
    stages = [stage.spec.name for stage in result.stages]
    assert {"m1", "m2", "m3"} <= set(stages)
    assert (result.points.labels == 0).any()


@pytest.mark.slow
def test_frames_of_the_families_differ():
    frames = {f: sam_of(small_model(f)).network.input.frame(100, 200) for f in BUILDERS}
    assert frames["sam"].grid_hw == frames["sam_hq"].grid_hw == (8, 16)
    assert frames["sam2"].grid_hw == frames["edgetam"].grid_hw == (16, 16)
    assert frames["sam3_tracker"].grid_hw == (18, 18)
    assert frames["sam3_tracker"].stride == 14
    np.testing.assert_allclose(
        frames["sam3_tracker"].points_to_frame(np.array([100, 50], np.float32)), [126, 126]
    )


def test_features_know_their_size_and_move_as_one():
    (features,) = sam_of(small_model("sam2")).encode([np.zeros((40, 60, 3), np.uint8)])
    assert [d.shape[-1] for d in features.details] == [64, 32]
    assert features.nbytes > sum(d.nbytes for d in features.details) > 0
    assert features.to(CPU) is features
    assert all(d.device.type == "meta" for d in features.to("meta").details)
    assert features.valid.shape == (32, 16, 16)


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("sam", "SamModel"),
        ("sam_hq", "SamHQModel"),
        ("sam2", "Sam2Model"),
        ("sam2_video", "Sam2Model"),
        ("sam3_tracker", "Sam3TrackerModel"),
        ("sam3_video", "Sam3TrackerModel"),
        ("edgetam", "EdgeTamModel"),
        ("edgetam_video", "EdgeTamModel"),
    ],
)
def test_a_config_type_belongs_to_a_class(model_type, name):
    assert sam_class(model_type).__name__ == name


def test_what_is_no_sam_is_refused_in_a_sentence():
    with pytest.raises(ZsasError, match=r"type 'clip' is no SAM.*sam2_video.*\.pth files\."):
        sam_class("clip")


def test_normalisation_comes_from_the_models_own_processor(tmp_path):
    assert read_normalisation(tmp_path) is None
    said = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7]}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": said}))
    assert read_normalisation(tmp_path) == ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    network = network_for(small_model("sam2"), CPU, "fp32", tmp_path)
    pixels, _ = Sam(network, CPU).pixels(np.full((9, 9, 3), 255, np.uint8))
    np.testing.assert_allclose(pixels[:, 0, 0], [0.9 / 0.5, 0.8 / 0.6, 0.7 / 0.7], rtol=1e-5)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [1], "image_std": [0]}')
    with pytest.raises(ZsasError, match="does not say how images are normalised"):
        read_normalisation(tmp_path)


@pytest.mark.parametrize("family", BUILDERS)
def test_encoders_follow_the_precision_and_decoders_stay_in_fp32(family):
    network = network_for(small_model(family), CPU, "bf16")
    assert {str(p.dtype) for p in network.model.vision_encoder.parameters()} == {"torch.bfloat16"}
    (features,) = Sam(network, CPU).encode([np.zeros((40, 60, 3), np.uint8)])
    assert {str(t.dtype) for t in (features.embedding, *features.details)} == {"torch.float32"}
    (answer,) = Sam(network, CPU).decode(features, [Prompt(POINTS, LABELS)])
    assert answer.logits.dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize("family", BUILDERS)
def test_a_repository_is_read_as_it_is_published(family, tmp_path):
    """SAM 2.1's and SAM 3's hold a whole video model, of which only the tracker's image part is wanted."""
    model = as_published(family, tmp_path)
    sam = load_sam(str(tmp_path), wanted_for="tiny", device=CPU, precision="fp32")
    wanted, found = model.state_dict(), sam.network.model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    said = json.loads((tmp_path / "config.json").read_text())["model_type"]
    assert said == {"sam2": "sam2_video", "sam3_tracker": "sam3_video"}.get(family, family)


def test_a_folder_with_another_model_is_refused(tmp_path):
    small_clip().save_pretrained(tmp_path)
    with pytest.raises(ZsasError, match="type 'clip' is no SAM"):
        load_sam(str(tmp_path), wanted_for="tiny", device=CPU, precision="fp32")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ZsasError, match="does not say what model it is of"):
        load_sam(str(tmp_path), wanted_for="tiny", device=CPU, precision="fp32")
