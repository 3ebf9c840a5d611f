"""Converts open_clip's files to a folder that transformers reads as `CLIPModel`.

WinCLIP and SDP use a CLIP that exists in open_clip's format only (ViT-B-16-plus-240). The shapes of the weights say
almost all of a model's config; what they cannot say, the activation, is taken from `open_clip_config.json` beside
the file, from the one model that is known by its shape, or from the person.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsas.errors import ZsasError, reason
from zsas.files import write_whole
from zsas.models.vocabulary import tokenizer_files

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import CLIPConfig

ACTIVATIONS = ("gelu", "quick_gelu")

_HEAD_WIDTH = {1280: 80, 1408: 88, 1664: 104}
"""Channels of a head where they are not 64, by the width of the vision tower: open_clip's ViT-H, g and bigG."""

_PLAIN_SETTINGS: dict[str, set[str]] = {
    "model_cfg": {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "init_logit_scale"},
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}
"""What may stand in an open_clip config whose model is the one that transformers has."""

_TOP = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.": "vision_model.pre_layrnorm.",  # spelt so in transformers
    "visual.ln_post.": "vision_model.post_layernorm.",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.": "text_model.final_layer_norm.",
    "logit_scale": "logit_scale",
}
_BLOCK = {
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "attn.out_proj.": "self_attn.out_proj.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
}
_TRANSPOSED = {
    "visual.proj": "visual_projection.weight",
    "text_projection": "text_projection.weight",
}
_RESBLOCK = re.compile(r"^(visual\.)?transformer\.resblocks\.(\d+)\.(.+)$")

_E31, _E32 = "8fb26589", "699c4b84"
"""How the SHA-256 of the two published `.pt` files of ViT-B-16-plus-240 begins."""


@dataclass(frozen=True)
class Converted:
    """The result of a conversion.

    Attributes:
        folder: Where the model lies.
        activation: Activation of both towers.
        note: What a person should know of these weights, "" for nothing.
    """

    folder: Path
    activation: str
    note: str


def convert(
    file: Path,
    out: Path,
    *,
    activation: str | None = None,
    tokenizer: Path | None = None,
) -> Converted:
    """Write a model of open_clip as a folder for transformers' `CLIPModel`, with its tokenizer.

    Args:
        file: open_clip's safetensors, or its `.pt` file with a state dict and nothing but tensors in it.
        out: Folder to write; it must not hold a model yet.
        activation: `gelu` or `quick_gelu`, where nothing else says it.
        tokenizer: Folder with a tokenizer, or open_clip's `bpe_simple_vocab_16e6.txt.gz`; by default beside the
            file, else that of an installed open_clip, else that of a CLIP in the Hub's cache.

    Raises:
        ZsasError: If the file is damaged or another kind of model, a key is missing or left over, its config
            contradicts, or there is no tokenizer.
    """
    from transformers import CLIPModel

    if (out / "config.json").exists():
        raise ZsasError(f"The folder {out} holds a model already; choose another one.")
    state = read_state(file)
    described = _config_beside(file)
    act = _activation(state, described, activation)
    config = config_of(state, act)
    vocabulary = tokenizer_files(file, tokenizer, config.text_config.vocab_size)
    model = CLIPModel(config)
    _load(model, renamed(state), file)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, data in vocabulary.items():
            write_whole(out / name, data)
        model.save_pretrained(out)
    except OSError as error:
        shutil.rmtree(out, ignore_errors=True)
        raise ZsasError(
            f"The folder {out} cannot be written ({error.strerror or reason(error)})."
        ) from None
    return Converted(out, act, _note(file, config))


def read_state(file: Path) -> dict[str, Tensor]:
    """The weights of an open_clip file by open_clip's names, fp32.

    Raises:
        ZsasError: If there is no such file, or it holds anything else.
    """
    import torch
    from safetensors.torch import load_file

    if not file.is_file():
        raise ZsasError(f"There is no file {file}; name open_clip's .safetensors or .pt file.")
    try:
        if file.suffix == ".safetensors":
            state: Any = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
            state = state.get("state_dict", state)
        tensors = {
            name.removeprefix("module."): value.float()
            for name, value in state.items()
            if not name.endswith("attn_mask")  # a constant of the text tower
        }
    except (
        Exception
    ) as error:  # torch and safetensors raise half a dozen kinds for damaged or unsafe files
        raise ZsasError(
            f"{file.name} cannot be read ({reason(error)}); expected open_clip's safetensors, or a .pt file with a "
            "state dict in it (OpenAI's own .pt files are programs, take their models from the Hub)."
        ) from None
    return tensors


