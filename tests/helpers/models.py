"""Small models with random weights: the real classes, fast enough for tests, and never outside them."""

from __future__ import annotations

import torch
from transformers import CLIPConfig, CLIPModel, SamConfig, SamModel

from zsas.backbones.sam import Sam, TransformersSam
from zsas.clip import ClipBackbone
from zsas.localizers.linear import Adapter, AdapterCard, LinearLocalizer
from zsas.localizers.training_free import TrainingFreeLocalizer
from zsas.pipeline import Segmenter

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
    return with_lively_weights(SamModel(config).eval())


def with_lively_weights(model: SamModel) -> SamModel:
    """transformers starts SAM at almost zero, where any two networks agree; give it weights that matter."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "positional_embedding" in name:
                weight.normal_()
            elif "norm" not in name:
                weight.normal_(std=0.1 if weight.ndim > 1 else 0.02)
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
