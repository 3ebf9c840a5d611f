"""Both backends are one network: the same weights give the same features, logits and predicted IoU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.utils.transforms import ResizeLongestSide
from transformers import SamConfig, SamModel

import zsas.backbones.sam_decoder
from tests.helpers.meta_sam import meta_model, metas_names
from tests.helpers.models import CPU, small_sam, with_lively_weights
from zsas.backbones.sam import Sam
from zsas.backbones.sam_decoder import FusedProjection, attend_to_few
from zsas.backbones.sam_families import TransformersSam
from zsas.backbones.sam_meta import _META_TYPES, MetaSam, load_meta_checkpoint
from zsas.errors import ZsasError
from zsas.prompts import Prompt


def both(size: str) -> tuple[Sam, Sam]:
    if size == "small":
        ours = small_sam()
    else:
        # ViT-B in all but the input side: 512 px instead of 1024 keeps the test to seconds.
        torch.manual_seed(0)
        side = {"image_size": 512}
        ours = with_lively_weights(
            SamModel(SamConfig(vision_config=side, prompt_encoder_config=side)).eval()
        )
    meta = meta_model(ours.config)
    meta.load_state_dict(metas_names(ours), strict=True)
    return tuple(
        Sam(network(model, CPU, "fp32"), CPU)
        for network, model in (
            (TransformersSam, ours),
            (MetaSam, meta),
        )
    )


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Together to 1e-3 of the largest value, and not both nothing."""
    assert np.abs(theirs).max() > 1e-2
    assert np.abs(ours - theirs).max() <= 1e-3 * np.abs(theirs).max()


@pytest.mark.parametrize("size", ["small", pytest.param("vit_b", marks=pytest.mark.slow)])
def test_both_backends_give_the_same_answers(size):
    ours, theirs = both(size)
    photo = np.random.default_rng(0).integers(0, 255, (150, 220, 3), dtype=np.uint8)
    (features,), (features_meta,) = ours.encode([photo]), theirs.encode([photo])
    assert features.frame == features_meta.frame
    assert_close(features.embedding.numpy(), features_meta.embedding.numpy())

    points = np.array([[110, 60], [30, 140], [200, 20]], np.float32)
    labels = np.array([1, 0, 1], np.int64)
    (first,) = ours.decode(features, [Prompt(points, labels)])
    logits = first.logits[0]
    box = np.array([20, 30, 150, 120], np.float32)
    for prompt in (
        Prompt(points, labels),
        Prompt(points, labels, logits=logits),
        Prompt(points, labels, box=box, logits=logits),
        Prompt(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), box=box),
        Prompt(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), box=box, single=True),
    ):
        (mine,), (his,) = ours.decode(features, [prompt]), theirs.decode(features_meta, [prompt])
        assert mine.logits.shape == his.logits.shape
        assert_close(mine.logits, his.logits)
        assert_close(mine.iou, his.iou)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("fed", [False, True])