def config_of(state: Mapping[str, Tensor], activation: str) -> CLIPConfig:
    """The config of `CLIPModel` that the shapes of open_clip's weights say.

    Raises:
        ZsasError: If it is another architecture.
    """
    from transformers import CLIPConfig

    try:
        width, _, patch, _ = state["visual.conv1.weight"].shape
        positions = state["visual.positional_embedding"].shape[0]
        words, text_width = state["token_embedding.weight"].shape
        projection = state["visual.proj"].shape[1]
        vision = {
            "hidden_size": width,
            "intermediate_size": state["visual.transformer.resblocks.0.mlp.c_fc.bias"].shape[0],
            "num_hidden_layers": _depth(state, "visual."),
            "num_attention_heads": width // _HEAD_WIDTH.get(width, 64),
            "image_size": math.isqrt(positions - 1) * patch,
            "patch_size": patch,
        }
        text = {
            "hidden_size": text_width,
            "intermediate_size": state["transformer.resblocks.0.mlp.c_fc.bias"].shape[0],
            "num_hidden_layers": _depth(state, ""),
            "num_attention_heads": text_width // 64,
            "max_position_embeddings": state["positional_embedding"].shape[0],
            "vocab_size": words,
            "bos_token_id": words - 2,
            "eos_token_id": words
            - 1,  # so that transformers reads a sentence at its end, as open_clip does
            "pad_token_id": words - 1,
        }
    except (KeyError, ValueError, IndexError) as missing:
        raise ZsasError(
            f"The file holds no CLIP with two transformer towers as open_clip names it: {reason(missing)} is missing "
            "or of another shape; ResNets, timm towers, CoCa and SigLIP cannot be converted."
        ) from None
    shared = {"hidden_act": activation, "layer_norm_eps": 1e-5, "projection_dim": projection}
    return CLIPConfig(
        vision_config=vision | shared, text_config=text | shared, projection_dim=projection
    )


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's weights by transformers' names; what has none keeps its own."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        block = _RESBLOCK.match(name)
        if block:
            tower = "vision_model" if block[1] else "text_model"
            found |= _of_block(f"{tower}.encoder.layers.{block[2]}.", block[3], tensor)
        elif name in _TRANSPOSED:
            found[_TRANSPOSED[name]] = tensor.T.contiguous()
        else:
            start = next((key for key in _TOP if _begins(name, key)), None)
            found[_TOP[start] + name.removeprefix(start) if start else name] = tensor
    return found


def _begins(name: str, key: str) -> bool:
    return name.startswith(key) if key.endswith(".") else name == key


def _of_block(prefix: str, name: str, tensor: Tensor) -> dict[str, Tensor]:
    if name.startswith("attn.in_proj_"):  # queries, keys and values in one matrix, in this order
        kind = name.removeprefix("attn.in_proj_")
        return {
            f"{prefix}self_attn.{letter}_proj.{kind}": part.clone()
            for letter, part in zip("qkv", tensor.chunk(3), strict=True)
        }
    start = next((key for key in _BLOCK if name.startswith(key)), None)
    return {prefix + (_BLOCK[start] + name.removeprefix(start) if start else name): tensor}


def _depth(state: Mapping[str, Tensor], tower: str) -> int:
    pattern = re.compile(rf"^{re.escape(tower)}transformer\.resblocks\.(\d+)\.")
    return 1 + max(int(found[1]) for found in map(pattern.match, state) if found)


