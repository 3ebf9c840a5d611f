"""The whole method, equations 1 to 12 of arXiv 2510.11028, on one image, for reading; nothing of zsas is imported.

`python examples/minimal.py IMAGE OBJECT` writes M1.png to M3.png, equal to those of `zsas segment --system paper`."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from transformers import AutoTokenizer, CLIPModel, SamModel
from transformers.image_transforms import PILImageResampling, resize

HOME = Path(__file__).resolve().parents[1]
HOME = HOME / "zsas" if (HOME / "zsas").is_dir() else HOME  # in a clone, or in an installed package
THRESHOLD, BLUR, K, STRIDE, KERNEL, SIZE = 0.55, 4, 3, 400, 25, 1024  # stride and kernel: for a longest side of SIZE
CLIP_PIXELS = [[0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]]  # mean, deviation
SAM_PIXELS = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]

def pixels(image, height, width, resample, statistics):  # uint8 (H, W, 3) -> (1, 3, height, width), normalised
    resized = resize(image, (height, width), resample, data_format="channels_first", input_data_format="channels_last")
    mean, deviation = torch.tensor(statistics)[..., None, None]
    return (torch.tensor(resized)[None] / 255 - mean) / deviation

def text_vectors(clip, folder, name):  # normal and anomalous, (2, D): mean of normalised sentences
    words, tokenizer, found = json.loads((HOME / "prompts.json").read_text()), AutoTokenizer.from_pretrained(folder), []
    for states in (words["normal_states"], words["anomalous_states"]):
        text = [t.format(s.format(name or words["default_object"])) for s in states for t in words["templates"]]
        embedded = clip.text_model(**tokenizer(text, padding=True, return_tensors="pt")).pooler_output
        found.append(F.normalize(clip.text_projection(embedded), dim=-1).mean(0))
    return F.normalize(torch.stack(found), dim=-1)

def anomaly_map(image, name, folder):  # Map_a, (H, W) in [0, 1]
    clip = CLIPModel.from_pretrained(folder, dtype=torch.float32)
    with safe_open(folder / "adapter.safetensors", "pt") as file:  # one linear layer for each of four blocks
        card = {key: json.loads(file.metadata()[key]) for key in ("blocks", "views", "resolution", "scale")}
        layers = [[file.get_tensor(f"fc.{i}.{part}").float() for part in ("weight", "bias")] for i in range(4)]
    text, patch, views = text_vectors(clip, folder, name), clip.config.vision_config.patch_size, []
    grid = card["resolution"] // patch
    for fraction, mirrored in card["views"]:  # test-time augmentation
        n = int(fraction * card["resolution"]) // patch
        seen = pixels(image, n * patch, n * patch, PILImageResampling.BICUBIC, CLIP_PIXELS)
        seen = {"pixel_values": seen.flip(-1) if mirrored else seen, "interpolate_pos_encoding": True}
        tokens = clip.vision_model(**seen, output_hidden_states=True).hidden_states
        aligned = [F.linear(tokens[b][0, 1:], *layer) for b, layer in zip(card["blocks"], layers, strict=True)]
        aligned = F.normalize(torch.stack(aligned), dim=-1).mT.reshape(4, -1, n, n)
        views.append(F.interpolate(aligned.flip(-1) if mirrored else aligned, (grid, grid), mode="bilinear"))
    features = torch.stack(views).half().float().movedim(2, -1)  # fp16, as the engine keeps them
    chances = (card["scale"] * features @ (text[1] - text[0])).sigmoid()  # the softmax of normal and anomalous
    logits, side = torch.logit(chances.mean(0)[None], eps=1e-6), grid * patch
    square = F.interpolate(logits, (side, side), mode="bilinear").sigmoid().mean((0, 1)).numpy()
    return cv2.resize(cv2.GaussianBlur(square, (0, 0), BLUR * side / 518), image.shape[1::-1])

def top_k(score, where, stride):  # the pixels of rank 0, stride, 2 * stride, ... inside `where`, (k, 2)
    y, x = np.nonzero(where)
    chosen = np.argsort(-score[y, x], kind="stable")[:: max(1, min(stride, len(y) // K))][:K]
    return np.stack([x[chosen], y[chosen]], axis=1).astype(np.float32)

@torch.inference_mode()
def segment(image, name="", weights=HOME / "weights/tiny"):  # M1, M2, M3, each bool (H, W)
    (height, width), longest = image.shape[:2], max(image.shape)
    sam = SamModel.from_pretrained(weights / "sam", dtype=torch.float32)
    side, cell = sam.config.vision_config.image_size, sam.config.vision_config.patch_size
    rows, columns = int(height * side / longest + 0.5), int(width * side / longest + 0.5)
    to_sam = np.array([columns / width, rows / height], np.float32)  # image pixels -> SAM's square
    def to_image(grid, step):  # a grid whose cells are `step` pixels of SAM's square -> (H, W)
        m = np.array([[1, 0, 0.5], [0, 1, 0.5]]) * to_sam[:, None] / step - [[0, 0, 0.5]]
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, cv2.BORDER_REPLICATE
        return cv2.warpAffine(grid, m, (width, height), None, *how)
    map_a, stride = anomaly_map(image, name, weights / "clip"), round(STRIDE * (longest / SIZE) ** 2)
    s_a = map_a > THRESHOLD  # eq. 1: R_a = S_a x Map_a
    p_h = top_k(map_a, s_a, stride)  # eq. 2
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (max(3, round(KERNEL * longest / SIZE)),) * 2)
    n_a = (cv2.dilate(s_a.astype(np.uint8), kernel) > 0) & ~s_a  # eq. 3
    square = pixels(image, rows, columns, PILImageResampling.BILINEAR, SAM_PIXELS)
    f = sam.vision_encoder(F.pad(square, (0, side - columns, 0, side - rows))).last_hidden_state  # eq. 4
    cells = F.normalize(f[0, :, : -(-rows // cell), : -(-columns // cell)], dim=0).numpy()  # without the padding
    cover = cv2.resize(s_a.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    cover = np.pad(cover, ((0, -rows % cell), (0, -columns % cell))).reshape(cells.shape[1], cell, -1, cell)
    f_a = np.einsum("cyx,yaxb->c", cells, cover)  # eq. 5: F x S_a
    map_s = to_image(np.einsum("c,cyx->yx", f_a / (np.linalg.norm(f_a) + 1e-6), cells), cell)  # eq. 6
    p_l = top_k(-map_s, n_a, stride)  # eq. 7
    points = torch.tensor(np.concatenate([p_h, p_l]) * to_sam)[None, None]  # eq. 8
    labels, masks, box, logit = torch.tensor([[[1] * len(p_h) + [0] * len(p_l)]]), [], None, None
    for number in (1, 2, 3) if len(p_h) else ():  # eqs 9, 10 and 12
        if number == 3 and masks[1].any():  # eq. 11: the tight box of M2
            x, y, w, h = cv2.boundingRect(masks[1].astype(np.uint8))
            box = torch.tensor([[[x, y, x + w - 1, y + h - 1]]]) * torch.tensor(to_sam).repeat(2)
        prompt = {"input_points": points, "input_labels": labels, "input_boxes": box, "input_masks": logit}
        answer = sam(image_embeddings=f, **prompt)  # three masks; the one with the highest predicted IoU is kept
        logit = answer.pred_masks[0, :, answer.iou_scores[0, 0].argmax()][None]
        masks.append(to_image(logit[0, 0].numpy(), side / logit.shape[-1]) > 0)
    return masks or [s_a] * 3

if __name__ == "__main__":
    for number, mask in enumerate(segment(cv2.imread(sys.argv[1])[..., ::-1].copy(), *sys.argv[2:]), start=1):
        cv2.imwrite(f"M{number}.png", mask * np.uint8(255))
