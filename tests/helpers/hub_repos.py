"""Repositories for the practice Hub: the real ones' files and config keys, small random weights."""

from __future__ import annotations

import base64
import functools
import io
import json
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from tests.helpers.models import small_sam
from tests.helpers.sams import as_published, processor
from zsas.models.vocabulary import from_vocabulary

CLIP_VISION = {
    "attention_dropout": 0.0,
    "dropout": 0.0,
    "hidden_act": "quick_gelu",
    "hidden_size": 48,
    "image_size": 64,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "layer_norm_eps": 1e-05,
    "model_type": "clip_vision_model",
    "num_attention_heads": 3,
    "num_hidden_layers": 8,
    "patch_size": 16,
}
CLIP_TEXT = {
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "dropout": 0.0,
    "eos_token_id": 2,  # as in OpenAI's configs, though the mark has another number
    "hidden_act": "quick_gelu",
    "hidden_size": 32,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "pad_token_id": 1,
    "vocab_size": 49408,
}


@functools.cache
def tokenizer_files() -> dict[str, bytes]:
    """The files of CLIP's tokenizer as OpenAI's repositories have them, from open_clip's vocabulary."""
    import open_clip

    vocabulary = Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
    files = from_vocabulary(vocabulary)
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            Path(folder, name).write_bytes(data)
        CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
        files["tokenizer.json"] = Path(folder, "tokenizer.json").read_bytes()
    mark = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    special = {
        "bos_token": {"content": "<|startoftext|>", **mark},
        "eos_token": {"content": "<|endoftext|>", **mark},
        "unk_token": {"content": "<|endoftext|>", **mark},
        "pad_token": "<|endoftext|>",
    }
    return {**files, "special_tokens_map.json": json.dumps(special).encode()}


def folder_files(folder: Path) -> dict[str, bytes]:
    """All files below a folder by their path in it."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


@functools.cache
def clip_repo(
    safe: bool = False, sharded: bool = False, activation: str = "quick_gelu"
) -> dict[str, bytes]:
    """A CLIP as OpenAI published it: pickled weights with position ids in them, or safetensors."""
    vision, text = ({**part, "hidden_act": activation} for part in (CLIP_VISION, CLIP_TEXT))
    config = {
        "_name_or_path": "clip/",
        "architectures": ["CLIPModel"],
        "initializer_factor": 1.0,
        "logit_scale_init_value": 2.6592,
        "model_type": "clip",
        "projection_dim": 24,
        "text_config": {**text, "projection_dim": 24},
        "text_config_dict": None,
        "torch_dtype": "float32",
        "transformers_version": None,
        "vision_config": {**vision, "projection_dim": 24},
        "vision_config_dict": None,
    }
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(**config)).eval()
    files = {
        "config.json": json.dumps(config, indent=2).encode(),
        "README.md": b"---\nlicense: mit\n---\n",
        "preprocessor_config.json": json.dumps({"crop_size": 224, "do_resize": True}).encode(),
        **tokenizer_files(),
    }
    if safe:
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder, max_shard_size="3MB" if sharded else "5GB")
            weights = folder_files(Path(folder))
        return files | {name: data for name, data in weights.items() if "model" in name}
    state = dict(model.state_dict())
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    state["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return {**files, "pytorch_model.bin": buffer.getvalue(), "tf_model.h5": b"not for us"}


@functools.cache
def sam_repo() -> dict[str, bytes]:
    """A SAM as Meta's organisation published it: safetensors beside the older formats."""
    with tempfile.TemporaryDirectory() as folder:
        small_sam().save_pretrained(folder)
        files = folder_files(Path(folder))
    return {
        **files,
        "preprocessor_config.json": json.dumps(
            {"image_processor_type": "SamImageProcessor"}
        ).encode(),
        "pytorch_model.bin": b"not needed beside safetensors",
        "tf_model.h5": b"not for us",
    }


@functools.cache
def family_repo(family: str) -> dict[str, bytes]:
    """A later SAM as its makers keep it: SAM 2.1 and SAM 3 as video models, each with its processor's file."""
    with tempfile.TemporaryDirectory() as folder:
        as_published(family, Path(folder))
        processor(family).save_pretrained(folder)
        return folder_files(Path(folder))


