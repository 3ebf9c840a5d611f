"""Guards the bundled weights: their size, and their figures on a small fixed set of synthetic images.

The floors lie below what was measured when the weights were made (docs/tiny_models.md), by more than the set is noisy;
a broken export falls through them. Preprocessing, blur and the like have tests of their own beside the code.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tiny.synthetic import scene
from zsas import Segmenter, Settings
from zsas.models import WEIGHTS
from zsas.prompts import Prompt

pytestmark = pytest.mark.slow

SEED = 3_000_000
MAP_FLOOR = 0.74
BOX_FLOOR = 0.40
GAP_FLOOR = 0.1


@pytest.fixture(scope="module")
def tiny() -> Segmenter:
    return Segmenter.from_preset("tiny", cache_bytes=400_000_000)


@pytest.fixture(scope="module")
def images() -> list[scene.SyntheticSample]:
    return [
        scene.make_image(
            SEED + i,
            384,
            families=scene.TRAIN_FAMILIES,
            defect_types=scene.TRAIN_DEFECT_TYPES,
            anomalous=i % 3 > 0,
        )
        for i in range(24)
    ]


def test_the_files_are_small_enough_to_ship():
    files = [path for path in (WEIGHTS / "tiny").rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in files) <= 10_000_000
    assert sum(path.stat().st_size for path in files) <= 20_000_000
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".txt", ".md"}


def test_the_map_is_higher_on_defects_than_elsewhere(tiny, images):
    anomaly, truth = [], []
    for made in images:
        encoding = tiny.encode(made.image)
        anomaly.append(tiny.anomaly_map(encoding, Settings())[::4, ::4].ravel())
        truth.append(made.mask[::4, ::4].ravel())
    assert roc_auc_score(np.concatenate(truth), np.concatenate(anomaly)) >= MAP_FLOOR


def test_the_map_of_anomalyvfm_is_higher_on_defects_than_elsewhere(tiny, images):
    settings = Settings(system="anomalyvfm", views="one")
    anomaly, truth = [], []
    for made in images[:12]:
        encoding = tiny.encode(made.image, settings)
        anomaly.append(tiny.anomaly_map(encoding, settings)[::4, ::4].ravel())
        truth.append(made.mask[::4, ::4].ravel())
    assert roc_auc_score(np.concatenate(truth), np.concatenate(anomaly)) >= MAP_FLOOR


def test_weights_of_systems_are_smaller_than_their_limit():
    assert (WEIGHTS / "tiny" / "anomalyvfm.safetensors").stat().st_size <= 700_000


def test_defective_photos_score_higher_than_sound_ones(tiny, images):
    scores = [tiny(made.image, Settings()).image_score for made in images]
    anomalous = np.array([made.mask.any() for made in images])
    gap = np.mean(np.array(scores)[anomalous]) - np.mean(np.array(scores)[~anomalous])
    assert gap >= GAP_FLOOR


def test_a_box_around_a_part_gives_the_part(tiny, images):
    found = []
    for made in images:
        sizes = np.bincount(made.parts.ravel())[1:]
        if not sizes.size or sizes.max() < 2000:
            continue
        part = made.parts == 1 + int(sizes.argmax())
        rows, columns = np.nonzero(part)
        box = np.array([columns.min(), rows.min(), columns.max(), rows.max()], np.float32)
        (features,) = tiny.sam.encode([made.image])
        prompt = Prompt(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), box=box)
        (answer,) = tiny.sam.decode(features, [prompt])
        masks = [features.frame.grid_to_image(logits) > 0 for logits in answer.logits]
        found.append(max((m & part).sum() / (m | part).sum() for m in masks))
    assert len(found) >= 6
    assert np.mean(found) >= BOX_FLOOR


def test_a_defect_free_photo_can_get_the_verdict_normal(tiny, images):
    verdicts = [tiny(made.image, Settings()).anomalous for made in images if not made.mask.any()]
    assert not all(verdicts)


def test_the_tokenizer_knows_its_own_sentences(tiny):
    tokens = tiny.clip.tokenizer("a photo of a damaged metal nut.")["input_ids"]
    assert tokens[-1] == tiny.clip.model.config.text_config.eos_token_id
    assert 5 < len(tokens) <= tiny.clip.model.config.text_config.max_position_embeddings