def _load(model: Any, weights: dict[str, Tensor], file: Path) -> None:
    """Load the weights into the model; every weight of the file must be in the model, and the reverse.

    Raises:
        ZsasError: If one is missing, left over or of another shape.
    """
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    missing = sorted(set(wanted) - set(weights))
    left = sorted(set(weights) - set(wanted))
    other = sorted(
        name for name in set(wanted) & set(weights) if wanted[name] != weights[name].shape
    )
    for names, what in (
        (missing, "lacks"),
        (left, "has, beside those of a plain CLIP,"),
        (other, "has another shape of"),
    ):
        if names:
            raise ZsasError(
                f"{file.name} {what} {len(names)} weights, for example {names[0]}; it is damaged, or a model that "
                "transformers' CLIPModel cannot hold."
            )
    model.load_state_dict(weights)


# What shapes cannot say.


def _config_beside(file: Path) -> dict[str, Any]:
    """`open_clip_config.json` beside the file, {} without one.

    Raises:
        ZsasError: If it names a part that transformers' CLIP has not.
    """
    from zsas.backbones.clip import PIXEL_MEAN

    path = file.with_name("open_clip_config.json")
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        model = content["model_cfg"]
        sections = {
            "model_cfg": model,
            "vision_cfg": model["vision_cfg"],
            "text_cfg": model["text_cfg"],
        }
        foreign = [
            f"{section}.{name}"
            for section, values in sections.items()
            for name, value in values.items()
            if name not in _PLAIN_SETTINGS[section] and value not in (None, False)
        ]
        mean = content.get("preprocess_cfg", {}).get("mean") or PIXEL_MEAN
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ZsasError(f"{path} is no config of open_clip ({reason(error)}).") from None
    if foreign:
        raise ZsasError(
            f"{path.name} asks for {foreign[0]}, which transformers' CLIPModel does not have; only plain CLIPs with "
            "two transformer towers can be converted."
        )
    if any(abs(a - b) > 1e-3 for a, b in zip(mean, PIXEL_MEAN, strict=False)):
        raise ZsasError(
            f"{path.name} normalises pixels by the mean {mean}, but only CLIP's own is used here."
        )
    return model


def _activation(
    state: Mapping[str, Tensor], described: Mapping[str, Any], asked: str | None
) -> str:
    """The activation of both towers; a wrong one gives plausible nonsense, so nothing is guessed.

    Raises:
        ZsasError: If nobody says it, or two say different things.
    """
    if asked is not None and asked not in ACTIVATIONS:
        raise ZsasError(f"The activation {asked!r} must be {' or '.join(ACTIVATIONS)}.")
    said = None
    if described:
        said = "quick_gelu" if described.get("quick_gelu") else "gelu"
    elif _is_plus_240(state):
        said = "gelu"  # open_clip has no config of it with quick_gelu
    if said and asked and said != asked:
        raise ZsasError(
            f"The activation of these weights is {said}, but {asked} was asked for; leave --activation out."
        )
    if not (said or asked):
        raise ZsasError(
            "The file does not say which activation its model was trained with; put its open_clip_config.json beside "
            "it, or say --activation gelu, or --activation quick_gelu for OpenAI's, DFN's and other weights that "
            "open_clip lists under a name with -quickgelu."
        )
    return said or asked or ""


def _is_plus_240(state: Mapping[str, Tensor]) -> bool:
    conv, positions = state.get("visual.conv1.weight"), state.get("visual.positional_embedding")
    if conv is None or positions is None:
        return False
    return tuple(conv.shape) == (896, 3, 16, 16) and tuple(positions.shape) == (226, 896)


def _note(file: Path, config: CLIPConfig) -> str:
    """The note on ViT-B-16-plus-240, under whose name two sets of weights were published."""
    if (config.vision_config.hidden_size, config.vision_config.image_size) != (896, 240):
        return ""
    import hashlib

    known = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            known.update(block)
    digest = known.hexdigest()
    if digest.startswith(_E31):
        return "These are the weights laion400m_e31, which WinCLIP and SDP use."
    if digest.startswith(_E32):
        return "These are the weights laion400m_e32; the published figures of WinCLIP and SDP are of laion400m_e31."
    return (
        "Whether these are the weights laion400m_e31, which WinCLIP and SDP use, the file does not say; open_clip "
        "from 2.29 on gives e31 under both names, laion400m_e31 and laion400m_e32."
    )