def test_the_decoder_is_transformers_own_in_other_memory_order(count, fed):
    model = small_sam()
    rng = torch.Generator().manual_seed(0)
    vision = model.config.vision_config
    grid, channels = vision.image_size // vision.patch_size, vision.output_channels
    features = torch.randn((1, channels, grid, grid), generator=rng)
    logits = torch.randn((count, 1, 4 * grid, 4 * grid), generator=rng) if fed else None
    words = torch.randn((count, 5, channels), generator=rng)
    dense = model.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1)
    with torch.inference_mode():
        if logits is not None:
            dense = model.prompt_encoder.mask_embed(logits)
        theirs, their_iou = model.mask_decoder(
            image_embeddings=features.expand(count, -1, -1, -1),
            image_positional_embeddings=model.get_image_wide_positional_embeddings().expand(
                count, -1, -1, -1
            ),
            sparse_prompt_embeddings=words[:, None],
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        ours, our_iou = zsas.backbones.sam_decoder.MaskDecoder(model)(features, words, logits)
    scale = float(theirs.abs().max())
    assert scale > 1e-2
    torch.testing.assert_close(ours, theirs[:, 0], atol=2e-5 * scale, rtol=0)
    torch.testing.assert_close(our_iou, their_iou[:, 0], atol=1e-5, rtol=1e-5)


def test_what_all_prompts_read_of_an_image_is_made_once_an_image(monkeypatch):
    """Points alone share the first layer's products; another image, and logits, have their own."""
    made = []
    project = FusedProjection.__call__
    monkeypatch.setattr(
        FusedProjection, "__call__", lambda *given: made.append(1) or project(*given)
    )
    sam, _ = both("small")
    one, other = sam.encode([np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 90, np.uint8)])
    points = Prompt(np.array([[5, 5]], np.float32), np.array([1], np.int64))

    def products(features, prompts):
        made.clear()
        answers = sam.decode(features, prompts)
        return len(made), answers

    layers = len(sam.network.model.mask_decoder.transformer.layers)
    count, (alone, _, _) = products(one, [points] * 3)
    assert count == 1 + 3 * layers
    fed = Prompt(points.points, points.labels, logits=alone.logits[0])
    assert products(one, [fed])[0] == 1 + layers
    count, (again,) = products(one, [points])
    assert count == layers
    np.testing.assert_array_equal(again.logits, alone.logits)
    count, (elsewhere,) = products(other, [points])
    assert count == 1 + layers
    assert not np.array_equal(elsewhere.logits, alone.logits)


def test_several_prompts_are_answered_in_order_and_as_alone():
    sam, _ = both("small")
    (features,) = sam.encode([np.zeros((64, 64, 3), np.uint8)])
    one = Prompt(np.array([[5, 5]], np.float32), np.array([1], np.int64))
    two = Prompt(np.array([[50, 50], [3, 60]], np.float32), np.array([1, 0], np.int64))
    together = sam.decode(features, [one, two, one])
    (alone,) = sam.decode(features, [two])
    np.testing.assert_array_equal(together[0].logits, together[2].logits)
    np.testing.assert_allclose(together[1].logits, alone.logits, atol=1e-6)


def test_grouped_decoding_equals_one_call_each():
    """What a GPU would do, done on the CPU."""
    sam, _ = both("small")
    (features,) = sam.encode([np.full((64, 96, 3), 90, np.uint8)])
    prompts = [
        Prompt(np.array([[x, y]], np.float32), np.array([1], np.int64))
        for x, y in ((5, 5), (40, 30), (80, 60))
    ]
    looped = sam.decode(features, prompts)
    sam._groups = lambda prompts: [list(range(len(prompts)))]
    for grouped, alone in zip(sam.decode(features, prompts), looped, strict=True):
        np.testing.assert_allclose(grouped.logits, alone.logits, atol=1e-4)


def test_a_gpu_answers_prompts_of_one_shape_in_one_call_and_a_cpu_each_in_its_own():
    one = Prompt(np.zeros((1, 2), np.float32), np.ones(1, np.int64))
    two = Prompt(np.zeros((2, 2), np.float32), np.ones(2, np.int64))
    boxed = Prompt(one.points, one.labels, box=np.zeros(4, np.float32))
    fed = Prompt(one.points, one.labels, logits=np.zeros((4, 4), np.float32))
    asked = [one, two, boxed, one, fed, two]
    network = both("small")[0].network
    assert Sam(network, torch.device("cuda"))._groups(asked) == [[0, 3], [1, 5], [2], [4]]
    assert Sam(network, CPU)._groups(asked) == [[i] for i in range(6)]


def test_attention_to_few_keys_is_attention():
    query, key = torch.randn(2, 4, 300, 8), torch.randn(2, 4, 9, 8)
    value = torch.randn(2, 4, 9, 8)
    wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(attend_to_few(query, key, value), wanted, rtol=1e-5, atol=1e-6)
    shared = attend_to_few(query[:1], key, value)
    torch.testing.assert_close(shared[0], wanted[0], rtol=1e-5, atol=1e-6)
    assert shared.shape == wanted.shape


