"""The small SAM as it is trained: on crops that know their place in the frame, with dense heads beside it."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from transformers import SamModel

from tiny.training.sam.prompts import CELL
from tiny.training.sam.recipe import Recipe
from tiny.training.sam.start import build
from zsas.errors import ZsasError
from zsas.models.loaders import from_folder
from zsas.training.checkpoint import load_checkpoint


class TrainModel(nn.Module):
    """The small SAM with the dense heads that teach its encoder, both dropped after training.

    Args:
        recipe: Sizes of the model.
        seed: Seed of the initial values.
    """

    def __init__(self, recipe: Recipe, seed: int = 0) -> None:
        super().__init__()
        self.recipe = recipe
        self.sam = build(recipe, seed)
        hidden = recipe.hidden
        self.dense = nn.Conv2d(hidden, 3 * CELL * CELL, 1)
        self.anchor = nn.Sequential(
            nn.Linear(hidden + hidden // 8, hidden), nn.GELU(), nn.Linear(hidden, hidden // 8 + 1)
        )

    def go_on_from(self, start: Path) -> None:
        """Take over the weights of an earlier training.

        Args:
            start: Checkpoint ``last.pt``, whose average is taken, or folder of an exported model, which
                has no dense heads: they start anew.

        Raises:
            ZsasError: There is no checkpoint or model, or its sizes are not the recipe's.
        """
        try:
            if start.is_dir():
                exported = from_folder(SamModel, start)
                self.sam.load_state_dict(exported.state_dict())
            else:
                self.load_state_dict(load_checkpoint(start)["ema"]["shadow"])
        except RuntimeError:
            raise ZsasError(
                f"The small SAM at {start} has other sizes than this training's recipe: "
                "start from one with the same."
            ) from None

    def features(self, pixels: Tensor, place: tuple[int, int] = (0, 0)) -> Tensor:
        """Encoder features of crops that lie at ``place`` (column, row in patches) of the frame.

        Args:
            pixels: float (B, 3, C, C), normalised.
            place: Left and upper patch of the crop.

        Returns:
            (B, hidden, C / 16, C / 16).
        """
        encoder = self.sam.vision_encoder
        tokens = encoder.patch_embed.projection(pixels).permute(0, 2, 3, 1)
        side, (left, top) = tokens.shape[1], place
        tokens = tokens + encoder.pos_embed[:, top : top + side, left : left + side]
        for layer in encoder.layers:
            tokens = _encoder_layer(layer, tokens)
        return encoder.neck(tokens)

    def decode(
        self,
        features: Tensor,
        place: tuple[int, int],
        *,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        logits: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Three masks for each prompt; prompts are in frame pixels.

        Args:
            features: (P, hidden, g, g), one row a prompt.
            place: Left and upper patch of the crop in the frame.
            points: Positions (P, K, 2) and labels (P, K).
            boxes: (P, 4) xyxy.
            logits: (P, 4 g, 4 g) of an earlier call.

        Returns:
            Logits (P, 3, 4 g, 4 g) and predicted IoU (P, 3), float32.
        """
        grid, (left, top) = features.shape[-1], place
        encoder = self.sam.prompt_encoder
        sparse, dense = encoder(
            None if points is None else points[0][:, None],
            None if points is None else points[1][:, None],
            None if boxes is None else boxes[:, None],
            None if logits is None else logits[:, None],
        )
        if logits is None:
            dense = dense[:, :, :grid, :grid]
        wide = self.sam.get_image_wide_positional_embeddings()
        wide = wide[:, :, top : top + grid, left : left + grid].expand(len(features), -1, -1, -1)
        masks, scores = self.sam.mask_decoder(features, wide, sparse, dense, True)
        return masks[:, 0].float(), scores[:, 0].float()

    def pixels_embedded(self, features: Tensor) -> Tensor:
        """Features brought to the logits' size by the decoder's own upscaling, before any prompt.

        Returns:
            (B, hidden / 8, 4 g, 4 g).
        """
        decoder = self.sam.mask_decoder
        wide = decoder.upscale_conv1(features)
        wide = decoder.activation(decoder.upscale_layer_norm(wide))
        return decoder.activation(decoder.upscale_conv2(wide))


def _encoder_layer(layer: nn.Module, tokens: Tensor) -> Tensor:
    """One encoder block, with attention written so that its gradient is fast on a CPU."""
    batch, height, width, channels = tokens.shape
    attention, window = layer.attn, layer.window_size or height
    normed = layer.layer_norm1(tokens)
    rows, columns = height // window, width // window
    windows = normed.reshape(batch, rows, window, columns, window, channels)
    windows = windows.transpose(2, 3).reshape(-1, window * window, channels)
    heads = attention.num_attention_heads
    qkv = attention.qkv(windows).reshape(len(windows), window * window, 3, heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    weights = (query * attention.scale) @ key.transpose(-2, -1)
    mixed = (weights.softmax(-1) @ value).transpose(1, 2).reshape_as(windows)
    mixed = attention.proj(mixed).reshape(batch, rows, columns, window, window, channels)
    tokens = tokens + mixed.transpose(2, 3).reshape(tokens.shape)
    return tokens + layer.mlp(layer.layer_norm2(tokens))
