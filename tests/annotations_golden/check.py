"""Whether other tools read our annotations: `python tests/annotations_golden/check.py datumaro`, or another tool.

Runs with the tool alone, in an environment of its own (tools ask for versions that exclude each other):

    python -m venv tool && tool/bin/pip install datumaro pillow
    tool/bin/python tests/annotations_golden/check.py datumaro

The files are those beside this one, which `--make` writes and tests/test_annotations.py holds to what the
code writes today; `masks.json` has each region's pixels, row by row.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent
NAMES = ("line1/0001.jpg", "line2/0001.jpg", "0001.png", "größe ☃.png", "ok.png", "b/Ok.PNG")


def made() -> dict[str, Any]:
    """The three files as JSON types."""
    from tests.helpers.results import make_result, normal_result
    from zsas.annotations import Annotations

    annotations, results = Annotations(), []
    for number, name in enumerate(NAMES):
        result = normal_result() if name == "ok.png" else make_result(48 + 13 * number, 64 + number)
        annotations.add(name, result, f"saved{number}")
        results.append(result)
    coco = annotations.coco()
    coco["info"] |= {"version": "", "year": 0, "date_created": ""}
    tasks = annotations.label_studio()
    for task in tasks:
        task["predictions"][0]["model_version"] = ""
    files = [image["file_name"] for image in coco["images"]]
    masks = {
        file: [text(region.mask) for region in result.regions]
        for file, result in zip(files, results, strict=True)
    }
    return {"coco.json": coco, "label_studio.json": tasks, "masks.json": masks}


def read(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


def text(mask: Any) -> str:
    return "".join("01"[bool(each)] for each in mask.ravel())


def same(found: list[str], file: str) -> None:
    if sorted(found) != sorted(read("masks.json")[file]):
        raise SystemExit(f"{file}: other masks")
    print(f"{file}: {len(found)} masks, right")


def by_pycocotools() -> None:
    from pycocotools.coco import COCO

    coco = COCO(str(GOLDEN / "coco.json"))
    for image in coco.loadImgs(coco.getImgIds()):
        regions = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        same([text(coco.annToMask(region)) for region in regions], image["file_name"])


def folder_with_images() -> Path:
    from PIL import Image

    root = Path(tempfile.mkdtemp())
    for image in read("coco.json")["images"]:
        folder = root / "images" / "default"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (image["width"], image["height"])).save(folder / image["file_name"])
    (root / "annotations").mkdir()
    shutil.copy(GOLDEN / "coco.json", root / "annotations" / "instances_default.json")
    return root


def by_supervision() -> None:
    import supervision

    root = folder_with_images()
    data = supervision.DetectionDataset.from_coco(
        images_directory_path=str(root / "images" / "default"),
        annotations_path=str(GOLDEN / "coco.json"),
        force_masks=True,
    )
    for path, _, found in data:
        masks = [] if found.mask is None else list(found.mask)
        same([text(mask) for mask in masks], Path(path).name)


def by_datumaro() -> None:
    """Also written as CVAT's own XML, and read again."""
    from datumaro.components.dataset import Dataset

    root = folder_with_images()
    data = Dataset.import_from(str(root), "coco_instances")
    for item in data:
        masks = [one.image for one in item.annotations if "Mask" in type(one).__name__]
        same([text(mask) for mask in masks], Path(item.media.path).name)
    data.export(str(root / "cvat"), "cvat", save_media=True)
    number = sum(len(item.annotations) for item in Dataset.import_from(str(root / "cvat"), "cvat"))
    print(f"as CVAT's XML: {number} annotations")


def by_fiftyone() -> None:
    """Its importer of COCO; a whole data set would need its MongoDB."""
    import fiftyone.utils.coco as reader
    import numpy as np

    found = reader.load_coco_detection_annotations(str(GOLDEN / "coco.json"), extra_attrs=True)
    images, annotations = found[3], found[4]
    for number, image in images.items():
        size = (image["width"], image["height"])
        masks = []
        for one in annotations.get(number, []):
            detection = one.to_detection(size, {1: "anomaly"}, load_segmentation=True)
            whole = np.zeros(size[::-1], bool)
            x, y = (
                round(part * side) for part, side in zip(detection.bounding_box, size, strict=False)
            )
            height, width = detection.mask.shape
            whole[y : y + height, x : x + width] = detection.mask
            masks.append(text(whole))
        same(masks, image["file_name"])


def by_label_studio_sdk() -> None:
    import numpy as np
    from label_studio_sdk.converter.brush import decode_rle
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface(
        '<View><Image name="image" value="$image"/><BrushLabels name="tag" toName="image">'
        '<Label value="anomaly"/></BrushLabels></View>'
    )
    for task in read("label_studio.json"):
        (prediction,) = task["predictions"]
        if not interface.validate_prediction(prediction):
            raise SystemExit(f"{task['data']['image']}: refused")
        masks = []
        for region in prediction["result"]:
            shape = (region["original_height"], region["original_width"], 4)
            masks.append(text(np.reshape(decode_rle(region["value"]["rle"]), shape)[..., 3] > 0))
        same(masks, task["data"]["image"])


TOOLS = {
    "pycocotools": by_pycocotools,
    "supervision": by_supervision,
    "datumaro": by_datumaro,
    "fiftyone": by_fiftyone,
    "label-studio-sdk": by_label_studio_sdk,
}


def files() -> Iterator[tuple[str, str]]:
    for name, values in made().items():
        yield name, json.dumps(values, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tool", choices=list(TOOLS), nargs="?")
    parser.add_argument("--make", action="store_true", help="write the files anew")
    told = parser.parse_args()
    if told.make:
        for name, content in files():
            (GOLDEN / name).write_text(content, encoding="utf-8")
        return
    if told.tool is None:
        parser.error("name a tool")
    print(told.tool, importlib.metadata.version(told.tool))
    TOOLS[told.tool]()


if __name__ == "__main__":
    main()
