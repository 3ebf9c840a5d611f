from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.helpers.datasets import write_folder
from tests.helpers.models import small_backbone
from zsas.datasets.load import load_dataset
from zsas.errors import ZsasError
from zsas.localizers.anomalyvfm_net import read_vfm
from zsas.localizers.visualad_net import read_visual
from zsas.training.adapters import recipe_for, train
from zsas.training.learners import LEARNERS
from zsas.training.losses import alpha_focal_loss
from zsas.training.towers import AdaptedTower, VisualTokens, _Level, apart_loss, pixel_loss

pytestmark = pytest.mark.slow

SMALL = {"resolution": 64, "rank": 2, "channels": 16, "lr": 5e-3}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return load_dataset("folder", write_folder(tmp_path_factory.mktemp("parts"), per_kind=4))


def test_the_published_recipe_of_anomalyvfm():
    recipe = recipe_for("anomalyvfm", "mvtec")
    assert (recipe.steps, recipe.batch, recipe.at_once, recipe.lr) == (500, 32, 4, 1e-4)
    assert (recipe.resolution, recipe.rank, recipe.weight_decay, recipe.seed) == (672, 64, 0.01, 12)
    assert recipe_for("anomalyvfm", "mvtec", epochs=2).steps == 0


def test_the_pixel_loss_where_nothing_is_known():
    """Logit and confidence 0: 1.363902 where anomalous, 2.230336 where normal."""
    zero = torch.zeros(2)
    found = pixel_loss(zero, zero, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(found, torch.tensor([1.363902, 2.230336]))
    torch.testing.assert_close(
        pixel_loss(zero, None, torch.zeros(2)), torch.full((2,), 1.149826), atol=1e-4, rtol=0
    )


def test_focal_loss_with_alpha_by_hand():
    loss = alpha_focal_loss(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(loss, torch.tensor([0.25 * 0.25 * 0.693147, 0.75 * 0.25 * 0.693147]))


def test_gradients_reach_the_tower_the_decoder_and_the_predictor():
    learner = AdaptedTower(small_backbone(), recipe_for("anomalyvfm", "parts", **SMALL))
    for name, tensor in learner.tensors.items():
        if name.endswith("lora_B"):
            tensor.data.normal_(std=0.1)  # A has no gradient where B is 0
    mask = torch.zeros(2, 64, 64)
    mask[0, :32] = 1
    learner.losses(torch.randn(2, 3, 64, 64), ["", ""], mask).total.backward()
    for name, tensor in learner.tensors.items():
        assert tensor.grad is not None, name
        assert float(tensor.grad.abs().sum()) > 0, name


def test_a_number_of_steps_ends_a_training_in_the_middle_of_an_epoch(data, tmp_path: Path):
    recipe = recipe_for("anomalyvfm", "parts", steps=3, batch=4, holdout=0.0, **SMALL)
    steps = []

    class Counted(AdaptedTower):
        def before_step(self) -> None:
            steps.append(1)

    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(LEARNERS, "anomalyvfm", Counted)
        path = train(small_backbone(), data, tmp_path, recipe, system="anomalyvfm")
    assert len(steps) == 3
    assert read_vfm(path).card.trained_on == data.name


def test_images_that_do_not_fit_at_once_give_the_same_step(data, tmp_path: Path):
    found = []
    for at_once in (0, 2):
        recipe = recipe_for(
            "anomalyvfm", "parts", steps=1, batch=4, holdout=0.0, at_once=at_once, **SMALL
        )
        path = train(small_backbone(), data, tmp_path / str(at_once), recipe, system="anomalyvfm")
        found.append(read_vfm(path).tensors)
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], atol=2e-3, rtol=1e-2, msg=name)


def test_a_training_goes_on_where_it_was_stopped(data, tmp_path: Path):
    def trained(folder: str, *parts: int) -> dict[str, torch.Tensor]:
        for epochs in parts:
            recipe = recipe_for("anomalyvfm", "parts", epochs=2, batch=4, **SMALL)
            stop = _after(epochs)
            try:
                train(
                    small_backbone(),
                    data,
                    tmp_path / folder,
                    recipe,
                    system="anomalyvfm",
                    progress=stop,
                )
            except InterruptedError:
                continue
        return dict(read_vfm(tmp_path / folder / "anomalyvfm.safetensors").tensors)

    whole, parts = trained("whole", 2), trained("parts", 1, 2)
    for name, tensor in whole.items():
        torch.testing.assert_close(tensor, parts[name], msg=name)


def _after(epochs: int):
    def progress(done: int, total: int) -> None:
        if done == epochs < total:
            raise InterruptedError

    return progress


