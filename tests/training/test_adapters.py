"""What is trained here: it learns, go on after a break as if there had been none, and say what they are."""

from __future__ import annotations

import csv
from math import prod

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.datasets import write_folder
from tests.helpers.models import small_backbone
from zsas.backbones.session import SamSession
from zsas.datasets.load import load_dataset
from zsas.errors import ZsasError
from zsas.evaluation.identity import leakage
from zsas.localizers.adapter import quarters, read_adapter
from zsas.localizers.anomalyclip import AnomalyClip, read_prompts
from zsas.localizers.anomalyvfm import AnomalyVfm
from zsas.localizers.anomalyvfm_net import read_vfm
from zsas.localizers.base import Context
from zsas.localizers.linear import Linear
from zsas.localizers.sdp_plus import SdpPlus
from zsas.localizers.umci import UmciCard, UmciLocalizer, read_umci, shapes
from zsas.localizers.visualad import VisualAd
from zsas.localizers.visualad_net import read_visual
from zsas.settings import Settings
from zsas.training import adapters
from zsas.training.adapters import Tokens, recipe_for, train
from zsas.training.learners import (
    LEARNERS,
    LearnedPrompts,
    LinearLayers,
    Recipe,
    SdpPlusLayers,
    UmciModule,
    UmciRecipe,
    margins,
)
from zsas.training.losses import dice_loss, focal_loss

pytestmark = pytest.mark.slow

