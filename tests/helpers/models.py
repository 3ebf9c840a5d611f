"""Small models with random weights: the real classes, fast enough for tests, and never outside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    ResNetConfig,
    ResNetModel,
    SamConfig,
    SamModel,
)

from tests.helpers.detectors import small_detector, small_resnet
from zsas.backbones.clip import ClipBackbone
from zsas.backbones.patch_features import PatchBackbone
from zsas.backbones.resnet import ResNet, ResNetFeatures
from zsas.backbones.sam import Sam
from zsas.backbones.sam_families import TransformersSam
from zsas.localizers.adapter import Adapter, AdapterCard, Card
from zsas.localizers.anomalyclip import AnomalyClip, Prompts
from zsas.localizers.anomalyvfm import AnomalyVfm
from zsas.localizers.anomalyvfm_net import VfmCard, VfmWeights
from zsas.localizers.base import Localizer, Scored, map_stage
from zsas.localizers.linear import Linear
from zsas.localizers.saa import Saa, SaaPlus
from zsas.localizers.sdp_plus import SdpPlus
from zsas.localizers.umci import Umci, UmciCard, UmciLocalizer, first_weights
from zsas.localizers.visualad import VisualAd
from zsas.localizers.visualad_net import VisualCard, VisualWeights
from zsas.localizers.vv import VV
from zsas.models import ModelChoice, Models
from zsas.segmenter import Segmenter

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


def _card(make: Callable[..., Any], clip: ClipBackbone, entries: dict[str, Any], **own: Any) -> Any:
    """A card of weights for a small CLIP: what all cards say, what its kind says, and what a test wants."""
    common = {"backbone": clip.name, "activation": clip.activation, "resolution": 128}
    return make(**{**common, "trained_on": "nothing", **own, **entries})


def wide_backbone() -> ClipBackbone:
    """A CLIP whose image tower is as wide and as deep as ViT-L/14's, without its MLPs: to count what is added to it."""
    vision = {
        "hidden_size": 1024, "intermediate_size": 4, "num_hidden_layers": 24,
        "num_attention_heads": 16, "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    text = {
        "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 1, "vocab_size": 8,
    }  # fmt: skip
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    return ClipBackbone(model, LetterTokenizer(), name="large", device=CPU)


def small_adapter(clip: ClipBackbone, seed: int = 0, **card: object) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    own = {"blocks": (2, 4, 6, 8), "text_ensemble": "zsas-7+5x35", "scale": 10.0}
    return Adapter(
        _card(AdapterCard, clip, card, **own),
        tuple(torch.randn(clip.projection, clip.width, generator=generator) for _ in range(4)),
        tuple(torch.zeros(clip.projection) for _ in range(4)),
    )


