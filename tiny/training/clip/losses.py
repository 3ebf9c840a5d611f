"""What the small CLIP is asked to get right: patches against sentences, densely, and images against sentences.

* dense: focal + dice of each layer's map against the defect mask, with text vectors of the image's
  own noun (mostly), of "object", of a noun no image has, or, seldom, of another image's noun;
* defect type: a patch on a stain belongs to "... with a stain" rather than to "... with a scratch";
* image: the class token against its own sentence among the batch's, and normal against anomalous, which
  the highest patches of the map have to say as well.

The mask is compared at half resolution, which is quick on one thread of a CPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tiny.training.clip.model import TrainModel
from tiny.training.clip.recipe import SCALE
from tiny.training.clip.tasks import Task, normalise


def dense_loss(margin: Tensor, mask: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Focal (gamma 2) and dice of abnormal maps.

    Args:
        margin: Abnormal minus normal logit, (B, L, h, w).
        mask: (B, h, w) in [0, 1].
        target: (B,), what the map shall be on defects: 1, or less where another noun is named.

    Returns:
        Focal loss: the mean over pixels plus a fifth of the mean over defect pixels, so that small
        defects count; dice loss over images with defects and target 1. Both averaged over layers.
    """
    goal = (mask * target[:, None, None])[:, None]
    probability = torch.sigmoid(margin)
    entropy = F.softplus(margin) - goal * margin
    focal = (goal - probability).square() * entropy
    area = mask.sum((1, 2))
    on_defects = (focal * mask[:, None]).sum((2, 3)) / area.clamp_min(1.0)[:, None]
    has = (area > 0.5).float()
    focal_loss = focal.mean() + 0.2 * (on_defects * has[:, None]).mean()
    use = has * (target == 1.0).float()
    overlap = (probability * mask[:, None]).sum((2, 3))
    total = probability.sum((2, 3)) + area[:, None]
    dice = 1.0 - (2.0 * overlap + 1.0) / (total + 1.0)
    dice_loss = (dice.mean(1) * use).sum() / use.sum().clamp_min(1.0)
    return focal_loss, dice_loss


def losses(model: TrainModel, task: Task, *, own: bool = True) -> dict[str, Tensor]:
    """All losses of a batch by name, not yet weighted.

    Args:
        model: The model.
        task: The batch.
        own: Whether the dense loss is put on CLIP's own projection of the last patches, too.
    """
    recipe = model.recipe
    patches, own_patches, image = model.encode_images(normalise(task.image))
    mask = task.mask()
    width = max(task.state_ids.shape[1], task.own_ids.shape[1], task.defect_ids.shape[1])
    groups = (task.state_ids, task.own_ids, task.defect_ids)
    end = int(model.clip.config.text_config.eos_token_id)
    padded = [F.pad(ids, (0, width - ids.shape[1]), value=end) for ids in groups]
    states, captions, defects = model.encode_text(torch.cat(padded)).split(
        [len(ids) for ids in groups]
    )
    pairs = F.normalize(states.view(-1, 2, recipe.samples, states.shape[-1]).mean(2), dim=-1)
    chosen = pairs[task.noun]
    direction = chosen[:, 1] - chosen[:, 0]

    grid = round(patches.shape[2] ** 0.5)
    every = torch.cat([patches, own_patches[:, None]], 1) if own else patches
    margin = SCALE * torch.einsum("blnd,bd->bln", every, direction)
    mean_margin = margin[:, : patches.shape[1]].mean(1, keepdim=True)
    margin = torch.cat([margin, mean_margin], 1)
    highest = mean_margin[:, 0].topk(max(1, mean_margin.shape[2] // 100), 1).values.mean(1)
    margin = F.interpolate(
        margin.unflatten(2, (grid, grid)), size=mask.shape[1:], mode="bilinear",
        align_corners=False,
    )  # fmt: skip
    focal, dice = dense_loss(margin, mask, task.target)
    normal = F.normalize(pairs[:, 0].mean(0), dim=-1)
    scale = model.clip.logit_scale.exp().clamp(max=100.0)
    return {
        "focal": focal,
        "dice": dice,
        "defect_type": defect_type_loss(
            patches, torch.cat([normal[None], defects]), task.patch_defect()
        ),
        "image": verdict_loss(scale * (image * direction).sum(-1), task.damaged),
        "highest": verdict_loss(highest, task.damaged),
        "contrast": contrast_loss(scale * image @ captions.T, task.own_label),
    }


def defect_type_loss(patches: Tensor, sentences: Tensor, patch_defect: Tensor) -> Tensor:
    """Cross-entropy of patches against the normal sentence and one a defect type.

    Args:
        patches: Normalised (B, L, N, D).
        sentences: Normalised (1 + K, D), the normal one first.
        patch_defect: int64 (B, N), see `Task`; as many normal patches as defective ones are drawn.
    """
    flat = patch_defect.reshape(-1)
    hits = (flat > 0).nonzero()[:, 0]
    plain = (flat == 0).nonzero()[:, 0]
    plain = plain[torch.randperm(len(plain), device=flat.device)[: max(8, len(hits))]]
    chosen = torch.cat([hits, plain])
    seen = patches.transpose(1, 2).flatten(0, 1)[chosen]
    scores = SCALE * torch.einsum("nld,kd->nlk", seen, sentences)
    truth = flat[chosen][:, None].expand(-1, scores.shape[1])
    return F.cross_entropy(scores.flatten(0, 1), truth.reshape(-1))


def verdict_loss(logit: Tensor, damaged: Tensor) -> Tensor:
    """Binary cross-entropy of image logits (B,) over the images whose defects are clearly visible or absent."""
    clear = damaged >= 0
    return torch.nan_to_num(F.binary_cross_entropy_with_logits(logit[clear], damaged[clear]))


def contrast_loss(alike: Tensor, label: Tensor) -> Tensor:
    """CLIP's symmetric loss; sentences that mean the same count as equally right.

    Args:
        alike: Scaled cosines of images against sentences, (B, B).
        label: int64 (B,), equal where sentences mean the same.
    """
    same = (label[:, None] == label[None]).float()
    same = same / same.sum(1, keepdim=True)
    return -0.5 * (
        (same * alike.log_softmax(1)).sum(1).mean() + (same * alike.log_softmax(0)).sum(1).mean()
    )
