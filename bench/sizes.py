"""Sizes of the published encoders, for models with random weights."""

from __future__ import annotations

VIT_H = {
    "hidden_size": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "mlp_dim": 5120,
    "global_attn_indexes": [7, 15, 23, 31],
}
"""SAM ViT-H's vision encoder."""
