"""Weights that any machine makes alike: the model of a golden file, filled from NumPy's generator by name."""

from __future__ import annotations

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel

SIDE = 80
"""Side of the golden images in pixels: five patches of 16."""


def golden_clip() -> CLIPModel:
    """A CLIP of three vision blocks with exact GELU, as open_clip's JSON config in `make_winclip.py` names it."""
    vision = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 16,
        "hidden_act": "gelu",
    }
    text = {
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "hidden_act": "gelu",
        "bos_token_id": 49406,
        "eos_token_id": 49407,
    }
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)).eval()
    generator = np.random.default_rng(0)
    state = model.state_dict()
    for name in sorted(state):
        if "position_ids" in name or name == "logit_scale":
            continue
        shape = tuple(state[name].shape)
        fan = shape[-1] if len(shape) < 4 else int(np.prod(shape[1:]))
        spread = 0.02 if "token_embedding" in name else fan**-0.5
        values = generator.normal(size=shape) * spread
        if "norm" in name:  # scales around one
            values = values + ("weight" in name)
        state[name] = torch.from_numpy(np.asarray(values, np.float32))
    model.load_state_dict(state)
    return model


def golden_images(count: int, seed: int) -> torch.Tensor:
    """Normalised pixels, fp32 (count, 3, SIDE, SIDE)."""
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.normal(size=(count, 3, SIDE, SIDE)).astype(np.float32))