SMALL = UmciCard(
    "small-clip", 64, "quick_gelu", "", blocks=(2, 4, 6, 8), text_ensemble="", hidden=12
)
RECIPE = Recipe(epochs=3, batch=4, resolution=64, scale=10.0, holdout=0.2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return load_dataset("folder", write_folder(tmp_path_factory.mktemp("d") / "parts", per_kind=3))


def curve(folder):
    with (folder / "curve.csv").open(newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def test_a_defect_thinner_than_half_a_pixel_is_not_lost(tmp_path):
    image, mask = np.full((200, 200, 3), 90, np.uint8), np.zeros((200, 200), np.uint8)
    mask[101:103, 50:150] = 255  # a tenth of a pixel of the square high
    Image.fromarray(image).save(tmp_path / "part.png")
    Image.fromarray(mask).save(tmp_path / "part_mask.png")
    (sample,) = load_dataset("flat", tmp_path).samples
    small = adapters._mask(sample, 10)
    assert small.sum() == small[5, 2:8].sum() >= 4
    mask[100:120] = 255
    Image.fromarray(mask).save(tmp_path / "part_mask.png")
    assert adapters._mask(sample, 10).sum() == 10  # one row, covered wholly


def assert_same_adapter(a, b):
    one, other = read_adapter(a), read_adapter(b)
    assert one.card == other.card
    for x, y in zip((*one.weights, *one.biases), (*other.weights, *other.biases), strict=True):
        assert torch.equal(x, y)


def test_focal_loss_by_hand():
    margin, mask = torch.zeros(1, 1, 2), torch.tensor([[[1.0, 0.0]]])
    # Both pixels are at 0.5: cross-entropy ln 2, times (1 - 0.5) squared.
    assert float(focal_loss(margin, mask)) == pytest.approx(0.25 * 0.6931, abs=1e-4)
    sure = torch.tensor([[[9.0, -9.0]]])
    assert float(focal_loss(sure, mask)) < 1e-6
    assert float(focal_loss(-sure, mask)) == pytest.approx(9.0, abs=0.01)


def test_dice_loss_by_hand():
    mask = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
    half = torch.tensor([[[50.0, -50.0, -50.0, -50.0]]])
    assert float(dice_loss(half, mask, smooth=0.0)) == pytest.approx(1 - 2 / 3)
    assert float(dice_loss(-50 * torch.ones(1, 1, 4), mask * 0)) == pytest.approx(0.0)


def test_every_quarter_of_the_depth():
    assert quarters(24) == (6, 12, 18, 24)
    assert quarters(8) == (2, 4, 6, 8)


def test_training_lowers_the_loss_and_writes_an_adapter_that_fits(data, tmp_path):
    clip = small_backbone()
    path = train(clip, data, tmp_path, Recipe(**{**RECIPE.__dict__, "epochs": 12, "lr": 5e-3}))
    rows = curve(tmp_path)
    assert len(rows) == 12
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["focal"] < 0.6 * rows[0]["focal"]
    assert 0 <= rows[-1]["validation_auroc"] <= 1
    adapter = read_adapter(path)
    assert adapter.card.trained_on == "parts"
    assert adapter.card.blocks == (2, 4, 6, 8)
    localizer = Linear(clip, adapter)
    settings = Settings(system="april-gan")  # the square
    (features,) = localizer.encode([data.samples[0].load_image()], settings)
    assert features.tiles[0].layers.shape == (1, 4, 4, 4, clip.projection)
    card = (tmp_path / "README.md").read_text()
    assert "base_model: small-clip" in card
    assert "--clip small-clip" in card
    assert "| blocks | (2, 4, 6, 8) |" in card
    assert "Do not judge them on parts" in card
    assert leakage(data, {"linear": adapter.card.__dict__})


@pytest.mark.parametrize(
    ("backbone", "flag", "below"),
    [
        ("zsas/tiny", "--preset tiny", ""),
        ("ViT-B-16-plus-240", "--preset paper", "base_model: timm/vit_base_patch16_plus_clip_240"),
        ("openai/clip-vit-base-patch16", "--clip openai/clip-vit-base", "base_model: openai/clip-"),
    ],
)
def test_the_command_on_a_model_card_loads_the_backbone(backbone, flag, below):
    assert adapters.flag_of(backbone).startswith(flag)
    found = adapters.base_of(backbone)
    assert found.startswith(below)
    assert bool(found) == bool(below)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_losses_and_maps_are_fp32_whatever_the_tower_runs_in(data, tmp_path, precision):
    clip = small_backbone(precision=precision)
    train(clip, data, tmp_path, Recipe(**{**RECIPE.__dict__, "epochs": 1, "holdout": 0.25}))
    (row,) = curve(tmp_path)
    assert 0 <= row["validation_auroc"] <= 1
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        found = margins(
            torch.randn(1, 1, 4, 8),
            torch.nn.ModuleList([torch.nn.Linear(8, 6)]),
            torch.randn(1, 2, 6),
            32,
            20.0,
        )
    assert found.dtype == torch.float32


@pytest.mark.parametrize("holdout", [0.0, 0.25])
def test_a_training_that_diverges_says_so_and_keeps_nothing(data, tmp_path, holdout):
    given = {"epochs": 1, "batch": 1, "resolution": 64, "holdout": holdout, "hidden": 8}
    wild = recipe_for("clipsam", data.name, lr=1000.0, **given)
    clip = small_backbone()
    with pytest.raises(ZsasError, match="diverged in epoch 1"):
        train(clip, data, tmp_path, wild, system="clipsam")
    assert not (tmp_path / "last.pt").exists()


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": 2**32}, {"lr": float("inf")}])
def test_numbers_that_no_training_can_have_are_refused(wrong):
    with pytest.raises(ZsasError, match=next(iter(wrong))):
        Recipe(**wrong)


def test_tokens_that_were_deleted_are_computed_again(data, tmp_path):
    train(small_backbone(), data, tmp_path, RECIPE)
    (tmp_path / "cache/tokens.f16").unlink()
    train(small_backbone(), data, tmp_path, RECIPE, resume=False)
    assert (tmp_path / "cache/tokens.f16").is_file()


def test_a_resumed_training_equals_an_uninterrupted_one(data, tmp_path):
    whole = train(small_backbone(), data, tmp_path / "whole", RECIPE)

    class Killed(BaseException):
        pass

    def stop(done, total):
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        train(small_backbone(), data, tmp_path / "cut", RECIPE, progress=stop)
    resumed = train(small_backbone(), data, tmp_path / "cut", RECIPE)
    assert_same_adapter(resumed, whole)
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")


def tokens_of(samples, folder, budget=10**9, **model):
    learner = LinearLayers(small_backbone(**model), RECIPE)
    return Tokens(learner, samples, folder, budget)


def test_tokens_are_computed_once_and_kept(data, tmp_path):
    tokens = tokens_of(data.samples, tmp_path)
    first = tokens.of([0, 5, 2])
    assert first.shape == (3, 4, 16, 48)
    assert torch.equal(tokens.of([5]), first[1:2])
    assert tokens.encoded == 3
    again = tokens_of(data.samples, tmp_path)
    assert torch.equal(again.of([2]), first[2:])
    assert again.encoded == 0
    (tmp_path / "tokens.f16").write_bytes(b"")  # of a disk that was full
    anew = tokens_of(data.samples, tmp_path)
    assert torch.equal(anew.of([2]), first[2:])
    assert anew.encoded == 1


def test_without_room_tokens_are_computed_each_time(data, tmp_path):
    tokens = tokens_of(data.samples, tmp_path / "none", budget=10)
    assert torch.equal(tokens.of([1]), tokens.of([1]))
    assert tokens.encoded == 2
    assert not (tmp_path / "none").exists()


def test_with_and_without_room_the_adapter_is_the_same(data, tmp_path):
    kept = train(small_backbone(), data, tmp_path / "a", RECIPE)
    anew = train(small_backbone(), data, tmp_path / "b", RECIPE, cache_bytes=0)
    assert_same_adapter(kept, anew)


def test_another_recipe_is_not_mixed_in(data, tmp_path):
    train(small_backbone(), data, tmp_path, RECIPE)
    with pytest.raises(ZsasError, match="another recipe, another model or other images"):
        train(small_backbone(), data, tmp_path, Recipe(**{**RECIPE.__dict__, "lr": 1e-4}))


@pytest.mark.parametrize("content", [b"", b"PK", b"[1]"])
def test_a_damaged_checkpoint_is_one_sentence(data, tmp_path, content):
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(ZsasError, match=r"last\.pt cannot be read .* start anew"):
        train(small_backbone(), data, tmp_path, RECIPE)


def renamed(name="small-clip", **model):
    clip = small_backbone(**model)
    clip.name = name
    return clip


@pytest.mark.parametrize("other", [{"name": "other-clip"}, {"seed": 1}])
def test_another_model_is_not_mixed_in(data, tmp_path, other):
    path = train(small_backbone(), data, tmp_path, RECIPE)
    before = {file: file.read_bytes() for file in (path, tmp_path / "cache/tokens.json")}
    with pytest.raises(ZsasError, match="another model"):
        train(renamed(**other), data, tmp_path, RECIPE)
    assert {file: file.read_bytes() for file in before} == before
    train(renamed(**other), data, tmp_path, RECIPE, resume=False)


def test_tokens_of_other_weights_or_pictures_are_stale(tmp_path):
    root = write_folder(tmp_path / "parts", per_kind=3)
    samples = load_dataset("folder", root).samples
    cache = tmp_path / "cache"
    tokens_of(samples, cache).of([0])
    other = tokens_of(samples, cache, seed=1)
    other.of([0])
    assert other.encoded == 1
    picture = samples[0].image.path
    shown = np.asarray(Image.open(picture))
    Image.fromarray(255 - shown // 2).save(picture, compress_level=0)
    replaced = tokens_of(samples, cache, seed=1)
    replaced.of([0])
    assert replaced.encoded == 1
    train(small_backbone(), load_dataset("folder", root), tmp_path / "run", RECIPE)
    Image.fromarray(shown).save(picture)
    with pytest.raises(ZsasError, match="other images"):
        train(small_backbone(), load_dataset("folder", root), tmp_path / "run", RECIPE)


def test_images_without_ground_truth_are_refused(tmp_path, data):
    (tmp_path / "flat").mkdir()
    source = data.samples[0].image.path
    (tmp_path / "flat/a.png").write_bytes(source.read_bytes())
    with pytest.raises(ZsasError, match=r"a.png has none"):
        train(small_backbone(), load_dataset("flat", tmp_path / "flat"), tmp_path / "out", RECIPE)


def test_recipes_are_the_published_ones():
    assert [recipe_for("april-gan", name).epochs for name in ("mvtec", "visa", "parts")] == [
        3,
        15,
        15,
    ]
    plus = recipe_for("sdp+", "mvtec", batch=None)
    assert (plus.lr, plus.betas, plus.batch, plus.epochs) == (1e-4, (0.9, 0.999), 8, 5)
    assert (plus.resolution, plus.seed, plus.shuffle) == (240, 42, False)
    prompts = recipe_for("anomalyclip", "visa", seed=7)
    assert (prompts.lr, prompts.betas, prompts.batch, prompts.epochs) == (1e-3, (0.5, 0.999), 8, 15)
    assert prompts.seed == 7
    assert LEARNERS["anomalyclip"].recipe.seed == 111
    clipsam = recipe_for("clipsam", "mvtec", hidden=64, shared=True)
    assert (clipsam.lr, clipsam.batch, clipsam.epochs, clipsam.resolution) == (1e-4, 8, 6, 518)
    assert (clipsam.hidden, clipsam.kernels, clipsam.shared) == (64, (3, 9), True)
    with pytest.raises(ZsasError, match=r"A training for sdp\+ has no hidden; leave it out"):
        recipe_for("sdp+", "mvtec", hidden=64)
    with pytest.raises(ZsasError, match="Nothing is trained for the system 'winclip'"):
        recipe_for("winclip", "mvtec")


@pytest.mark.parametrize(
    ("system", "lr", "learned", "read"),
    [
        ("sdp+", 5e-3, 4 * (48 * 24 + 24), lambda clip, path: SdpPlus(clip, read_adapter(path))),
        (
            "anomalyclip",
            2e-2,
            2 * 12 * 32 + 4 * 32,
            lambda clip, path: AnomalyClip(clip, read_prompts(path)),
        ),
        (
            "clipsam",
            2e-3,
            # A stage at 384 channels has 9,988,994 numbers for ViT-L/14-336; see tests/localizers/test_umci.py.
            sum(prod(shape) for shape in shapes(SMALL, 48, 24).values()),
            lambda clip, path: UmciLocalizer(clip, read_umci(path)),
        ),
        (
            "anomalyvfm",
            5e-3,
            8 * 3 * (2 * 2 * 48 + 48) + 48 * 9 * 16 + 16 * 9 * 16 + 24 * 9 * 8 + 9 * 16 + 67,
            lambda clip, path: AnomalyVfm(clip, read_vfm(path)),
        ),
        (
            "visualad",
            5e-3,
            4 * 48 + 8 * (48 * 48 + 48) + 4 * (20 * 48 + 4 * 48 * 48 + 5 * 48 + 4 * 48 + 5),
            lambda clip, path: VisualAd(clip, read_visual(path)),
        ),
    ],
)
def test_other_systems_learn_and_their_files_give_what_was_learned(
    data, tmp_path, system, lr, learned, read
):
    clip = small_backbone()
    changes = {"epochs": 10, "batch": 4, "resolution": 64, "holdout": 0.2, "lr": lr}
    changes |= {"hidden": 12} if system == "clipsam" else {}
    changes |= {"rank": 2, "channels": 16} if system == "anomalyvfm" else {}
    recipe = recipe_for(system, "parts", **changes)
    learner = LEARNERS[system](clip, recipe)
    assert sum(p.numel() for p in learner.module.parameters()) == learned
    path = train(clip, data, tmp_path, recipe, system=system)
    rows = curve(tmp_path)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert 0 <= rows[-1]["validation_auroc"] <= 1
    localizer = read(clip, path)
    assert localizer.card.trained_on == "parts"
    assert leakage(data, {"localizer": system, system: localizer.card.__dict__})
    last = torch.load(tmp_path / "last.pt", weights_only=True)["layers"]
    last.pop("level", None)  # stands in the card
    for saved, trained in zip(
        sorted(localizer.tensors(), key=lambda t: float(t.sum())),
        sorted(last.values(), key=lambda t: float(t.sum())),
        strict=True,
    ):
        torch.testing.assert_close(saved, trained.cpu())
    settings = Settings(system=system)
    assert localizer.encode([data.samples[0].load_image()], settings)[0].nbytes > 0
    assert f"--system {system}" in (tmp_path / "README.md").read_text()


def test_the_prompts_loss_counts_maps_four_times_and_the_image_once(data):
    clip = small_backbone()
    learner = LearnedPrompts(clip, recipe_for("anomalyclip", "parts", resolution=64))
    kept = torch.zeros(1, *learner.kept)  # every cosine 0: all maps are a half
    mask = torch.zeros(1, 64, 64)
    mask[:, :32] = 1
    losses = learner.losses(kept, ["bolt"], mask)
    assert float(losses.terms["focal"].detach()) == pytest.approx(4 * 0.25 * np.log(2), abs=1e-4)
    assert float(losses.terms["dice"].detach()) == pytest.approx(4 * 2 * 0.5, abs=1e-3)
    assert float(losses.terms["image"].detach()) == pytest.approx(np.log(2), abs=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_a_saved_umci_gives_the_map_that_was_learned(data, tmp_path, shared):
    clip = small_backbone()
    recipe = recipe_for(
        "clipsam", "parts", epochs=2, batch=4, resolution=64, hidden=8, kernels=(2,), shared=shared
    )
    learner = UmciModule(clip, recipe)
    image = data.samples[0].load_image()
    pixels = clip.pixels([image], 64)
    kept = learner.keep(pixels)
    losses = learner.losses(kept.half().float(), [""], torch.zeros(1, 64, 64))
    learner.save(tmp_path / "umci.safetensors", "parts", ("bolt",))
    localizer = UmciLocalizer(clip, read_umci(tmp_path / "umci.safetensors"))
    assert localizer.card.trained_categories == ("bolt",)
    settings = Settings(system="clipsam", blur=0)
    with torch.inference_mode():
        features = localizer.encode([image], settings)[0]
        square = np.zeros((64, 64, 3), np.uint8)  # the map in the CLIP frame
        context = Context(square, SamSession(None, None))  # type: ignore[arg-type]
        found = localizer.score(features, settings, context).map
    np.testing.assert_allclose(found, losses.maps[0].numpy(), atol=2e-3)


@pytest.mark.parametrize(("field", "value"), [("hidden", 2), ("kernels", ()), ("kernels", (0,))])
def test_wrong_sizes_of_umci_are_refused(field, value):
    with pytest.raises(ZsasError, match=field):
        UmciRecipe(**{field: value})


def test_layers_on_other_blocks_are_refused_where_the_system_has_its_own():
    clip = small_backbone()
    with pytest.raises(ZsasError, match="leave the blocks out"):
        SdpPlusLayers(clip, Recipe(blocks=(1, 2, 3, 4)))
    with pytest.raises(ZsasError, match="leave the blocks out"):
        LearnedPrompts(clip, Recipe(blocks=(1,)))


def test_another_system_is_not_mixed_in(data, tmp_path):
    train(small_backbone(), data, tmp_path, RECIPE)
    with pytest.raises(ZsasError, match="holds a training with another recipe"):
        train(small_backbone(), data, tmp_path, RECIPE, system="sdp+")


@pytest.mark.parametrize(("field", "value"), [("epochs", 0), ("batch", 0), ("holdout", 0.9)])
def test_wrong_recipes_are_refused(field, value):
    with pytest.raises(ZsasError, match=f"{field} is {value}"):
        Recipe(**{field: value})


def test_the_command(tmp_path, monkeypatch, data):
    from typer.testing import CliRunner

    from zsas.cli import app

    monkeypatch.setattr("zsas.models.Models.clip", property(lambda _: small_backbone()))
    root = data.samples[0].image.path.parents[3]
    words = (
        f"train adapters folder --root {root} --out {tmp_path / 'run'} --resolution 64 --epochs 1"
    )
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 0, result.output
    assert read_adapter(tmp_path / "run/adapter.safetensors").card.resolution == 64
    wrong = CliRunner().invoke(app, [*words.split(), "--fresh", "--blocks", "2,99"])
    assert wrong.exit_code == 2
    assert "from 1 to 8, the depth of small-clip" in wrong.stderr
