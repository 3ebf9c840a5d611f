"""The bundled examples, and the front matter that a Space reads."""

from __future__ import annotations

import io
import re
import tomllib
from pathlib import Path

import httpx2 as httpx
import pytest
from PIL import Image

from tests.helpers import ROOT
from tests.helpers.page import Served
from zsas.images import load_image, read_mask
from zsas.ui.examples import Examples


def test_the_bundled_examples_are_complete() -> None:
    index = tomllib.loads((ROOT / "examples" / "index.toml").read_text())["example"]
    examples = Examples()
    assert len(index) == len(examples) >= 12
    sound = 0
    for entry in index:
        image = load_image(ROOT / "examples" / entry["image"])
        mask = read_mask(ROOT / "examples" / entry["mask"], image.shape[:2])
        assert entry["licence"] == "CC0-1.0"
        assert entry["object"]
        assert mask.any() == bool(entry["defects"])
        sound += not mask.any()
    assert sound >= 2
    assert len({kind for entry in index for kind in entry["defects"]}) >= 6


def test_the_examples_on_the_hub_are_credited() -> None:
    entries = tomllib.loads((ROOT / "examples" / "hub.toml").read_text())["example"]
    for dataset in ("mvtec", "visa"):
        mine = [entry for entry in entries if entry["dataset"] == dataset]
        assert len({entry["category"] for entry in mine}) >= 2
        for entry in mine:
            assert all(entry[key] for key in ("repo", "file", "revision", "licence", "attribution"))
            assert ("non-commercial" in entry["licence"]) == (dataset == "mvtec")


def test_without_the_hub_only_ours_are_shown(tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text((ROOT / "examples" / "hub.toml").read_text())
    examples = Examples(tmp_path)
    examples.fetch_in_background()
    assert examples._fetching is not None
    examples._fetching.join()
    assert examples.complete
    assert len(examples) == 0


def test_the_front_matter_of_the_readme_is_valid() -> None:
    import gradio
    import yaml

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---", 2)[1])
    assert front["sdk"] == "gradio"
    assert front["sdk_version"] == gradio.__version__
    assert (ROOT / front["app_file"]).is_file()
    assert re.fullmatch(r"3\.1\d", str(front["python_version"]))
    assert len(front["short_description"]) <= 60
    assert {"openai/clip-vit-large-patch14-336", "facebook/sam-vit-huge"} <= set(front["models"])
    for line in front["preload_from_hub"]:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+( [\w.,*/-]+)?( [0-9a-f]{40})?", line)
    assert front["emoji"]
    assert Image.open(ROOT / "docs" / "page.png").width >= 1200


@pytest.mark.slow
def test_the_examples_pictures_come_from_the_server_when_they_are_shown(served: Served) -> None:
    assert 'data-at="zsas/example/one-spot.jpg"' in served.examples.html()
    answer = httpx.get(f"{served.url}/zsas/example/one-spot.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    assert max(Image.open(io.BytesIO(answer.content)).size) <= 168
    assert httpx.get(f"{served.url}/zsas/example/none.jpg").status_code == 404