def png(array: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def plate(seed: int = 0) -> tuple[Any, Any]:
    """An image, uint8 RGB (48, 64, 3), and the mask of the spot on it, uint8 (48, 64)."""
    rng = np.random.default_rng(seed)
    image = rng.integers(120, 140, (48, 64, 3)).astype(np.uint8)
    mask = np.zeros((48, 64), np.uint8)
    mask[10:20, 30:44] = 255
    image[mask > 0] = 20
    return image, mask


@functools.cache
def mvtec_repo() -> dict[str, bytes]:
    """MVTec-AD as Voxel51 keeps it: FiftyOne's samples.json, images in data/, masks as files and inline."""
    rows, files = [], {}
    for number, (category, kind) in enumerate(
        [("hazelnut", "good"), ("hazelnut", "crack"), ("leather", "good"), ("leather", "cut")]
    ):
        image, mask = plate(number)
        name = f"data/{number:03d}.png"
        files[name] = png(image)
        row = {
            "filepath": name,
            "split": "test",
            "category": {"_cls": "Classification", "label": category},
            "defect": {"_cls": "Classification", "label": kind},
        }
        if kind == "crack":
            files[f"fields/defect_mask/{number:03d}.png"] = png(mask)
            row["defect_mask"] = {
                "_cls": "Segmentation",
                "mask_path": f"fields/defect_mask/{number:03d}.png",
            }
        elif kind == "cut":
            buffer = io.BytesIO()
            np.save(buffer, mask)
            code = base64.b64encode(zlib.compress(buffer.getvalue())).decode()
            row["defect_mask"] = {"_cls": "Segmentation", "mask": {"$binary": {"base64": code}}}
        rows.append(row)
    return {**files, "samples.json": json.dumps({"samples": rows}).encode()}


@functools.cache
def visa_repo() -> dict[str, bytes]:
    """VisA as BrachioLab keeps it: a parquet file for each category and split."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = {}
    for category in ("cashew", "pcb1"):
        image, mask = plate(7)
        cells = [{"bytes": png(image), "path": None}] * 2
        masks = [{"bytes": png(mask * 0), "path": None}, {"bytes": png(mask), "path": None}]
        table = pa.table({"image": cells, "mask": masks, "label": [0, 1]})
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        files[f"data/{category}.test-00000-of-00001.parquet"] = buffer.getvalue()
    return files


def april_gan_file(width: int = 48, projection: int = 24) -> bytes:
    """APRIL-GAN's layers: one key, a weight and a bias for each of four blocks."""
    torch.manual_seed(1)
    layers = {f"fc.{i}.weight": torch.randn(projection, width) for i in range(4)}
    layers |= {f"fc.{i}.bias": torch.zeros(projection) for i in range(4)}
    buffer = io.BytesIO()
    torch.save({"trainable_linearlayer": layers}, buffer)
    return buffer.getvalue()


def anomalyclip_file() -> bytes:
    """AnomalyCLIP's checkpoint with all its tensors, most of which nobody reads."""
    torch.manual_seed(2)
    tensors = {"ctx_pos": torch.randn(1, 1, 12, 768), "ctx_neg": torch.randn(1, 1, 12, 768)}
    for i in range(8):
        tensors[f"compound_prompts_text.{i}"] = torch.randn(4, 768)
        tensors[f"compound_prompt_projections.{i}.weight"] = torch.randn(896, 768)
        tensors[f"compound_prompt_projections.{i}.bias"] = torch.randn(896)
    for side in ("pos", "neg"):
        tensors[f"token_prefix_{side}"] = torch.randn(1, 1, 1, 768)
        tensors[f"token_suffix_{side}"] = torch.randn(1, 1, 64, 768)
        tensors[f"tokenized_prompts_{side}"] = torch.zeros(1, 1, 77, dtype=torch.int32)
    buffer = io.BytesIO()
    torch.save({"prompt_learner": tensors}, buffer)
    return buffer.getvalue()


def open_clip_repo() -> dict[str, bytes]:
    """A CLIP in open_clip's format, as timm keeps WinCLIP's."""
    from open_clip.model import CLIP
    from safetensors.torch import save

    vision = {"image_size": 80, "layers": 2, "width": 128, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
    torch.manual_seed(3)
    state = CLIP(32, vision, text).state_dict()
    config = {
        "model_cfg": {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {"mean": [0.48145466, 0.4578275, 0.40821073]},
    }
    return {
        "open_clip_config.json": json.dumps(config).encode(),
        "open_clip_model.safetensors": save({k: v.contiguous() for k, v in state.items()}),
        **tokenizer_files(),
    }
