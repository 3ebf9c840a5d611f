"""The small CLIP learns, reads every name, and is exactly the model that transformers loads."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import CLIPModel

from tiny.synthetic.defects import PHRASES
from tiny.training import loop
from tiny.training.cache import (
    CHUNK,
    DatasetCache,
    fill,
    make_batch,
)
from tiny.training.clip import export, load_model, parts, train
from tiny.training.clip.losses import dense_loss
from tiny.training.clip.model import TrainModel, vision_tokens
from tiny.training.clip.recipe import Recipe
from tiny.training.clip.start import build, start_from_clip
from tiny.training.clip.tasks import Sentences, Task, make_task, normalise, turned
from tiny.training.tokenizer import load_tokenizer, sentences, train_tokenizer
from zsas.errors import ZsasError
from zsas.training.checkpoint import CurveLog, load_checkpoint, save_checkpoint

pytestmark = pytest.mark.slow

MICRO = Recipe(
    width=32, depth=4, heads=2, text_width=32, text_depth=1, text_heads=2, projection=16,
    blocks=(1, 2, 3, 4), nominal=96, stages=((0.0, 64, 4, 0.5, 1.0), (0.8, 96, 4, 0.6, 1.0)),
    lr=3e-3, text_steps=20,
)  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> DatasetCache:
    """A cache of one chunk of small synthetic images."""
    return fill(tmp_path_factory.mktemp("cache"), count=CHUNK, size=128, seed=7)


@pytest.fixture(scope="module")
def trained(cache: DatasetCache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training of a few steps."""
    out = tmp_path_factory.mktemp("run")
    train(loop.Run(out, steps=40, report_every=10), caches=[cache.folder], recipe=MICRO)
    return out


def test_a_cache_is_found_again_and_goes_on(cache: DatasetCache) -> None:
    again = fill(cache.folder, count=CHUNK, size=128, seed=7)
    assert len(again) == CHUNK
    assert np.array_equal(again.image, cache.image)
    for record, labels in zip(again.records, again.defect_map, strict=True):
        assert {again.defect_types[v - 1] for v in np.unique(labels) if v} == set(
            record.defect_types
        )


def test_pool_of_other_size_is_refused(cache: DatasetCache) -> None:
    with pytest.raises(ZsasError, match="another cache"):
        fill(cache.folder, count=CHUNK, size=64, seed=7)


def test_missing_cache_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ZsasError, match=r"python -m tiny cache"):
        DatasetCache(tmp_path)


def test_crops_keep_image_and_labels_together(cache: DatasetCache) -> None:
    batch = make_batch(cache, np.random.default_rng(0), np.arange(8), 64)
    assert batch.image.shape == (8, 64, 64, 3)
    assert batch.defect_map.shape == (8, 64, 64)
    assert batch.image.dtype == np.uint8
    for found, labels in zip(batch.defect_types, batch.defect_map, strict=True):
        assert {cache.defect_types.index(kind) + 1 for kind in found} <= set(
            np.unique(labels).tolist()
        )


