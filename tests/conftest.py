"""Small models with random weights: the real classes, fast enough for tests, and never outside them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import CLIPConfig, CLIPModel, SamConfig, SamModel

from zsas.clip import ClipBackbone
from zsas.localizers.linear import Adapter, AdapterCard, LinearLocalizer
from zsas.localizers.training_free import TrainingFreeLocalizer
from zsas.pipeline import Segmenter
from zsas.result import CascadeStep, Points, Result, find_regions
from zsas.sam import Sam, TransformersSam
from zsas.settings import Settings

CPU = torch.device("cpu")


class LetterTokenizer:
    """One token a letter: enough words for a text tower with random weights."""

    def __call__(
        self, sentences: list[str], *, max_length: int, **_: object
    ) -> dict[str, torch.Tensor]:
        rows = [[1, *(3 + ord(c) % 60 for c in s[: max_length - 2]), 2] for s in sentences]
        width = max(map(len, rows))
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        return {"input_ids": ids, "attention_mask": (ids != 0).long()}


def small_clip(seed: int = 0, hidden_act: str = "quick_gelu") -> CLIPModel:
    torch.manual_seed(seed)
    config = CLIPConfig(
        text_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "vocab_size": 64,
            "max_position_embeddings": 77,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
        },
        vision_config={
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 8,
            "num_attention_heads": 3,
            "image_size": 64,
            "patch_size": 16,
            "hidden_act": hidden_act,
        },
        projection_dim=24,
    )
    return CLIPModel(config).eval()


def small_sam(seed: int = 0) -> SamModel:
    torch.manual_seed(seed)
    config = SamConfig(
        vision_config={
            "hidden_size": 32,
            "output_channels": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 256,
            "patch_size": 16,
            "window_size": 4,
            "global_attn_indexes": [1],
            "num_pos_feats": 16,
            "mlp_dim": 64,
        },
        prompt_encoder_config={
            "hidden_size": 32,
            "image_size": 256,
            "patch_size": 16,
            "mask_input_channels": 8,
        },
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 64,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
        },
    )
    model = SamModel(config).eval()
    with torch.no_grad():
        for embedding in (model.shared_image_embedding, model.prompt_encoder.shared_embedding):
            embedding.positional_embedding.normal_()
    return model


def small_backbone(precision: str = "fp32", seed: int = 0) -> ClipBackbone:
    return ClipBackbone(
        small_clip(seed), LetterTokenizer(), name="small-clip", device=CPU, precision=precision
    )


def small_adapter(clip: ClipBackbone, seed: int = 0, **card: object) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    entries: dict[str, object] = {
        "backbone": clip.name,
        "blocks": (2, 4, 6, 8),
        "resolution": 128,
        "activation": clip.activation,
        "trained_on": "nothing",
        "text_ensemble": "zsas-7+5x35",
        "scale": 10.0,
    }
    return Adapter(
        AdapterCard(**{**entries, **card}),
        tuple(torch.randn(clip.projection, clip.width, generator=generator) for _ in range(4)),
        tuple(torch.zeros(clip.projection) for _ in range(4)),
    )


def small_segmenter(precision: str = "fp32") -> Segmenter:
    clip = small_backbone(precision)
    return Segmenter(
        clip,
        Sam(TransformersSam(small_sam(), CPU, precision), CPU),
        {
            "training_free": TrainingFreeLocalizer(clip),
            "linear": LinearLocalizer(clip, small_adapter(clip)),
        },
        preset="small",
    )


@pytest.fixture(scope="session")
def segmenter() -> Segmenter:
    """Both models small, random and fp32; shared, so that tests read counters as differences."""
    return small_segmenter()


@pytest.fixture
def photo() -> NDArray[np.uint8]:
    """A grey plate of 120 × 160 pixels with a dark spot at (100, 40)."""
    y, x = np.mgrid[:120, :160]
    plate = np.full((120, 160, 3), 150, np.uint8)
    plate += (np.random.default_rng(0).integers(0, 12, (120, 160, 1))).astype(np.uint8)
    plate[(x - 100) ** 2 + (y - 40) ** 2 < 144] = 30
    return plate


@pytest.fixture
def make_result() -> Callable[..., Result]:
    """Builds a whole result without any model: one round defect, and a click of a person."""

    def make(height: int = 60, width: int = 80, **changes: Any) -> Result:
        rows, columns = np.mgrid[:height, :width]
        apart = np.hypot((columns - width * 0.4) / width, (rows - height * 0.5) / height)
        anomaly_map = (0.1 + 0.7 * np.exp(-((apart / 0.12) ** 2))).astype(np.float32)
        region = anomaly_map > 0.5
        ring = cv2.dilate(region.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool) & ~region
        image = np.full((height, width, 3), 128, np.uint8)
        image[..., 0] += (columns % 50).astype(np.uint8)
        mask = anomaly_map > 0.45
        score_map = (0.5 * mask + 0.5 * anomaly_map).astype(np.float32)
        result = Result(
            image=image,
            anomaly_map=anomaly_map,
            region=region,
            ring=ring,
            points=Points(
                np.array([[32, 30], [40, 30], [10, 10]], np.float32),
                np.array([1, 0, 0]),
                ("map", "ring", "click"),
            ),
            steps=(
                CascadeStep("M1", region, 0.71, prompts="3 points"),
                CascadeStep("M2", region, 0.82, prompts="3 points and the logits of M1"),
                CascadeStep("M3", mask, 0.93, prompts="3 points, box and the logits of M2"),
            ),
            box=np.array([[25, 20, 40, 41]], np.float32),
            winner="M3",
            mask=mask,
            score_map=score_map,
            image_score=0.83,
            anomalous=True,
            regions=find_regions(mask, score_map),
            settings=Settings(),
            preset="tiny",
            localizer="linear",
            versions={"zsas": "0.1.0"},
            timings={"encode": 0.5, "decide": 0.01},
        )
        return dataclasses.replace(result, **changes)

    return make


@pytest.fixture
def normal_result(make_result: Callable[..., Result]) -> Result:
    """A defect-free photo: nothing above the threshold, so no points and no cascade."""
    nothing = np.zeros((60, 80), bool)
    return make_result(
        anomaly_map=np.full((60, 80), 0.1, np.float32),
        region=nothing,
        ring=nothing,
        points=Points.none(),
        steps=(),
        box=np.zeros((0, 4), np.float32),
        winner="",
        mask=nothing,
        score_map=np.full((60, 80), 0.05, np.float32),
        image_score=0.12,
        anomalous=False,
        regions=(),
    )
