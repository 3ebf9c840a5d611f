"""The CLIP backbone: patch tokens of chosen blocks, the V-V stream, sentences.

A thin class around transformers' `CLIPModel`. The vision tower is walked layer by layer, because the method reads
it in the middle (after four blocks) and, without training, runs a second stream beside it.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPModel
from transformers.activations import ACT2FN

from zsas.backbones.int8 import set_precision
from zsas.backbones.text import ENSEMBLE, prompt_sentences
from zsas.cache import ByteBudgetCache
from zsas.cancellation import raise_if_cancelled
from zsas.device import Precision, Runtime
from zsas.held import Held

if TYPE_CHECKING:
    from zsas.backbones.openvino import CompiledTower

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Mean of CLIP's training pixels, RGB in [0, 1]."""
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
"""Standard deviation of CLIP's training pixels, RGB in [0, 1]."""

Positions = Literal["bicubic", "bilinear"]

_SENTENCES_AT_ONCE = 128
_PASSES_BYTES = 64_000_000
"""Passes of the vision tower kept for the next system on the same image: two at full size."""
_PASSES = 32
"""And at most so many: those of one image, tiles and views, or of a few."""
_STATES_BYTES = 2_000_000
"""Text vectors kept: those of some 250 objects at full size."""


@dataclass(frozen=True)
class VisionOutput(Held):
    """What a forward pass of the vision tower gives, for a batch of B images on a g × g patch grid.

    Attributes:
        blocks: Patch tokens after each asked block, block number → (B, g · g, width); the class token is dropped and
            no norm or projection is applied.
        vv: Projected patch tokens of the V-V stream, (B, g · g, projection), or None if it was not asked for.
        image: Projected class token, L2-normalised, (B, projection), fp32.
        class_token: The class token after the last block, before norm and projection, (B, width).
    """

    blocks: dict[int, Tensor]
    vv: Tensor | None
    image: Tensor
    class_token: Tensor