def test_tokenizer_reads_back_what_it_wrote(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(sentences(["hazelnut"], ["a stain"]), merges=200)
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    for text in ("a photo of a damaged hazelnut.", "größe 木", "x9!"):
        ids = again(text)["input_ids"]
        assert ids == tokenizer(text)["input_ids"]
        assert ids[0] == again.bos_token_id
        assert ids.index(again.eos_token_id) == len(ids) - 1  # CLIP caches at the first end token
        read = again.decode(ids, skip_special_tokens=True)
        assert read.replace(" ", "") == text.replace(" ", "")


def test_fast_tower_equals_transformers(trained: Path) -> None:
    model, _ = load_model(trained / "checkpoint.pt")
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    pixels = normalise(torch.from_numpy(image))
    kept, last = vision_tokens(model.clip, pixels, (2, 4), torch.float32)
    with torch.no_grad():
        wanted = model.clip.vision_model(
            pixel_values=pixels.permute(0, 3, 1, 2),
            output_hidden_states=True,
            interpolate_pos_encoding=True,
        )
    torch.testing.assert_close(kept[0], wanted.hidden_states[2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(kept[1], wanted.hidden_states[4], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last, wanted.last_hidden_state, rtol=1e-4, atol=1e-5)


def test_dense_loss_knows_right_from_wrong() -> None:
    mask = torch.zeros(1, 8, 8)
    mask[0, 2:4, 2:4] = 1.0
    right = torch.where(mask > 0, 8.0, -8.0)[:, None]
    target = torch.ones(1)
    good = [float(value) for value in dense_loss(right, mask, target)]
    bad = [float(value) for value in dense_loss(-right, mask, target)]
    assert max(good) < 0.01
    assert min(bad) > 0.5


def test_dice_skips_images_without_defects() -> None:
    _, dice = dense_loss(torch.full((1, 2, 4, 4), 5.0), torch.zeros(1, 4, 4), torch.ones(1))
    assert float(dice) == 0.0


def test_loss_falls(trained: Path) -> None:
    rows = list(CurveLog(trained / "curve.csv", (), resume=True).rows())
    assert rows[-1]["focal"] < rows[0]["focal"]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["resolution"] == 96


def test_training_goes_on_where_it_stopped(trained: Path, cache: DatasetCache) -> None:
    before = load_checkpoint(trained / "checkpoint.pt")
    train(loop.Run(trained, steps=44), caches=[cache.folder])
    after = load_checkpoint(trained / "checkpoint.pt")
    assert (before["step"], after["step"]) == (40, 44)
    assert json.loads(after["recipe"])["width"] == MICRO.width


def test_a_finetuning_starts_from_the_first_training(trained: Path) -> None:
    earlier, tokenizer = load_model(trained / "checkpoint.pt")
    model = TrainModel(replace(MICRO, blocks=(2, 4)), tokenizer)
    start_from_clip(model, trained / "checkpoint.pt")
    assert all(
        torch.equal(value, earlier.clip.state_dict()[name])
        for name, value in model.clip.state_dict().items()
    )
    for layer, number in zip(model.layers, (1, 3), strict=True):
        assert torch.equal(layer.weight, earlier.layers[number].weight)


def test_an_exported_model_can_be_trained_on_and_mixed_in(
    trained: Path, cache: DatasetCache, tmp_path: Path
) -> None:
    """Checkpoints are not shipped, exported models are: both begin a training and take part in a mixture."""
    checkpoint = trained / "checkpoint.pt"
    folder = export(checkpoint, tmp_path / "exported")
    (theirs, _), (ours, _) = load_model(checkpoint), load_model(folder)
    assert (ours.recipe.width, ours.recipe.blocks) == (MICRO.width, MICRO.blocks)
    for name, value in ours.state_dict().items():
        assert torch.allclose(value, theirs.state_dict()[name], rtol=1e-3, atol=1e-4), name
    again = train(
        loop.Run(tmp_path / "on", steps=2, report_every=1),
        caches=[cache.folder],
        recipe=MICRO,
        start=folder,
    )
    half = export(again, tmp_path / "half", earlier={folder: 0.5})
    learned = load_model(again)[0].layers[0].weight
    mixed = load_model(half)[0].layers[0].weight
    middle = (learned + ours.layers[0].weight) / 2
    assert torch.allclose(mixed, middle, atol=1e-3)


def test_same_seed_gives_same_weights(cache: DatasetCache, tmp_path: Path) -> None:
    one = build(MICRO, tmp_path / "a", cache, seed=3).state_dict()
    two = build(MICRO, tmp_path / "b", cache, seed=3).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_export_is_a_transformers_folder_with_adapter(trained: Path, tmp_path: Path) -> None:
    export(trained / "checkpoint.pt", tmp_path)
    exported = CLIPModel.from_pretrained(tmp_path, dtype=torch.float32)
    model, tokenizer = load_model(trained / "checkpoint.pt")
    ids = tokenizer("a photo of a damaged bolt.", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        read = torch.nn.functional.normalize(exported.get_text_features(ids).pooler_output, dim=-1)
    torch.testing.assert_close(read, model.encode_text(ids), rtol=0.02, atol=0.005)
    assert load_tokenizer(tmp_path)("a bolt")["input_ids"] == tokenizer("a bolt")["input_ids"]
    with safe_open(tmp_path / "adapter.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["blocks"]) == [1, 2, 3, 4]
        assert file.get_tensor("fc.0.weight").shape == (16, 32)


def test_an_export_can_keep_parts_of_earlier_trainings(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(trained / "tokenizer", other / "tokenizer")
    state = load_checkpoint(trained / "checkpoint.pt")
    shadow = state["ema"]["shadow"]
    state["ema"]["shadow"] = {name: value + 1.0 for name, value in shadow.items()}
    save_checkpoint(other / "checkpoint.pt", state)
    third = shutil.copytree(other, tmp_path / "third")
    state["ema"]["shadow"] = {name: value - 2.0 for name, value in shadow.items()}
    save_checkpoint(third / "checkpoint.pt", state)
    mixture = parts([f"{other}/checkpoint.pt=0.5", f"{third}/checkpoint.pt=0.125"])
    name = "text_projection.weight"
    found = []
    for earlier in (None, mixture):
        export(trained / "checkpoint.pt", tmp_path / "out", earlier=earlier)
        with safe_open(tmp_path / "out" / "model.safetensors", framework="pt") as file:
            found.append(file.get_tensor(name).float())
    torch.testing.assert_close(
        found[1] - found[0], torch.full_like(found[0], 0.25), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("text", ["runs/a.pt", "runs/a.pt=x", "runs/a.pt=1.5", "runs/a.pt=0"])
def test_a_mixture_that_makes_no_sense_is_one_sentence(text: str) -> None:
    with pytest.raises(ZsasError, match="--mix"):
        parts([text])


def test_a_turned_task_keeps_defects_where_they_are_seen(cache: DatasetCache) -> None:
    crops = make_batch(cache, np.random.default_rng(0), np.arange(8), 64)
    marked = crops.image.copy()
    marked[crops.defect_map > 0] = (255, 0, 0)
    marked[crops.defect_map == 0] = (0, 0, 255)
    draw = Sentences(
        load_tokenizer(Path("zsas/weights/tiny/clip")), PHRASES, np.random.default_rng(0)
    )
    task = make_task(replace(crops, image=marked), MICRO, draw, cache.defect_types, ["plate"])
    torch.manual_seed(0)
    seen = set()
    for _ in range(12):
        again = turned(task)
        assert torch.equal(again.image[..., 0] > again.image[..., 2], again.defect_map > 0)
        assert again.mask().sum() == task.mask().sum()
        seen.add(again.defect_map.numpy().tobytes())
    assert len(seen) > 3


def test_a_patch_counts_as_defective_from_a_tenth_of_it() -> None:
    labels = torch.zeros(1, 32, 32, dtype=torch.uint8)
    labels[0, :16, 16:20] = 3
    labels[0, 16, :10] = 2
    nothing = torch.zeros(0)
    task = Task(nothing, labels, *(nothing,) * 7)
    assert task.patch_defect().tolist() == [[0, 3, -1, 0]]
    assert task.mask().shape == (1, 16, 16)
    assert task.mask()[0, 8, :5].tolist() == [0.5] * 5