def small_vision(kind: str) -> torch.nn.Module:
    """A DINOv2 (84 px, 6 × 6 patches) or a ResNet of transformers with random weights."""
    torch.manual_seed(0)
    if kind == "resnet":
        sizes = {"embedding_size": 8, "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1]}
        return ResNetModel(ResNetConfig(**sizes, layer_type="basic")).eval()
    heads = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return Dinov2Model(Dinov2Config(**heads, image_size=84, patch_size=14)).eval()


class ReadyModels(Models):
    """Models that are in memory already; what is not there cannot be had."""

    def __init__(self, clip: ClipBackbone, sam: Sam | None = None, name: str = "small") -> None:
        super().__init__(ModelChoice("tiny"))
        self.choice = ModelChoice(name)
        self.device = CPU
        self._loaded = {"clip": clip}
        if sam:
            self._loaded["sam"] = sam

    def weights(self, localizer: str) -> None:
        return None

    def source_of_features(self, kind: str) -> str:
        return f"small-{kind}"

    def patch_features(self, kind: str) -> PatchBackbone:
        if kind not in self._patch_features:
            name = self.source_of_features(kind)
            made = PatchBackbone(small_vision(kind), name=name, device=CPU, precision="fp32")
            self._patch_features[kind] = made
        return self._patch_features[kind]


def small_prompts(clip: ClipBackbone, seed: int = 0, **card: object) -> Prompts:
    """Random learned prompts of AnomalyCLIP for a small text tower."""
    generator = torch.Generator().manual_seed(seed)
    width = clip.model.config.text_config.hidden_size
    drawn = [torch.randn(count, width, generator=generator) for count in (12, 12, 4)]
    return Prompts(_card(Card, clip, card), drawn[0], drawn[1], (drawn[2],))


def small_umci(clip: ClipBackbone, seed: int = 0, **card: object) -> Umci:
    """A UMCI with random weights for a small CLIP."""
    own = {"blocks": (2, 4, 6, 8), "text_ensemble": "zsas-7+5x35", "hidden": 12}
    made = _card(UmciCard, clip, card, **own)
    torch.manual_seed(seed)
    return Umci(made, first_weights(made, clip.width, clip.projection))


def small_vfm(clip: ClipBackbone, seed: int = 0, rank: int = 2, **card: object) -> VfmWeights:
    """Random weights of AnomalyVFM that change every adapted matrix, with a decoder of 16 channels."""
    from zsas.training.towers import fresh

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tensors = fresh(clip, rank, 16)
        for name, tensor in tensors.items():
            if name.endswith("lora_B") or "bias" in name:
                tensor.normal_(std=0.5)
    own = {"groups": 2, "views": ((1.0, False), (0.5, True))}
    return VfmWeights(_card(VfmCard, clip, card, **own), tensors)


def small_visual(
    clip: ClipBackbone, seed: int = 0, *, attention: bool = True, **card: object
) -> VisualWeights:
    """Random weights of VisualAD, with a last norm that is not the backbone's."""
    from zsas.training.towers import fresh_visual

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tensors = fresh_visual(clip, (2, 4, 6, 8), 64, attention=attention)
        for name, tensor in tensors.items():
            if name in ("anomaly_token", "normal_token", "ln_post_weight", "ln_post_bias"):
                tensor.normal_()
    own = {"blocks": (2, 4, 6, 8), "views": ((1.0, False), (0.5, True))}
    return VisualWeights(_card(VisualCard, clip, card, **own), tensors)


def small_saas() -> list[Localizer]:
    """SAA and SAA+ on a small Grounding DINO and a small ResNet, which look at small squares."""
    detector = small_detector()
    saliency = ResNetFeatures(ResNet(small_resnet().state_dict()), CPU)
    return [Saa(detector), SaaPlus(detector, saliency, sides=(64, 128))]


def every_system_segmenter() -> Segmenter:
    """Every system of the registry on small models; what needs learned weights has random ones."""
    clip = small_backbone()
    sam = Sam(TransformersSam(small_sam(), CPU, "fp32"), CPU)
    learned: list[Localizer] = [
        Linear(clip, small_adapter(clip, views=((1.0, False), (0.5, True)))),
        SdpPlus(clip, small_adapter(clip, text_ensemble="zsas-9+10x22", localizer="sdp+")),
        AnomalyClip(clip, small_prompts(clip)),
        UmciLocalizer(clip, small_umci(clip)),
        AnomalyVfm(clip, small_vfm(clip)),
        VisualAd(clip, small_visual(clip)),
        *small_saas(),
    ]
    return Segmenter(ReadyModels(clip, sam), localizers=learned)


def small_segmenter(precision: str = "fp32", *, linear: bool = True) -> Segmenter:
    clip = small_backbone(precision)
    sam = Sam(TransformersSam(small_sam(), CPU, precision), CPU)
    adapter = small_adapter(clip, views=((1.0, False), (0.5, True)))
    localizers = [Linear(clip, adapter)] if linear else []
    return Segmenter(ReadyModels(clip, sam), localizers=[VV(clip), *localizers])


class _Size:
    """Features of a localizer that needs none."""

    nbytes = 1

    def to(self, device: object) -> _Size:
        return self


class FixedMap(Localizer):
    """A localizer that gives one map to every image, under the name of the linear layers."""

    name = "linear"
    title = "a fixed map"

    def __init__(self, anomaly_map: NDArray[np.float32]) -> None:
        self.map = anomaly_map

    @classmethod
    def load(cls, models: Models) -> FixedMap:
        raise AssertionError("it is made, not loaded")

    def encode(self, images: Sequence[NDArray[np.uint8]], values: object) -> list[_Size]:
        return [_Size() for _ in images]

    def score(self, features: object, values: object, context: object) -> Scored:
        peak = float(self.map.max())
        return Scored(
            self.map, {"map": peak, "clip": 0.5}, (map_stage(self.map, "It is what it is"),)
        )


def fixed_segmenter(anomaly_map: NDArray[np.float32]) -> Segmenter:
    """A segmenter with a small random SAM whose map is given."""
    sam = Sam(TransformersSam(small_sam(), CPU, "fp32"), CPU)
    return Segmenter(ReadyModels(small_backbone(), sam), localizers=[FixedMap(anomaly_map)])