def test_the_published_recipe_of_visualad():
    assert [recipe_for("visualad", name).epochs for name in ("visa", "mvtec", "parts")] == [1, 2, 2]
    recipe = recipe_for("visualad", "visa")
    assert (recipe.batch, recipe.lr, recipe.resolution, recipe.seed) == (8, 1e-4, 518, 111)
    learner = VisualTokens(small_backbone(), recipe_for("visualad", "visa", resolution=64))
    optimizer = learner.optimizer()
    rates = []
    for epoch in range(2):
        learner.before_epoch(optimizer, epoch, 2)
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert rates[0] == pytest.approx([1e-3, 1e-4])
    assert rates[1] == pytest.approx([5.5e-4, 1e-4])


def test_tokens_are_to_be_120_degrees_apart():
    def loss(cosine: float) -> float:
        sine = (1 - cosine**2) ** 0.5
        return float(apart_loss(torch.tensor([[[1.0, 0.0], [cosine, sine]]])))

    assert [loss(cosine) for cosine in (-0.5, 0.0, 1.0)] == pytest.approx([0.0, 0.5, 1.5], abs=1e-6)


def test_visualad_where_both_tokens_are_one():
    """Every map is 0: focal 4 · ¼ ln 2, cross-entropy ln 2, angle 1.5."""
    learner = VisualTokens(small_backbone(), recipe_for("visualad", "parts", resolution=64))
    learner.module["anomaly_token"].data = learner.module["normal_token"].data.clone()
    mask = torch.zeros(1, 64, 64)
    mask[:, :32] = 1
    with torch.no_grad():
        terms = learner.losses(torch.randn(1, 3, 64, 64), [""], mask).terms
    assert float(terms["focal"]) == pytest.approx(0.693147, abs=1e-5)
    assert float(terms["image"]) == pytest.approx(0.693147, abs=1e-5)
    assert float(terms["apart"]) == pytest.approx(1.5, abs=1e-5)
    assert float(terms["dice"]) == pytest.approx(4 * 0.5, abs=1e-3)


def test_the_angle_is_that_of_the_tokens_with_what_they_gather():
    """The layer's attention turns both tokens towards its patches, so that they lie nearer to each other."""
    learner = VisualTokens(small_backbone(), recipe_for("visualad", "parts", resolution=64))
    last = f"cross_attn.layer_attentions.layer_{learner.card.blocks[-1]}.res_scale"
    mask = torch.zeros(1, 64, 64)

    def apart(strength: float) -> float:
        learner.module[last.replace(".", "/")].data.fill_(strength)
        torch.manual_seed(0)
        with torch.no_grad():
            return float(learner.losses(torch.ones(1, 3, 64, 64), [""], mask).terms["apart"])

    assert apart(1e4) == pytest.approx(1.5, abs=0.05)
    assert apart(0.0) < 1.4


def test_gradients_reach_all_of_visualad_and_tokens_are_clipped():
    learner = VisualTokens(small_backbone(), recipe_for("visualad", "parts", resolution=64))
    mask = torch.zeros(2, 64, 64)
    mask[0, :32] = 1
    (1e4 * learner.losses(torch.randn(2, 3, 64, 64), ["", ""], mask).total).backward()
    for name, tensor in learner.tensors.items():
        assert tensor.grad is not None, name
        assert float(tensor.grad.abs().sum()) > 0, name
    learner.before_step()
    for name in ("anomaly_token", "normal_token"):
        assert float(learner.tensors[name].grad.norm()) == pytest.approx(1.0, abs=1e-4)


def test_the_level_of_visualad_is_where_f1_is_best_and_survives_a_break(data, tmp_path: Path):
    recipe = recipe_for("visualad", "parts", epochs=1, batch=4, resolution=64)
    paths = [
        train(small_backbone(), data, tmp_path, recipe, system="visualad") for _ in range(2)
    ]  # the second only writes the file again
    cards = [read_visual(path).card for path in paths]
    assert cards[0] == cards[1]
    assert cards[0].spread != 1.0
    level = _Level()
    values = torch.tensor([[0.0, 0.1, 0.2, 0.9, 1.0]])
    level.remember(values, torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0]]))
    assert level.found()[0] == pytest.approx(0.9)


def test_what_cannot_learn_is_refused():
    with pytest.raises(ZsasError, match="leave the blocks out"):
        AdaptedTower(small_backbone(), recipe_for("anomalyvfm", "parts", blocks=(1,)))
    with pytest.raises(ZsasError, match="cannot learn in int8"):
        AdaptedTower(small_backbone("int8"), recipe_for("anomalyvfm", "parts", **SMALL))
    with pytest.raises(ZsasError, match="multiple of 4"):
        AdaptedTower(small_backbone(), recipe_for("anomalyvfm", "parts", channels=18))
