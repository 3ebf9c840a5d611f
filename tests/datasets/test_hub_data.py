"""Data sets of the Hub: how they are listed, read and fetched, and what is said where they cannot be had."""

from __future__ import annotations

import base64
import io
import json
import pickle
import zlib

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.helpers.datasets import PICTURE, SPOT, write
from zsas.datasets import hub
from zsas.datasets.hub import mvtec_from_fiftyone, visa_from_parquet
from zsas.datasets.load import load_dataset
from zsas.errors import ZsasError


class TestHub:
    """The files of the Hub as they are laid out there, without the Hub."""

    def fiftyone(self, mask):
        def row(name, defect_type, split="test", **more):
            labels = {"category": {"label": "metal_nut"}, "defect": {"label": defect_type}}
            return {"filepath": name, "split": split, **labels, **more}

        return [
            row("data/1.png", "good"),
            row("data/2.png", "scratch", defect_mask=mask),
            row("data/3.png", "good", split="train"),
        ]

    @pytest.fixture
    def hub(self, tmp_path, monkeypatch):
        asked = []

        def fetch(repo, name, revision):
            asked.append((repo, name, revision))
            return tmp_path / name

        monkeypatch.setattr(hub, "_hub_file", fetch)
        write(tmp_path / "data/1.png", PICTURE)
        write(tmp_path / "data/2.png", PICTURE)
        write(tmp_path / "fields/2.png", SPOT)
        return tmp_path, asked

    def test_mvtec_is_listed_at_once_and_fetched_when_needed(self, hub):
        root, asked = hub
        rows = self.fiftyone({"mask_path": "fields/2.png"})
        (root / "samples.json").write_text(json.dumps({"samples": rows}))
        good, bad = load_dataset("mvtec", revision="abc")
        assert asked == [("Voxel51/mvtec-ad", "samples.json", "abc")]
        assert bad.load_mask(bad.load_image().shape[:2]).sum() == 4
        assert ("Voxel51/mvtec-ad", "data/2.png", "abc") in asked
        assert good.object_name == "metal nut"

    def test_masks_inside_samples_json(self, hub):
        buffer = io.BytesIO()
        np.save(buffer, SPOT)
        code = base64.b64encode(zlib.compress(buffer.getvalue())).decode()
        rows = self.fiftyone({"mask": {"$binary": {"base64": code, "subType": "00"}}})
        data = mvtec_from_fiftyone(rows, "test")
        assert data.samples[1].load_mask((6, 8)).sum() == 4

    def test_a_changed_layout(self):
        with pytest.raises(
            ZsasError, match=r"lacks category.label, defect.label, split or filepath"
        ):
            mvtec_from_fiftyone([{"path": "x"}], "test")

    def test_damaged_files_are_one_sentence(self, tmp_path):
        (row,) = self.fiftyone(None)[1:2]
        with pytest.raises(ZsasError, match="no defect_mask for"):
            mvtec_from_fiftyone([{**row, "defect_mask": "scratch.png"}], "test")
        with pytest.raises(ZsasError, match="its layout has changed"):
            mvtec_from_fiftyone([{**row, "defect": {"label": None}}], "test")
        (tmp_path / "candle.parquet").write_bytes(b"PAR")
        with pytest.raises(ZsasError, match="cannot be read as parquet"):
            visa_from_parquet(tmp_path / "candle.parquet", "candle", "test")

    def test_visa_parquet(self, tmp_path):
        def png(array):
            return {"bytes": cv2.imencode(".png", array)[1].tobytes(), "path": None}

        path = tmp_path / "pcb1.test-00000-of-00001.parquet"
        columns = {"image": [png(PICTURE)] * 2, "mask": [None, png(SPOT)], "label": [0, 1]}
        pq.write_table(pa.table(columns), path)
        good, bad = visa_from_parquet(path, "pcb1", "test")
        assert good.load_image().shape == (6, 8, 3)
        assert (good.anomalous, bad.anomalous) == (False, True)
        assert bad.load_mask((6, 8)).sum() == 4
        assert not good.load_mask((6, 8)).any()
        path.unlink()
        with pytest.raises(ZsasError, match="is gone"):
            good.load_image()

    def test_a_mask_of_the_hub_is_read_as_one_on_disk(self, tmp_path):
        palette = Image.fromarray(SPOT).convert("P")
        palette.putpalette(
            [255, 255, 255] + [128, 0, 0] * 255
        )  # no black and white: the index counts
        file = io.BytesIO()
        palette.save(file, "PNG")
        cut = cv2.imencode(".png", SPOT)[1].tobytes()[:-30]
        path = tmp_path / "pcb1.test-00000-of-00001.parquet"
        picture = {"bytes": cv2.imencode(".png", PICTURE)[1].tobytes()}
        masks = [{"bytes": file.getvalue()}, {"bytes": cut}]
        pq.write_table(pa.table({"image": [picture] * 2, "mask": masks, "label": [1, 1]}), path)
        good, damaged = visa_from_parquet(path, "pcb1", "test")
        assert good.load_mask((6, 8)).sum() == 4
        with pytest.raises(ZsasError):
            damaged.load_mask((6, 8))

    def test_a_download_that_breaks_off_is_one_sentence(self, monkeypatch):
        def break_off(*_, **__):
            raise ZsasError("The line is dead.")

        monkeypatch.setattr(hub, "_hub_is_silent", lambda: "")
        monkeypatch.setattr(hub, "repo_files", break_off)
        with pytest.raises(ZsasError, match="The line is dead"):
            load_dataset("mvtec", revision="not-in-any-cache")

    def test_a_sample_of_the_hub_is_found_on_another_machine(self, hub):
        root, asked = hub
        (root / "data").mkdir(exist_ok=True)
        image = {"bytes": cv2.imencode(".png", PICTURE)[1].tobytes()}
        table = pa.table({"image": [image], "mask": [None], "label": ["normal"]})
        pq.write_table(table, root / "data/candle.test-00000-of-00001.parquet")
        (sample,) = pickle.loads(pickle.dumps(load_dataset("visa", categories=["candle"]).samples))
        asked.clear()
        assert sample.load_image().shape == (6, 8, 3)
        assert [name for _, name, _ in asked] == ["data/candle.test-00000-of-00001.parquet"]

    def test_only_the_chosen_category_is_fetched(self, hub):
        root, asked = hub
        (root / "data").mkdir(exist_ok=True)
        image = io.BytesIO()
        Image.fromarray(PICTURE).save(image, "PNG")
        table = pa.table(
            {"image": [{"bytes": image.getvalue()}], "mask": [None], "label": ["normal"]}
        )
        pq.write_table(table, root / "data/candle.test-00000-of-00001.parquet")
        assert len(load_dataset("visa", categories=["candle"])) == 1
        assert [name for _, name, _ in asked] == ["data/candle.test-00000-of-00001.parquet"]

    def test_out_of_reach_is_one_sentence(self, monkeypatch, tmp_path):
        monkeypatch.setattr(hub, "_hub_is_silent", lambda: "the Hub cannot be reached")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(ZsasError, match="give its folder with --root"):
            load_dataset("mvtec", revision="not-in-any-cache")
