"""UMCI: the parts of the reading that can be checked by hand, its size, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch

from tests.helpers.models import small_adapter, small_backbone, small_umci
from zsas.backbones.session import SamSession
from zsas.errors import ZsasError
from zsas.localizers import umci as umci_module
from zsas.localizers.base import Context
from zsas.localizers.umci import (
    Stage,
    Umci,
    UmciCard,
    UmciLocalizer,
    first_weights,
    margins,
    read_umci,
    shapes,
)
from zsas.models import ModelChoice, Models
from zsas.settings import Settings

IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
FULL = UmciCard("ViT-L", 518, "quick_gelu", "", blocks=(6, 12, 18, 24), text_ensemble="")


@pytest.fixture(scope="module")
def clip():
    return small_backbone()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def count(card: UmciCard) -> int:
    return sum(prod(shape) for shape in shapes(card, 1024, 768).values())


def test_the_proposed_size_is_ten_million_numbers_a_stage():
    """384 channels: layers of patches and text, two strips, six attentions, four convolutions, two last layers."""
    c = 384
    attention = 3 * (c * c + c)
    stage = (1024 * c + c) + (768 * c + c) + 2 * (3 * c * c + c) + 6 * attention
    stage += 4 * (9 * c * c + c) + (3 * c * c + c) + (2 * c + 2)
    assert count(FULL) == 4 * stage == 4 * 9_988_994
    assert count(replace(FULL, shared=True)) == stage + 3 * (1024 * c + c)
    assert count(replace(FULL, visual=False)) == 4 * (stage - c * c)


def test_attention_by_hand():
    """With unit matrices and no bias: softmax(q · k / √C) over the keys, times the values."""
    card = replace(FULL, blocks=(1,), hidden=4, kernels=(2,))
    tensors = first_weights(card, 8, 6)
    for what in ("q", "k", "v"):
        tensors[f"0.rows.{what}.weight"] = torch.eye(4)
        tensors[f"0.rows.{what}.bias"] = torch.zeros(4)
    keys = torch.tensor([[[2.0, 0, 0, 0], [0, 2.0, 0, 0]]])
    found = Stage(Umci(card, tensors), 0).attend("rows", torch.tensor([[[1.0, 0, 0, 0]]]), keys)
    first = np.exp(1) / (np.exp(1) + 1)  # 2 / √4 against 0
    np.testing.assert_allclose(found[0, 0], [2 * first, 2 * (1 - first), 0, 0], atol=1e-6)


def test_an_even_image_gives_an_even_map(clip):
    """Attention is constant over the grid then, and repeated edges keep the convolutions so."""
    umci = small_umci(clip)
    patches = normal(1, 4, 1, 1, clip.width).expand(1, 4, 7, 7, clip.width)
    found = margins(umci, patches, normal(1, 2, clip.projection))
    assert found.shape == (1, 4, 7, 7)
    torch.testing.assert_close(found, found[..., :1, :1].expand_as(found), atol=1e-5, rtol=0)


def test_columns_in_another_order_leave_the_rows_as_they_are(clip):
    """What text learns of rows is a mean over columns; patches then answer for themselves."""
    umci = small_umci(clip, blocks=(2,))
    stage = Stage(umci, 0)
    visual, words = normal(1, 5, 6, 12), normal(1, 2, 12, seed=1)
    order = [3, 1, 5, 0, 2, 4]
    one, other = (x.mean(dim=2) for x in (visual, visual[:, :, order]))
    torch.testing.assert_close(
        stage.attend("text_rows", words, one), stage.attend("text_rows", words, other)
    )
    assert not torch.allclose(
        stage.strip_path(visual, words)[:, :, order], stage.strip_path(visual[:, :, order], words)
    )


def test_scales_larger_than_the_grid_are_one_cell(clip):
    umci = small_umci(clip, blocks=(2,), kernels=(9,))
    found = Stage(umci, 0).scale_path(normal(1, 3, 3, 12), normal(1, 2, 12))
    torch.testing.assert_close(found, found[:, :1, :1].expand_as(found), atol=1e-5, rtol=0)


def test_stages_share_all_but_the_first_layer_where_asked(clip):
    umci = small_umci(clip, shared=True)
    patches = normal(1, 1, 4, 4, clip.width).expand(1, 4, 4, 4, clip.width)
    states = normal(1, 2, clip.projection)
    assert not torch.allclose(*margins(umci, patches, states)[0, :2])
    same = dict(umci.tensors)
    for end in ("weight", "bias"):
        same[f"1.visual.{end}"] = same[f"0.visual.{end}"]
    torch.testing.assert_close(*margins(Umci(umci.card, same), patches, states)[0, :2])


def test_patches_join_the_paths_only_where_asked(clip):
    with_patches, without = (small_umci(clip, visual=flag) for flag in (True, False))
    assert with_patches.tensors["0.joined.weight"].shape == (12, 36)
    assert without.tensors["0.joined.weight"].shape == (12, 24)


def scored(localizer: UmciLocalizer, **values: object):
    settings = Settings(system="clipsam", **values)
    with torch.inference_mode():
        features = localizer.encode([IMAGE], settings)[0]
        context = Context(IMAGE, SamSession(None, None))  # type: ignore[arg-type]
        return features, localizer.score(features, settings, context)


def test_the_map_is_the_mean_of_the_stages_probabilities(clip):
    localizer = UmciLocalizer(clip, small_umci(clip))
    features, found = scored(localizer, blur=0, resolution=128)
    assert found.map.shape == IMAGE.shape[:2]
    assert 0 < found.map.min() < found.map.max() < 1
    assert set(found.evidence) == {"map", "clip"}
    (tile,) = features.tiles
    logits = margins(localizer.umci, tile.layers.float(), clip.state_vectors("")[None])
    corners = logits.sigmoid().mean(1)[0, ::7, ::7]  # corners are aligned
    small = torch.from_numpy(np.array(found.map))[[0, 0, -1, -1], [0, -1, 0, -1]].view(2, 2)
    torch.testing.assert_close(small, corners, atol=0.01, rtol=0)


def test_the_object_reaches_the_map_without_a_new_encoding(clip):
    localizer = UmciLocalizer(clip, small_umci(clip))
    one, other = (scored(localizer, object_name=name)[1] for name in ("", "metal nut"))
    assert not np.array_equal(one.map, other.map)


def test_a_setting_that_only_blurs_does_not_run_the_module_again(clip, monkeypatch):
    localizer = UmciLocalizer(clip, small_umci(clip))
    features, first = scored(localizer, blur=4)
    asked = []
    whole = umci_module.margins
    monkeypatch.setattr(umci_module, "margins", lambda *a: asked.append(a) or whole(*a))
    context = Context(IMAGE, SamSession(None, None))  # type: ignore[arg-type]
    for values in ({"blur": 9}, {"blur": 4}, {"object_name": "nut"}, {"object_name": "nut"}):
        with torch.inference_mode():
            found = localizer.score(features, Settings(system="clipsam", **values), context)
        if values == {"blur": 4}:
            np.testing.assert_array_equal(found.map, first.map)
    assert len(asked) == 1  # for the other object


def test_a_file_gives_the_same_map_and_card(clip, tmp_path):
    umci = small_umci(clip, kernels=(2, 3), visual=False, trained_categories=("nut",))
    umci.save(tmp_path / "umci.safetensors")
    again = read_umci(tmp_path / "umci.safetensors")
    assert again.card == umci.card
    one, other = (scored(UmciLocalizer(clip, x))[1].map for x in (umci, again))
    np.testing.assert_array_equal(one, other)


def test_weights_of_another_system_or_tower_are_refused(clip, tmp_path):
    small_adapter(clip).save(tmp_path / "a.safetensors")
    with pytest.raises(ZsasError, match=r"trained for the localizer linear.*--weights linear="):
        read_umci(tmp_path / "a.safetensors")
    with pytest.raises(ZsasError, match="made for ViT-L, but small-clip is loaded"):
        UmciLocalizer(clip, small_umci(clip, backbone="ViT-L"))
    odd = small_umci(clip)
    lacking = {name: one for name, one in odd.tensors.items() if name != "3.states.bias"}
    with pytest.raises(ZsasError, match=r"does not fit small-clip.*3\.states\.bias is missing"):
        UmciLocalizer(clip, Umci(odd.card, lacking))
    with pytest.raises(ZsasError, match=r"it reads \(2, 4, 6, 9\)"):
        UmciLocalizer(clip, small_umci(clip, blocks=(2, 4, 6, 9)))


def test_damaged_and_missing_files_are_one_sentence(clip, tmp_path):
    with pytest.raises(ZsasError, match="There is no file"):
        read_umci(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(ZsasError, match="damaged or of another kind"):
        read_umci(tmp_path / "bad.safetensors")
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={"localizer": "umci"})
    with pytest.raises(ZsasError, match="lacks or garbles 'backbone'"):
        read_umci(tmp_path / "x.safetensors")


def test_without_weights_the_system_says_how_to_train_it():
    models = Models(ModelChoice("light"))
    assert not UmciLocalizer.available(models)
    with pytest.raises(ZsasError, match="zsas train adapters DATASET --system clipsam"):
        UmciLocalizer.load(models)
