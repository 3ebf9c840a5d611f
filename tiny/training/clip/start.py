"""What a training of the small CLIP begins with: initial values, pretrained text, or earlier weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tiny.training import loop
from tiny.training.cache import DatasetCache
from tiny.training.clip.model import TrainModel, load_model, vision_tokens
from tiny.training.clip.recipe import PATCH, SCALE, Recipe
from tiny.training.clip.tasks import Sentences, normalise
from tiny.training.tokenizer import NOUNS, sentences, train_tokenizer
from zsas.backbones.text import DEFAULT_OBJECT


def build(
    recipe: Recipe, folder: Path, cache: DatasetCache, seed: int, sam: Path | None = None
) -> TrainModel:
    """A new model with a tokenizer of its own, which is saved in ``folder/tokenizer``."""
    from tiny.synthetic.defects import PHRASES

    phrases = [phrase for group in PHRASES.values() for phrase in group]
    names = [record.name for record in cache.records]
    tokenizer = train_tokenizer(sentences(names, phrases), context=recipe.context)
    tokenizer.save_pretrained(folder / "tokenizer")
    torch.manual_seed(seed)
    model = TrainModel(recipe, tokenizer)
    start_from_patches(model, cache, seed)
    with torch.no_grad():
        for block in model.clip.vision_model.encoder.layers:
            for branch in (block.self_attn.out_proj, block.mlp.fc2):
                branch.weight.mul_((2.0 * recipe.depth) ** -0.5)
    if sam is not None:
        start_from_sam(model, sam)
    draw = Sentences(tokenizer, PHRASES, np.random.default_rng([seed, 1]))
    centre(model, cache, draw)
    missed = pretrain_text(model, sorted({*names, *NOUNS}), draw, recipe.text_steps)
    init_normal_bias(model, draw)
    print(f"text before images: loss {missed:.3f}", flush=True)
    return model


@torch.no_grad()
def start_from_patches(model: TrainModel, cache: DatasetCache, seed: int) -> None:
    """Give the first layer filters that tell patches apart, instead of noise.

    A random filter sees little but brightness, and a tower that starts so learns nothing for long.
    Here the filters are cosine waves as JPEG's, slow ones first, each scaled to the same spread over the
    cache's patches; three in four read grey, the others colour. Positions
    start as slow waves, so that resizing them to other grids keeps their meaning.
    """
    width = model.recipe.width
    rng = np.random.default_rng([seed, 2])
    place = (np.arange(PATCH) + 0.5) / PATCH
    waves = np.cos(np.pi * np.arange(PATCH)[:, None] * place[None])
    order = sorted(np.ndindex(PATCH, PATCH), key=lambda pair: pair[0] ** 2 + pair[1] ** 2)
    grey = width - 2 * (width // 8)
    colours = np.array([[1, 1, 1], [1, 0, -1], [-0.5, 1, -0.5]]) / np.array([[3], [2], [2]])
    counts = (grey, width // 8, width // 8)
    kernels = np.concatenate(
        [
            np.stack(
                [colours[c][:, None, None] * np.outer(waves[u], waves[v]) for u, v in order[:n]]
            )
            for c, n in enumerate(counts)
        ]
    )
    index = np.sort(rng.choice(len(cache), min(64, len(cache)), replace=False))
    pixels = normalise(torch.from_numpy(cache.image[index])).permute(0, 3, 1, 2)
    weight = torch.from_numpy(kernels.astype(np.float32))
    found = F.conv2d(pixels, weight, stride=PATCH).permute(1, 0, 2, 3).flatten(1)
    spread = found.std(1)
    floor = torch.cat([part.median().expand(len(part)) for part in spread.split(counts)])
    embeddings = model.clip.vision_model.embeddings
    embeddings.patch_embedding.weight.copy_(weight / (spread + 0.3 * floor)[:, None, None, None])
    side = model.recipe.nominal // PATCH
    row, column = torch.meshgrid(*2 * [torch.linspace(-1, 1, side)], indexing="ij")
    rates = torch.pi * torch.linspace(0.25, 3.0, -(-width // 4))[:, None, None]
    slow = [f(rates * axis) for axis in (row, column) for f in (torch.sin, torch.cos)]
    position = torch.cat(slow).flatten(1).T[:, torch.randperm(4 * len(rates))[:width]]
    embeddings.position_embedding.weight[1:] = 0.2 * position


@torch.no_grad()
def centre(model: TrainModel, cache: DatasetCache, draw: Sentences) -> None:
    """Take what all sentences and all images have in common out of their embeddings.

    Fresh towers map everything to nearly one point, where cosines say nothing and gradients cancel.
    The biases of the last norms are set so that the means are zero.
    """
    clip = model.clip
    nouns = [record.name for record in cache.records[:48]]
    lines = [line for noun in nouns for line in draw.states(noun, 2)]
    text = clip.text_model(input_ids=draw.tokens(lines)).pooler_output
    clip.text_model.final_layer_norm.bias.sub_(text.mean(0))
    step = max(1, len(cache) // 32)
    pixels = normalise(torch.from_numpy(cache.image[::step][:32, ::2, ::2].copy()))
    _, last = vision_tokens(clip, pixels, model.recipe.blocks, torch.float32)
    norm = clip.vision_model.post_layernorm
    norm.bias.sub_(norm(last[:, 0]).mean(0))


@torch.no_grad()
def init_normal_bias(model: TrainModel, draw: Sentences, margin: float = -2.2) -> None:
    """Let the linear layers call every patch normal at first.

    If fresh maps are noise, the quickest way to a lower loss is to silence it: all tokens become
    one, and nothing is learned from then on. So the layers begin with a bias that gives the
    ``margin`` of a rare defect, and with weights close to zero.
    """
    states = model.encode_text(draw.tokens(draw.states(DEFAULT_OBJECT, 32))).view(2, 32, -1).mean(1)
    states = F.normalize(states, dim=-1)
    direction = states[1] - states[0]
    length = direction.norm()
    for layer in cast(Sequence[nn.Linear], model.layers):
        aside = torch.randn(len(direction))
        aside -= (aside @ direction) / length.square() * direction
        slope = (margin / (SCALE * length)).clamp(-0.99, 0.99)  # the sentences may lie too near
        layer.weight.mul_(0.1)
        layer.bias.copy_(
            slope * direction / length + (1.0 - slope.square()).sqrt() * F.normalize(aside, dim=0)
        )


def pretrain_text(model: TrainModel, nouns: Sequence[str], draw: Sentences, steps: int) -> float:
    """Let the text tower tell states, defect types and nouns apart before images are compared with it.

    Args:
        model: Its text tower is trained, with linear readers that are thrown away.
        nouns: Nouns to tell apart.
        draw: Sentences.
        steps: Steps of 96 sentences.

    Returns:
        The last steps' mean loss.
    """
    rng, defect_types = draw.rng, sorted(draw.phrases)
    width = model.recipe.projection
    readers = nn.ModuleList(nn.Linear(width, n) for n in (len(defect_types), len(nouns)))
    tower = [*model.clip.text_model.parameters(), *model.clip.text_projection.parameters()]
    optimizer = torch.optim.AdamW([*tower, *readers.parameters()], lr=1e-3, weight_decay=0.01)
    history: list[float] = []
    for step in range(steps):
        loop.set_lr(optimizer, loop.cosine_lr(step / steps, warmup=0.1))
        noun = rng.integers(0, len(nouns), 32)
        defect_type = rng.integers(0, len(defect_types), 32)
        pairs = [draw.states(nouns[i], 1) for i in noun]
        named = [
            draw.with_defect(nouns[i], defect_types[k])
            for i, k in zip(noun, defect_type, strict=True)
        ]
        lines = [normal for normal, _ in pairs] + [damaged for _, damaged in pairs] + named
        normal, damaged, by_defect = model.encode_text(draw.tokens(lines)).split(32)
        answers = torch.from_numpy(noun), torch.from_numpy(defect_type)
        apart = (normal @ torch.cat([damaged, by_defect]).T + 0.3).clamp_min(0).mean()
        together = 1.0 - (damaged @ by_defect.T).mean()
        loss = 4.0 * apart + together + F.cross_entropy(readers[0](10.0 * by_defect), answers[1])
        for one in (normal, damaged):
            loss = loss + 0.25 * F.cross_entropy(readers[1](10.0 * one), answers[0])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    return float(np.mean(history[-20:]))


@torch.no_grad()
def start_from_sam(model: TrainModel, checkpoint: Path) -> None:
    """Take over the encoder of a small SAM in training: it has learned edges, parts and defects of synthetic images.

    The two towers are of one width; SAM's patch bias goes into the positions, its missing first norm is
    approximated by the tokens' own spread, and blocks it does not have start almost silent.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["ema"]["shadow"]
    first = next(name for name in state if name.endswith("vision_encoder.pos_embed"))
    prefix = first.removesuffix("pos_embed")

    def of(name: str) -> Tensor:
        return state[prefix + name].float()

    vision = model.clip.vision_model
    kernel = of("patch_embed.projection.weight")
    vision.embeddings.patch_embedding.weight.copy_(kernel)
    side = model.recipe.nominal // PATCH
    place = F.interpolate(
        of("pos_embed").permute(0, 3, 1, 2), size=(side, side), mode="bicubic", align_corners=False
    )
    place = place.flatten(2)[0].T + of("patch_embed.projection.bias")
    vision.embeddings.position_embedding.weight[1:] = place
    spread = (kernel.square().sum((1, 2, 3)) + place.var(0)).mean().sqrt()
    vision.pre_layrnorm.weight.fill_(float(spread))
    for number, layer in enumerate(vision.encoder.layers):
        name = f"layers.{number}."
        if f"{prefix}{name}attn.qkv.weight" not in state:
            layer.self_attn.out_proj.weight.mul_(0.1)
            layer.mlp.fc2.weight.mul_(0.1)
            continue
        attention = layer.self_attn
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        weights, biases = of(name + "attn.qkv.weight").chunk(3), of(name + "attn.qkv.bias").chunk(3)
        for part, weight, bias in zip(parts, weights, biases, strict=True):
            part.weight.copy_(weight)
            part.bias.copy_(bias)
        for mine, its in (
            (attention.out_proj, "attn.proj"),
            (layer.mlp.fc1, "mlp.lin1"),
            (layer.mlp.fc2, "mlp.lin2"),
            (layer.layer_norm1, "layer_norm1"),
            (layer.layer_norm2, "layer_norm2"),
        ):
            mine.weight.copy_(of(f"{name}{its}.weight"))
            mine.bias.copy_(of(f"{name}{its}.bias"))


@torch.no_grad()
def start_from_clip(model: TrainModel, checkpoint: Path) -> None:
    """Take over an earlier training's averaged weights; a linear layer starts as that of the nearest block.

    Args:
        model: With the sizes and the tokenizer of the earlier one; its blocks may be others.
        checkpoint: The earlier training's checkpoint, or the folder of an exported model.
    """
    earlier, _ = load_model(checkpoint)
    model.clip.load_state_dict(earlier.clip.state_dict())
    for layer, block in zip(model.layers, model.recipe.blocks, strict=True):
        gaps = [abs(block - other) for other in earlier.recipe.blocks]
        layer.load_state_dict(earlier.layers[gaps.index(min(gaps))].state_dict())