class ClipBackbone:
    """CLIP, frozen, with the parts that localizers need.

    Args:
        model: A loaded `CLIPModel`.
        tokenizer: Its tokenizer.
        name: Hub id or path, to recognise adapters that were made for it.
        device: Where it runs.
        precision: Number format of the vision tower; the text tower stays in fp32.
        runtime: What runs `forward_vision`; whoever walks the tower in steps does so in torch.
    """

    def __init__(
        self,
        model: CLIPModel,
        tokenizer: Any,
        *,
        name: str,
        device: torch.device,
        precision: Precision = "auto",
        runtime: Runtime = "torch",
    ) -> None:
        self.name = name
        self.device = device
        self.model = model.eval().requires_grad_(False).to(device)
        self.dtype = set_precision(self.model.vision_model, device, precision, runtime)
        self.model.visual_projection.to(self.dtype)
        self._compiled: CompiledTower | None = None
        if runtime == "openvino":
            from zsas.backbones.openvino import CompiledTower, named_precision

            read = (self.model.vision_model, self.model.visual_projection)
            walk = partial(_Walk, self, named_precision(precision))
            self._compiled = CompiledTower(walk, read, precision)
        self._compiled_block: Callable[..., Tensor] | None = None
        if runtime == "compile":
            self._compiled_block = torch.compile(self._block, dynamic=False)
        else:  # a compiled block would stop there
            for layer in self.model.vision_model.encoder.layers:
                layer.self_attn.register_forward_pre_hook(raise_if_cancelled)
        self.tokenizer = tokenizer
        self.sentences_encoded = 0
        self.passes = 0
        self._passes: ByteBudgetCache[VisionOutput] = ByteBudgetCache(_PASSES_BYTES, _PASSES)
        self._states: ByteBudgetCache[Tensor] = ByteBudgetCache(_STATES_BYTES)

    @property
    def activation(self) -> str:
        """Activation of the vision tower as its config names it, `quick_gelu` for OpenAI's weights."""
        return self.model.config.vision_config.hidden_act

    @property
    def depth(self) -> int:
        """Number of blocks of the vision tower."""
        return self.model.config.vision_config.num_hidden_layers

    @property
    def width(self) -> int:
        """Channels of a patch token."""
        return self.model.config.vision_config.hidden_size

    @property
    def projection(self) -> int:
        """Channels of the space that images and sentences share."""
        return self.model.config.projection_dim

    @property
    def patch(self) -> int:
        """Side of a patch in pixels of the CLIP frame."""
        return self.model.config.vision_config.patch_size

    @property
    def native_size(self) -> int:
        """Side of the square that it was trained on, pixels."""
        return self.model.config.vision_config.image_size

    @property
    def logit_scale(self) -> float:
        """Factor on cosines, 100 for OpenAI's weights."""
        return float(self.model.logit_scale.exp())

    def pixels(
        self,
        images: Sequence[NDArray[np.uint8]],
        size: int | tuple[int, int],
        *,
        smooth: bool = True,
    ) -> Tensor:
        """Images squeezed to the CLIP frame and normalised.

        Args:
            images: RGB images, uint8 (H, W, 3), of any sizes.
            size: Side of a square, or height and width, in pixels; rounded down to whole patches.
            smooth: Resize bicubically, as CLIP was trained; bilinearly without.

        Returns:
            (B, 3, height, width) in the tower's number format.
        """
        sides = (size, size) if isinstance(size, int) else size
        height, width = (max(1, side // self.patch) * self.patch for side in sides)
        method = Image.Resampling.BICUBIC if smooth else Image.Resampling.BILINEAR
        batch = np.stack(
            [np.asarray(Image.fromarray(image).resize((width, height), method)) for image in images]
        )
        pixels = torch.from_numpy(batch).to(self.device).permute(0, 3, 1, 2).float().div_(255)
        mean = torch.tensor(PIXEL_MEAN, device=self.device).view(1, 3, 1, 1)
        std = torch.tensor(PIXEL_STD, device=self.device).view(1, 3, 1, 1)
        return ((pixels - mean) / std).to(self.dtype)

    # The vision tower in steps, for localizers that read it in the middle.

    def embed(self, pixels: Tensor, positions: Positions = "bicubic") -> Tensor:
        """Patches, class token and positions before the first norm: (B, 3, R, R) → (B, 1 + g · g, width).

        Args:
            pixels: From `pixels`; (B, 3, H, W) gives H / patch times W / patch patches.
            positions: How the positions are resized to the grid, where it is not the grid of the training.
        """
        embeddings = self.model.vision_model.embeddings
        grid = (pixels.shape[-2] // self.patch, pixels.shape[-1] // self.patch)
        own = embeddings.image_size // self.patch
        if positions == "bicubic" or grid == (own, own):
            return embeddings(pixels, interpolate_pos_encoding=True)
        table = embeddings.position_embedding.weight
        square = table[1:].T.reshape(1, self.width, own, own)
        resized = F.interpolate(square, size=grid, mode=positions).flatten(2)
        patches = embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        first = (embeddings.class_embedding + table[0]).expand(len(pixels), 1, -1)
        return torch.cat([first, patches + resized.transpose(1, 2)], dim=1)

    def pre_norm(self, tokens: Tensor) -> Tensor:
        """The norm between the embeddings and the first block."""
        return self.model.vision_model.pre_layrnorm(tokens)

    @property
    def layers(self) -> Sequence[Any]:
        """The blocks of the vision tower, from the first."""
        return self.model.vision_model.encoder.layers

    def block(self, layer: Any, tokens: Tensor, activation: str | None = None) -> Tensor:
        """One whole block: attention and MLP, each with its residual.

        Args:
            layer: One of `layers`.
            tokens: (B, n, width).
            activation: Run the MLP with this activation (`gelu`, `quick_gelu`) instead of the config's.
        """
        if self._compiled_block is None:
            return self._block(layer, tokens, activation)
        raise_if_cancelled()  # no hook runs inside
        return self._compiled_block(layer, tokens, activation)

    def _block(self, layer: Any, tokens: Tensor, activation: str | None) -> Tensor:
        tokens = tokens + layer.self_attn(layer.layer_norm1(tokens))[0]
        return self.mlp(layer, tokens, activation)

    def mlp(self, layer: Any, tokens: Tensor, activation: str | None = None) -> Tensor:
        """The second half of `block`: the MLP with its residual."""
        act = ACT2FN[activation or self.activation]
        return tokens + layer.mlp.fc2(act(layer.mlp.fc1(layer.layer_norm2(tokens))))

    def vv_attention(self, layer: Any, tokens: Tensor) -> Tensor:
        """A block's attention output with weights softmax(V Vᵀ / √d), without residual or MLP."""
        attention = layer.self_attn
        values = attention.v_proj(layer.layer_norm1(tokens))
        return attention.out_proj(self.mixed(attention, values, values, values))

    @staticmethod
    def mixed(
        attention: Any, query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False
    ) -> Tensor:
        """What a block's attention makes of projected queries (B, n, width), keys and values (B, m, width).

        Args:
            attention: The block's; of it, its number of heads is read.
            query: Projected.
            key: Projected.
            value: Projected.
            causal: Whether a token attends to those before it alone.

        Returns:
            (B, n, width), before the output's projection.
        """
        heads = (
            one.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
            for one in (query, key, value)
        )
        found = F.scaled_dot_product_attention(*heads, is_causal=causal)
        return found.transpose(1, 2).flatten(2)

    def project(self, tokens: Tensor) -> Tensor:
        """Final norm and projection to the space that images and sentences share: (…, width) → (…, projection)."""
        return self.model.visual_projection(self.model.vision_model.post_layernorm(tokens))

    @torch.inference_mode()
    def forward_vision(
        self,
        pixels: Tensor,
        *,
        blocks: Collection[int] = (),
        vv_blocks: int = 0,
        activation: str | None = None,
        positions: Positions = "bicubic",
    ) -> VisionOutput:
        """Forward pass of the vision tower; the last few are kept, so that systems share them.

        Args:
            pixels: (B, 3, H, W) from `pixels`.
            blocks: Numbers of the blocks, counted from 1, whose output is kept.
            vv_blocks: In how many of the last blocks the V-V stream runs; 0 leaves it out. It starts as a copy of
                the tokens and adds, block by block, the V-V attention output; the main stream stays as it is.
            activation: Run the MLPs with this activation instead of the config's, for adapters that were trained so.
            positions: See `embed`.

        Returns:
            The kept tokens, the V-V stream if asked for, and the image embedding.
        """
        key = (_digest(pixels), vv_blocks, activation or self.activation, positions)
        known = self._passes.get(key)
        if known is None or not set(blocks) <= set(known.blocks):
            known = self._pass(pixels, blocks, vv_blocks, activation, positions)
            self._passes.put(key, known)
        return replace(known, blocks={block: known.blocks[block] for block in sorted(blocks)})

    def _pass(
        self,
        pixels: Tensor,
        blocks: Collection[int],
        vv_blocks: int,
        activation: str | None,
        positions: Positions,
    ) -> VisionOutput:
        """See `forward_vision`."""
        self.passes += 1
        if self._compiled is not None:
            chosen = (vv_blocks, activation or self.activation, positions)
            *found, image, class_token = self._compiled(pixels, *chosen)
            vv = found.pop().to(self.dtype) if vv_blocks else None
            kept = {number: found[number - 1].to(self.dtype) for number in blocks}
            return VisionOutput(kept, vv, image, class_token.to(self.dtype))
        return self._walked(pixels, blocks, vv_blocks, activation, positions)

    def _walked(
        self,
        pixels: Tensor,
        blocks: Collection[int],
        vv_blocks: int,
        activation: str | None,
        positions: Positions,
    ) -> VisionOutput:
        """See `forward_vision`; block after block in torch."""
        tokens = self.pre_norm(self.embed(pixels, positions))
        kept: dict[int, Tensor] = {}
        stream: Tensor | None = None
        for number, layer in enumerate(self.layers, start=1):
            if vv_blocks and number > self.depth - vv_blocks:
                stream = tokens if stream is None else stream
                stream = stream + self.vv_attention(layer, tokens)
            tokens = self.block(layer, tokens, activation)
            if number in blocks:
                kept[number] = tokens[:, 1:]
        image = F.normalize(self.project(tokens[:, 0]).float(), dim=-1)
        vv = None if stream is None else self.project(stream[:, 1:])
        return VisionOutput(kept, vv, image, tokens[:, 0])

    def encode_sentences(self, sentences: Sequence[str], activation: str | None = None) -> Tensor:
        """L2-normalised sentence embeddings, fp32 (n, projection); see `embed_sentences`."""
        return F.normalize(self.embed_sentences(sentences, activation), dim=-1)

    @torch.inference_mode()
    def embed_sentences(self, sentences: Sequence[str], activation: str | None = None) -> Tensor:
        """Sentence embeddings of any length, fp32 (n, projection); padded to the longest sentence, not to 77.

        Args:
            sentences: Any number of them.
            activation: As in `block`: where it is another than the vision tower's own, the text tower is run with it
                too.
        """
        tower = self._text_tower(activation or self.activation)
        limit = self.model.config.text_config.max_position_embeddings
        found = []
        for start in range(0, len(sentences), _SENTENCES_AT_ONCE):
            tokens = self.tokenizer(
                list(sentences[start : start + _SENTENCES_AT_ONCE]),
                padding="longest",
                truncation=True,
                max_length=limit,
                return_tensors="pt",
            )
            output = tower(
                input_ids=tokens["input_ids"].to(self.device),
                attention_mask=tokens["attention_mask"].to(self.device),
            )
            found.append(self.model.text_projection(output.pooler_output).float())
        self.sentences_encoded += len(sentences)
        return torch.cat(found)

    def _text_tower(self, activation: str) -> Any:
        """The text tower; with an activation that is not the model's own, a copy of it that shares the weights."""
        own = self.model.text_model
        if activation == self.activation:
            return own
        # A copy, not a switch: another thread may be in the tower.
        tower = copy.deepcopy(own, {id(t): t for t in (*own.parameters(), *own.buffers())})
        for layer in tower.encoder.layers:
            layer.mlp.activation_fn = ACT2FN[activation]
        return tower

    def state_vectors(self, object_name: str, activation: str | None = None) -> Tensor:
        """The two text vectors of an object, normal and anomalous: fp32 (2, projection), L2-normalised.

        Each is the mean of its normalised sentences, normalised again. Kept per object name and activation, which is
        that of `encode_sentences`.
        """
        activation = activation or self.activation
        return self.kept_states(
            (ENSEMBLE, object_name, activation),
            lambda: [
                self.encode_sentences(sentences, activation).mean(dim=0)
                for sentences in prompt_sentences(object_name)
            ],
        )

    def kept_states(self, key: Hashable, make: Callable[[], Sequence[Tensor]]) -> Tensor:
        """Two text vectors, L2-normalised, fp32 (2, projection); made once for a key.

        Args:
            key: All that they depend on: sentences, object name, way of averaging.
            make: The two vectors, normal and anomalous, each (projection,), of any length.
        """
        return self._states.get_or_make(
            key, lambda: F.normalize(torch.stack(list(make())).float(), dim=-1)
        )


class _Walk(nn.Module):
    """A pass of the vision tower of one kind, on a copy in fp32, as a function of pixels alone.

    Its output: patch tokens of every block, the V-V stream if there is one, the image embedding, the class token.
    """

    def __init__(
        self,
        clip: ClipBackbone,
        precision: Precision,
        vv_blocks: int,
        activation: str,
        positions: Positions,
    ) -> None:
        from zsas.backbones.openvino import copied

        super().__init__()
        own = copy.copy(clip)
        own.model = SimpleNamespace(
            config=clip.model.config,
            vision_model=copied(clip.model.vision_model, precision),
            visual_projection=copied(clip.model.visual_projection, "fp32"),
        )
        self.vision_model, self.visual_projection = (
            own.model.vision_model,
            own.model.visual_projection,
        )
        blocks = range(1, clip.depth + 1)
        self._pass = lambda pixels: own._walked(pixels, blocks, vv_blocks, activation, positions)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        found = self._pass(pixels)
        vv = () if found.vv is None else (found.vv,)
        return (*found.blocks.values(), *vv, found.image, found.class_token)


def _digest(pixels: Tensor) -> tuple[object, ...]:
    """What two equal tensors of pixels have in common, and others have not."""
    held = pixels.contiguous().cpu().view(torch.uint8).numpy()
    return tuple(pixels.shape), hashlib.blake2b(held, digest_size=16).digest()
