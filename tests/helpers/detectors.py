"""A small Grounding DINO and a small wide ResNet with random weights, and their repositories: the real classes."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torchvision.models.resnet import Bottleneck, ResNet
from transformers import BertTokenizer, GroundingDinoConfig, GroundingDinoForObjectDetection

from zsas.backbones.detector import Detector

SMALL_VISION = {
    "model_type": "swin",
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 4,
    "image_size": 64,
    "patch_size": 4,
    "out_indices": [2, 3, 4],
}


def vocabulary() -> list[str]:
    """Words of BERT's kind: the marks where Grounding DINO looks for them, letters, and parts of words."""
    words = [f"[unused{i}]" for i in range(1200)]
    words[0] = "[PAD]"
    words[100:104] = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words[1012], words[1029] = ".", "?"
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    words[110 : 110 + 26] = letters
    words[140 : 140 + 26] = [f"##{letter}" for letter in letters]
    words[200:206] = ["defect", "damage", "flaw", "on", "bottle", "scratch"]
    return words


def small_tokenizer(folder: Path) -> Any:
    (folder / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    return BertTokenizer(str(folder / "vocab.txt"), do_lower_case=True)


def small_detector_model(seed: int = 0) -> GroundingDinoForObjectDetection:
    """Forty queries of width 32 on a Swin of width 8."""
    text = {
        "model_type": "bert",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vocab_size": 1200,
        "max_position_embeddings": 64,
    }
    config = GroundingDinoConfig(
        backbone_config=dict(SMALL_VISION),
        text_config=text,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_queries=40,
        max_text_len=48,
    )
    torch.manual_seed(seed)
    model = GroundingDinoForObjectDetection(config).eval()
    with torch.no_grad():  # as they are made, all boxes have nearly one size
        for head in model.bbox_embed:
            head.layers[-1].weight.normal_(0.0, 1.5)
    model.model.decoder.bbox_embed = model.bbox_embed
    return model


def small_detector(seed: int = 0) -> Detector:
    """The small model behind our own class; it looks at images of 96 px."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = small_tokenizer(Path(folder))
    return Detector(small_detector_model(seed), tokenizer, torch.device("cpu"), sides=(96, 160))


def small_resnet(seed: int = 0, width: int = 2) -> ResNet:
    """torchvision's own network with one block a stage, twice as wide inside, with statistics that are not trivial."""
    torch.manual_seed(seed)
    model = ResNet(Bottleneck, [1, 1, 1, 1], width_per_group=64 * width, num_classes=3).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0.0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0.0, 0.1)
    return model


@functools.cache
def detector_repo() -> dict[str, bytes]:
    """A Grounding DINO as its makers keep it on the Hub."""
    from tests.helpers.hub_repos import folder_files

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small_detector_model().save_pretrained(folder)
        small_tokenizer(folder).save_pretrained(folder)
        files = folder_files(folder)
    processor = {"image_processor_type": "GroundingDinoImageProcessor"}
    return {**files, "preprocessor_config.json": json.dumps(processor).encode(), "x.pth": b"no"}


@functools.cache
def saliency_repo() -> dict[str, bytes]:
    """A ResNet as timm keeps it: a config of its own kind, torchvision's names of weights."""
    from safetensors.torch import save

    config = {"architecture": "wide_resnet50_2", "num_classes": 3, "pretrained_cfg": {}}
    return {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": save(
            {k: v.contiguous() for k, v in small_resnet().state_dict().items()}
        ),
        "pytorch_model.bin": b"not needed beside safetensors",
    }