@pytest.mark.slow
def test_the_encoder_follows_the_precision_and_the_decoder_stays_in_fp32():
    theirs = MetaSam(sam_model_registry["vit_b"](), CPU, "bf16").model
    ours = TransformersSam(small_sam(), CPU, "bf16").model
    for encoder, rest in (
        (ours.vision_encoder, (ours.mask_decoder, ours.prompt_encoder)),
        (theirs.image_encoder, (theirs.mask_decoder, theirs.prompt_encoder)),
    ):
        assert {p.dtype for p in encoder.parameters()} == {torch.bfloat16}
        assert {p.dtype for part in rest for p in part.parameters()} == {torch.float32}


def test_padding_is_zero_after_normalisation_and_cropped_from_the_features():
    sam, _ = both("small")
    pixels, frame = sam.pixels(np.full((50, 100, 3), 255, np.uint8))
    assert pixels.shape == (3, 256, 256)
    assert frame.resized_hw == (128, 256)
    assert not pixels[:, 128:].any()
    assert pixels[:, :128].min() > 1
    (features,) = sam.encode([np.full((50, 100, 3), 255, np.uint8)])
    assert features.valid.shape == (32, 8, 16)


def resized_to_256(image: np.ndarray) -> np.ndarray:
    shape = ResizeLongestSide.get_preprocess_shape(*image.shape[:2], 256)
    channels = torch.from_numpy(image).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(channels, shape, mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("shape", [(150, 220), (600, 90)])
def test_frames_are_those_of_metas_predictor(shape):
    """Pixels, points and boxes of photos that are not square, by the code of the package itself."""
    _, sam = both("small")
    photo = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    predictor = SamPredictor(sam.network.model)
    # PIL, with which Meta resizes, rounds one pixel in some hundred to the next level of grey.
    predictor.transform.apply_image = resized_to_256
    predictor.set_image(photo)
    points, labels = np.array([[70, 60], [30, 140]], np.float32), np.array([1, 0], np.int64)
    box = np.array([20, 30, 80, 120], np.float32)  # x1 and y1 exclusive; Meta's are pixel centres
    _, iou, logits = predictor.predict(
        points, labels, box - np.array([0, 0, 1, 1]), return_logits=True
    )
    (features,) = sam.encode([photo])
    (answer,) = sam.decode(features, [Prompt(points, labels, box=box)])
    assert_close(answer.logits, logits)
    assert_close(answer.iou, iou)
    rows, columns = features.frame.grid_hw
    np.testing.assert_array_equal(features.valid, features.embedding[0, :, :rows, :columns])


@pytest.mark.parametrize(("width", "name"), _META_TYPES.items())
def test_sizes_of_metas_checkpoints_are_told_by_their_width(width, name):
    with torch.device("meta"):
        model = sam_model_registry[name]()
    assert model.image_encoder.patch_embed.proj.out_channels == width


def test_a_prompt_needs_a_point_or_a_box():
    sam, _ = both("small")
    (features,) = sam.encode([np.zeros((64, 64, 3), np.uint8)])
    with pytest.raises(ZsasError, match="at least one point or a box"):
        sam.decode(features, [Prompt(np.zeros((0, 2), np.float32), np.zeros(0, np.int64))])


@pytest.mark.slow
def test_an_original_checkpoint_is_read_and_code_in_one_is_not_run(tmp_path):
    torch.manual_seed(0)
    good = tmp_path / "sam_vit_b.pth"
    model = sam_model_registry["vit_b"]()
    torch.save(model.state_dict(), good)
    loaded = load_meta_checkpoint(good)
    name = "mask_decoder.iou_token.weight"
    assert torch.equal(loaded.state_dict()[name], model.state_dict()[name])

    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    bad = tmp_path / "bad.pth"
    torch.save({"image_encoder.patch_embed.proj.weight": Harm()}, bad)
    with pytest.raises(ZsasError, match=r"bad\.pth cannot be read as a SAM checkpoint"):
        load_meta_checkpoint(bad)
    assert not (tmp_path / "harm").exists()
