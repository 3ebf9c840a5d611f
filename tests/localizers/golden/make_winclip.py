"""Makes `winclip.json`: what anomalib's WinCLIP says of the weights and images in `weights.py`.

It needs anomalib 2.7.0 and open_clip_torch 2.24.0 (from 2.26.1 on, open_clip's batch-first towers give anomalib wrong
windows), best in an environment of their own: `python tests/localizers/golden/make_winclip.py`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import open_clip
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2]))
from tests.localizers.golden.weights import SIDE, golden_clip, golden_images  # noqa: E402

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": SIDE, "layers": 3, "width": 128, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "golden.json").write_text(json.dumps(CONFIG))
        open_clip.add_model_config(folder)
        winclip = _anomalib()
        winclip.BACKBONE, winclip.PRETRAINED = "golden", None
        model = winclip.WinClipModel().eval()
    model.clip.load_state_dict(_as_open_clip(golden_clip().state_dict()), strict=True)
    images, references = golden_images(2, seed=1), golden_images(2, seed=2)
    texts = torch.randn(2, 32, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        model._text_embeddings = texts
        image, windows, patches = model.encode_image(images)
        zero = model(images)
        model.setup(reference_images=references)
        few = model(images)
    found = {
        "texts": texts.tolist(),
        "image": image.tolist(),
        "windows": [one[:, ::3].tolist() for one in windows],
        "patches": patches[:, ::8, ::16].tolist(),
        "map": zero.anomaly_map[:, ::9, ::9].tolist(),
        "score": zero.pred_score.tolist(),
        "few_map": few.anomaly_map[:, ::9, ::9].tolist(),
        "few_score": few.pred_score.tolist(),
    }
    rounded = json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 7))
    (HERE / "winclip.json").write_text(json.dumps(rounded) + "\n", encoding="utf-8")


def _anomalib() -> Any:
    """anomalib's module without the rest of anomalib, whose import needs some thirty packages."""
    spec = importlib.util.find_spec("anomalib")
    assert spec is not None
    assert spec.submodule_search_locations
    models = Path(spec.submodule_search_locations[0]) / "models"
    for name in ("anomalib", "anomalib.data", "anomalib.models", "anomalib.models.image"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = []  # type: ignore[attr-defined]
    sys.modules["anomalib.data"].InferenceBatch = types.SimpleNamespace  # type: ignore[attr-defined]
    base = models / "components" / "base"
    components = types.ModuleType("anomalib.models.components")
    for file, kind in (
        ("buffer_list", "BufferListMixin"),
        ("dynamic_buffer", "DynamicBufferMixin"),
    ):
        setattr(components, kind, getattr(_module(file, base / f"{file}.py"), kind))
    sys.modules["anomalib.models.components"] = components
    package = "anomalib.models.image.winclip"
    sys.modules[package] = types.ModuleType(package)
    sys.modules[package].__path__ = [str(models / "image" / "winclip")]  # type: ignore[attr-defined]
    return importlib.import_module(f"{package}.torch_model")


def _module(name: str, file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _as_open_clip(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """transformers' names as open_clip's."""
    found = {"logit_scale": state["logit_scale"].clone()}
    for tower, prefix in (("vision_model", "visual."), ("text_model", "")):
        for name, value in state.items():
            if not name.startswith(f"{tower}.encoder.layers."):
                continue
            number, part = name.removeprefix(f"{tower}.encoder.layers.").split(".", 1)
            block = f"{prefix}transformer.resblocks.{number}."
            if part.startswith("self_attn.q_proj."):
                kind = part.rsplit(".", 1)[1]
                rows = [state[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
                found[f"{block}attn.in_proj_{kind}"] = torch.cat(rows)
            elif not part.startswith(("self_attn.k_proj", "self_attn.v_proj")):
                for ours, theirs in (
                    ("layer_norm", "ln_"),
                    ("self_attn.out_proj", "attn.out_proj"),
                    ("mlp.fc1", "mlp.c_fc"),
                    ("mlp.fc2", "mlp.c_proj"),
                ):
                    part = part.replace(ours, theirs)
                found[block + part] = value
    for theirs, ours in {
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
        "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
        "visual.ln_post.weight": "vision_model.post_layernorm.weight",
        "visual.ln_post.bias": "vision_model.post_layernorm.bias",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "ln_final.weight": "text_model.final_layer_norm.weight",
        "ln_final.bias": "text_model.final_layer_norm.bias",
    }.items():
        found[theirs] = state[ours]
    found["visual.proj"] = state["visual_projection.weight"].T.contiguous()
    found["text_projection"] = state["text_projection.weight"].T.contiguous()
    return found


if __name__ == "__main__":
    main()
