"""Loads backbones from folders; a weight that is missing or does not fit is an error."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsas import surroundings
from zsas.errors import ZsasError, reason
from zsas.models.hub import FILES, SAFE, folder_of, is_checkpoint, is_model_here, weights_in
from zsas.models.presets import POINT_FEATURES

if TYPE_CHECKING:  # at run time torch and transformers take seconds, and are not needed to say that a model is missing
    import torch

    from zsas.device import Precision, Runtime


def load_clip(
    source: str,
    *,
    name: str,
    wanted_for: str,
    device: torch.device,
    precision: Precision,
    runtime: Runtime = "torch",
) -> Any:
    """The CLIP backbone from a folder or the Hub, as `zsas.backbones.clip.ClipBackbone`.

    Raises:
        ZsasError: If it cannot be had, or its tokenizer does not fit it.
    """
    surroundings.prepare()
    from transformers import CLIPModel, CLIPTokenizer

    from zsas.backbones.clip import ClipBackbone

    folder = folder_of(source, FILES["clip"], wanted_for)
    _check_pixels(folder)
    model = from_folder(CLIPModel, folder)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as wrong:
        raise ZsasError(
            f"The tokenizer in {folder.name} cannot be read ({reason(wrong)}); "
            "its files are missing or damaged, delete the folder and fetch it again."
        ) from None
    # Where a file is missing, the library makes a tokenizer of two words instead of an error.
    vocabulary = model.config.text_config.vocab_size
    if len(tokenizer) != vocabulary:
        raise ZsasError(
            f"The tokenizer in {folder.name} knows {len(tokenizer)} words, but the model was trained with "
            f"{vocabulary}; its tokenizer files are missing or damaged, delete the folder and fetch it again."
        )
    how = {"device": device, "precision": precision, "runtime": runtime}
    return ClipBackbone(model, tokenizer, name=name, **how)


def _check_pixels(folder: Path) -> None:
    """Refuse a CLIP whose pixels are normalised in another way than CLIP's, which is the only one used here.

    Raises:
        ZsasError: If its preprocessor_config.json says so.
    """
    from zsas.backbones.clip import PIXEL_MEAN

    try:
        said = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        mean = [float(value) for value in said["image_mean"]]
    except (OSError, ValueError, LookupError, TypeError):  # without one it is taken for CLIP's
        return
    if any(abs(a - b) > 1e-3 for a, b in zip(mean, PIXEL_MEAN, strict=False)):
        raise ZsasError(
            f"The CLIP in {folder.name} was trained on pixels with the mean {mean}, but only CLIP's own "
            "normalisation is used here; choose another CLIP."
        )


def load_sam(
    source: str,
    *,
    wanted_for: str,
    device: torch.device,
    precision: Precision,
    drop_padding: bool = False,
    runtime: Runtime = "torch",
) -> Any:
    """SAM from one of Meta's `.pth` files, a folder or the Hub, as `zsas.backbones.sam.Sam`.

    Raises:
        ZsasError: If it cannot be had, cannot leave out padding, or cannot be run by the runtime.
    """
    from zsas.backbones.sam import Sam

    if is_checkpoint(source):
        checkpoint = Path(os.path.expanduser(source))
        if not checkpoint.is_file():
            raise ZsasError(f"There is no SAM checkpoint {source}.")
        if drop_padding:
            raise ZsasError(
                f"{checkpoint.name} is one of Meta's own files, with which padding cannot be left out; take SAM in "
                "transformers' format, as facebook/sam-vit-huge, or leave out --drop-padding."
            )
        if runtime != "torch":
            raise ZsasError(
                f"{checkpoint.name} is one of Meta's own files, which the runtime {runtime} cannot run; take SAM in "
                "transformers' format, as facebook/sam-vit-huge, or leave out --runtime."
            )
        from zsas.backbones.sam_meta import MetaSam, load_meta_checkpoint

        return Sam(MetaSam(load_meta_checkpoint(checkpoint), device, precision), device)
    from zsas.backbones.sam_families import FAMILIES, network_for, sam_class

    folder = folder_of(source, FILES["sam"], wanted_for)
    found = _model_type(folder)
    kind = sam_class(found)
    key_mapping = FAMILIES[kind.__name__].key_mapping
    model = from_folder(kind, folder, model_type=found, key_mapping=key_mapping)
    network = network_for(model, device, precision, folder, runtime)
    return Sam(network, device, drop_padding=drop_padding)


def load_features(
    source: str, *, kind: str, wanted_for: str, device: torch.device, precision: Precision
) -> Any:
    """DINOv2 or a ResNet from a folder or the Hub, as `zsas.backbones.patch_features.PatchBackbone`.

    Args:
        source: Hub id or folder.
        kind: `dinov2` or `resnet`, which its config must say.
        wanted_for: Name of the preset, for sentences.
        device: Where it runs.
        precision: Number format.

    Raises:
        ZsasError: If it cannot be had, or is of another kind.
    """
    surroundings.prepare()
    import transformers

    from zsas.backbones.patch_features import PatchBackbone

    usual = POINT_FEATURES[kind]
    if source == usual.source and not is_model_here("features", source):
        print(f"The point features need {usual.words}; it is fetched once.", file=sys.stderr)
    folder = folder_of(source, FILES["features"], wanted_for)
    classes = {"dinov2": transformers.Dinov2Model, "resnet": transformers.ResNetModel}
    # A ResNet has no attention; the library then takes no other word.
    model = from_folder(classes[kind], folder, attention="sdpa" if kind == "dinov2" else "eager")
    return PatchBackbone(model, name=source, device=device, precision=precision)


def _model_type(folder: Path) -> str:
    """What a model's config says it is.

    Raises:
        ZsasError: If the config cannot be read.
    """
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, LookupError, TypeError) as wrong:
        raise ZsasError(
            f"The config.json in {folder} does not say what model it is of ({reason(wrong)}); fetch it again."
        ) from None


# Long because each way in which a folder can be wrong has its own sentence.
def from_folder(
    kind: Any,
    folder: Path,
    model_type: str = "",
    key_mapping: dict[str, str] | None = None,
    attention: str = "sdpa",
) -> Any:
    """A model whose weights all come from the folder.

    Args:
        kind: transformers' class.
        folder: With config and weights.
        model_type: What its config must say; that of the class if empty.
        key_mapping: Patterns of weight names and what they become, beside the library's own.
        attention: The library's name for the kernel of attention.

    Raises:
        ZsasError: If the folder holds another kind of model, or weights are missing or of other shapes.
    """
    import torch
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # seconds at most, and it would break into our own output
    logging.set_verbosity_error()  # its table of odd weights: ours is one sentence
    safe = (weights_in(folder) or SAFE).startswith(SAFE)
    model_type = model_type or kind.config_class.model_type
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
        if found == model_type:
            model, report = kind.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=safe,
                weights_only=True,
                attn_implementation=attention,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # so that they are reported, as missing ones are
                output_loading_info=True,
                key_mapping=key_mapping,
            )
    except (
        Exception
    ) as error:  # safetensors, pickle, torch and transformers each raise kinds of their own
        raise ZsasError(
            f"The model in {folder} cannot be loaded as {kind.__name__}: {reason(error)}"
        ) from None
    finally:
        logging.set_verbosity(verbosity)
        if bars:  # the Hub's downloads share the switch
            logging.enable_progress_bar()
    if found != model_type:
        raise ZsasError(
            f"The model in {folder} is of the type {found!r}, but one of the type "
            f"{model_type!r} is needed here; name another folder or Hub id."
        )
    # The library fills these with random numbers and goes on. What it can derive from other weights (tied ones, as
    # SAM's second positional embedding) it does not report.
    odd = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if odd:
        raise ZsasError(
            f"The weights in {folder} are not those of a whole {kind.__name__}: {len(odd)} are missing or of another "
            f"shape, for example {odd[0]}; the files are damaged or of another model, fetch or export it again."
        )
    return model


def load_detector(
    source: str, *, wanted_for: str, device: torch.device, precision: Precision
) -> Any:
    """Grounding DINO from a folder or the Hub, as `zsas.backbones.detector.Detector`; it runs in fp32.

    Raises:
        ZsasError: If it cannot be had, or is another kind of detector.
    """
    surroundings.prepare()
    import transformers

    from zsas.backbones.detector import Detector

    folder = folder_of(source, FILES["detector"], wanted_for)
    kinds = {
        "grounding-dino": "GroundingDinoForObjectDetection",
        "mm-grounding-dino": "MMGroundingDinoForObjectDetection",
    }
    found = _model_type(folder)
    if found not in kinds:
        raise ZsasError(
            f"The model in {folder} is of the type {found!r}, but a detector is needed here whose config.json says "
            f"{' or '.join(kinds)}; name another folder or Hub id with --detector."
        )
    # Its attention has masks of its own, for which the library has no other kernel.
    model = from_folder(getattr(transformers, kinds[found]), folder, attention="eager")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as wrong:
        raise ZsasError(
            f"The tokenizer in {folder.name} cannot be read ({reason(wrong)}); "
            "its files are missing or damaged, delete the folder and fetch it again."
        ) from None
    if len(tokenizer) > model.config.text_config.vocab_size:
        raise ZsasError(
            f"The tokenizer in {folder.name} knows {len(tokenizer)} words, more than its model; its files are damaged "
            "or of another model, delete the folder and fetch it again."
        )
    return Detector(model, tokenizer, device)


def load_saliency(
    source: str, *, wanted_for: str, device: torch.device, precision: Precision
) -> Any:
    """A ResNet from a file of torchvision, a folder or the Hub, as `zsas.backbones.resnet.ResNetFeatures`, in fp32.

    Raises:
        ZsasError: If it cannot be had, or the weights are of another network.
    """
    import torch
    from safetensors.torch import load_file

    from zsas.backbones.resnet import ResNet, ResNetFeatures

    file = Path(os.path.expanduser(source))
    if not is_checkpoint(source):
        folder = folder_of(source, FILES["saliency"], wanted_for)
        file = folder / (weights_in(folder) or SAFE)
    try:
        if file.suffix == ".safetensors":
            weights = load_file(file)
        else:
            weights = torch.load(file, map_location="cpu", weights_only=True)
        weights = {name: value.float() for name, value in weights.items()}
    except Exception as error:  # safetensors, pickle and torch each raise kinds of their own
        raise ZsasError(
            f"The weights {file} cannot be read ({reason(error)}); fetch them again."
        ) from None
    return ResNetFeatures(ResNet(weights), device)
