"""Layouts of data sets: what is found in them, and what is said about broken ones."""

from __future__ import annotations

import json
import os
import pickle

import cv2
import fsspec
import numpy as np
import pytest
from PIL import Image

from tests.helpers.datasets import PICTURE, SPOT, write, write_folder
from zsas.datasets.load import load_dataset
from zsas.datasets.samples import object_name
from zsas.errors import ZsasError
from zsas.evaluation.identity import digest_of_samples


@pytest.mark.parametrize(
    ("category", "name"),
    [
        ("metal_nut", "metal nut"),
        ("hazelnut", "hazelnut"),
        ("pipe_fryum", "pipe fryum"),
        ("pcb3", "printed circuit board"),
        ("macaroni2", "macaroni"),
        ("chewinggum", "chewing gum"),
    ],
)
def test_categories_have_names_for_prompts(category, name):
    assert object_name(category) == name


@pytest.mark.parametrize("layout", ["folder", "flat"])
def test_names_that_are_no_utf_8_are_written_out(tmp_path, layout):
    odd = os.fsdecode(b"c\xe4p")
    below = f"{odd}/test/gr\udcfcn" if layout == "folder" else odd
    folder = tmp_path / below
    folder.mkdir(parents=True)
    (folder / f"{odd}.png").write_bytes(cv2.imencode(".png", PICTURE)[1].tobytes())
    if layout == "folder":
        truth = tmp_path / odd / "ground_truth" / "gr\udcfcn"
        truth.mkdir(parents=True)
        (truth / f"{odd}_mask.png").write_bytes(cv2.imencode(".png", SPOT)[1].tobytes())
    (sample,) = load_dataset(layout, tmp_path if layout == "folder" else folder).samples
    assert sample.category == "c\\xe4p"
    assert "c\\xe4p" in sample.key
    json.dumps([sample.key, sample.defect_type, sample.object_name], ensure_ascii=False).encode()
    assert digest_of_samples([sample])
    assert sample.load_image().shape == PICTURE.shape


class TestMvtec:
    def test_images_masks_and_kinds(self, tmp_path):
        data = load_dataset("mvtec", write_folder(tmp_path / "m"))
        assert data.name == "mvtec"
        assert "CC BY-NC-SA" in data.licence
        assert data.categories == ("metal_nut", "tile")
        assert len(data) == 12
        good, line = data.samples[0], data.samples[2]
        assert (good.key, good.defect_type, good.anomalous) == (
            "metal_nut/test/good/000",
            "good",
            False,
        )
        assert (line.defect_type, line.anomalous, line.object_name) == ("line", True, "metal nut")
        shape = line.load_image().shape[:2]
        assert line.load_mask(shape).any()
        assert not good.load_mask(shape).any()

    def test_train_split(self, tmp_path):
        write(tmp_path / "m/tile/train/good/000.png", PICTURE)
        (sample,) = load_dataset("folder", tmp_path / "m", split="train")
        assert sample.key == "tile/train/good/000"

    def test_no_category(self, tmp_path):
        with pytest.raises(
            ZsasError, match=r"expected <category>/test/<defect type>/\*.png below it"
        ):
            load_dataset("mvtec", tmp_path)

    def test_no_images(self, tmp_path):
        (tmp_path / "tile/test/good").mkdir(parents=True)
        with pytest.raises(ZsasError, match=r"There are no images below .*tile/test"):
            load_dataset("folder", tmp_path)

    def test_a_category_without_its_split(self, tmp_path):
        write(tmp_path / "tile/test/good/000.png", PICTURE)
        write(tmp_path / "wood/ground_truth/crack/000_mask.png", SPOT)
        (tmp_path / "notes").mkdir()
        with pytest.raises(ZsasError, match=r"wood has masks, but no folder 'test'"):
            load_dataset("folder", tmp_path)
        assert load_dataset("folder", tmp_path, categories=["tile"]).categories == ("tile",)

    def test_names_in_upper_case(self, tmp_path):
        write(tmp_path / "tile/test/dent/000.PNG", PICTURE)
        write(tmp_path / "tile/ground_truth/dent/000_MASK.PNG", SPOT)
        (sample,) = load_dataset("folder", tmp_path)
        assert sample.load_mask((6, 8)).sum() == 4

    def test_a_defect_without_mask(self, tmp_path):
        write(tmp_path / "tile/test/crack/000.png", PICTURE)
        with pytest.raises(ZsasError, match=r"expected it at .*ground_truth/crack/000_mask\.png"):
            load_dataset("folder", tmp_path)

    @pytest.mark.parametrize("name", ["ok", "OK", "Good", "normal"])
    def test_another_name_of_normal_images_is_taken(self, tmp_path, name):
        write(tmp_path / f"tile/test/{name}/000.png", PICTURE)
        (sample,) = load_dataset("folder", tmp_path)
        assert (sample.key, sample.defect_type) == (f"tile/test/{name}/000", "good")
        assert sample.anomalous is False
        mask = np.full((6, 8), 255, np.uint8)  # with masks it is the name of a defect
        write(tmp_path / f"tile/ground_truth/{name}/000_mask.png", mask)
        (sample,) = load_dataset("folder", tmp_path)
        assert (sample.defect_type, sample.anomalous) == (name, True)

    def test_btad_is_read_as_it_is(self, tmp_path):
        for kind in ("ok", "ko"):
            write(tmp_path / f"03/test/{kind}/0000.bmp", PICTURE)
        write(tmp_path / "03/ground_truth/ko/0000.bmp", np.full((6, 8), 255, np.uint8))
        write(tmp_path / "03/train/ok/0001.bmp", PICTURE)
        data = load_dataset("folder", tmp_path)
        assert [(one.defect_type, one.anomalous) for one in data] == [("ko", True), ("good", False)]
        assert data.samples[0].load_mask((6, 8)).all()
        (train,) = load_dataset("folder", tmp_path, split="train")
        assert train.anomalous is False

    def test_a_defect_without_mask_says_how_good_images_are_called(self, tmp_path):
        write(tmp_path / "tile/test/fine/000.png", PICTURE)
        with pytest.raises(ZsasError, match="in a folder called good"):
            load_dataset("folder", tmp_path)

    def test_images_beside_and_below_the_folders_of_defect_types_are_counted(self, tmp_path):
        write(tmp_path / "tile/test/good/000.png", PICTURE)
        assert load_dataset("folder", tmp_path).notes == ()
        write(tmp_path / "tile/test/001.png", PICTURE)
        write(tmp_path / "tile/test/good/more/002.png", PICTURE)
        data = load_dataset("folder", tmp_path)
        assert [sample.key for sample in data] == ["tile/test/good/000"]
        (note,) = data.notes
        assert "2 images of" in note
        assert "were left out, as" in note
        assert load_dataset("folder", tmp_path, limit=1).notes == data.notes

    def test_a_mask_of_another_size(self, tmp_path):
        write(tmp_path / "tile/test/crack/000.png", PICTURE)
        write(tmp_path / "tile/ground_truth/crack/000_mask.png", SPOT[:4])
        (sample,) = load_dataset("folder", tmp_path)
        with pytest.raises(ZsasError, match="must have the size of its image"):
            sample.load_mask(sample.load_image().shape[:2])


class TestVisa:
    def rows(self, root, rows):
        (root / "split_csv").mkdir(parents=True, exist_ok=True)
        (root / "split_csv/1cls.csv").write_text(
            "object,split,label,image,mask\n" + "\n".join(rows)
        )
        return root

    def layout(self, root):
        write(root / "pcb1/Data/Images/Normal/0000.JPG", PICTURE)
        write(root / "pcb1/Data/Images/Anomaly/000.JPG", PICTURE)
        write(
            root / "pcb1/Data/Masks/Anomaly/000.png", SPOT // 255
        )  # VisA's masks hold small numbers
        return self.rows(
            root,
            [
                "pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,",
                "pcb1,test,normal,pcb1/Data/Images/Normal/0000.JPG,",
                "pcb1,test,anomaly,pcb1/Data/Images/Anomaly/000.JPG,pcb1/Data/Masks/Anomaly/000.png",
            ],
        )

    def test_table_and_masks(self, tmp_path):
        bad, good = load_dataset("visa", self.layout(tmp_path))
        assert (good.anomalous, bad.anomalous) == (False, True)
        assert bad.object_name == "printed circuit board"
        assert bad.load_mask((6, 8)).sum() == 4

    def test_a_table_that_a_spreadsheet_has_saved(self, tmp_path):
        table = self.layout(tmp_path) / "split_csv/1cls.csv"
        table.write_bytes(table.read_text().replace("\n", "\r\n").encode("utf-8-sig"))
        assert [sample.anomalous for sample in load_dataset("visa", tmp_path)] == [True, False]

    @pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
    def test_a_table_in_another_encoding_is_a_sentence(self, tmp_path, encoding):
        table = self.layout(tmp_path) / "split_csv/1cls.csv"
        table.write_bytes((table.read_text() + "\nkäse,test,normal,a.png,").encode(encoding))
        with pytest.raises(ZsasError, match="save it as CSV in UTF-8"):
            load_dataset("visa", tmp_path)

    def test_no_table(self, tmp_path):
        with pytest.raises(ZsasError, match=r"expected the table split_csv/1cls.csv"):
            load_dataset("visa", tmp_path)

    def test_a_file_that_is_missing(self, tmp_path):
        self.rows(tmp_path, ["pcb1,test,normal,pcb1/Data/Images/Normal/9.JPG,"])
        with pytest.raises(
            ZsasError, match=r"names pcb1/Data/Images/Normal/9.JPG, but there is no such"
        ):
            load_dataset("visa", tmp_path)

    @pytest.mark.parametrize(
        ("row", "lacking"),
        [("pcb1,test", "label"), ("pcb1,test,normal,,", "image"), (",,,,", "object")],
    )
    def test_a_row_that_lacks_something(self, tmp_path, row, lacking):
        self.rows(tmp_path, [row])
        with pytest.raises(ZsasError, match=rf"Row 1 of .*1cls\.csv has no {lacking}"):
            load_dataset("visa", tmp_path)

    def test_other_columns(self, tmp_path):
        (tmp_path / "split_csv").mkdir()
        (tmp_path / "split_csv/1cls.csv").write_text("a,b\n1,2\n")
        with pytest.raises(ZsasError, match="columns image, label, mask, object, split"):
            load_dataset("visa", tmp_path)


class TestFlat:
    def test_masks_in_a_folder_or_beside(self, tmp_path):
        for name in ("a", "b", "c"):
            write(tmp_path / f"{name}.png", PICTURE)
        write(tmp_path / "masks/a.png", SPOT)
        write(tmp_path / "b_mask.png", SPOT)
        data = load_dataset("flat", tmp_path)
        assert [(s.key, s.anomalous) for s in data] == [
            ("a.png", True),
            ("b.png", True),
            ("c.png", False),
        ]

    def test_kolektor_sdd2_is_read_as_it_is(self, tmp_path):
        for name, mask in (("10000", SPOT), ("10001", np.zeros_like(SPOT))):
            write(tmp_path / f"{name}.png", PICTURE)
            write(tmp_path / f"{name}_GT.png", mask)
        first, second = load_dataset("flat", tmp_path)
        assert (first.key, first.anomalous, second.anomalous) == ("10000.png", True, False)
        assert first.load_mask((6, 8)).sum() == 4

    def test_upper_and_lower_case_are_one_name(self, tmp_path):
        for name in ("A.JPG", "b.png"):
            write(tmp_path / name, PICTURE)
        write(tmp_path / "masks/a.png", SPOT)
        marked, normal = load_dataset("flat", tmp_path)
        assert (marked.key, marked.anomalous, normal.anomalous) == ("A.JPG", True, False)

    @pytest.mark.parametrize("mask", ["masks/a_label.png", "part_mask.png"])
    def test_a_mask_of_no_image_is_refused_where_an_image_would_count_as_normal(
        self, tmp_path, mask
    ):
        write(tmp_path / "a.png", PICTURE)
        write(tmp_path / mask, SPOT)
        with pytest.raises(ZsasError, match="is the mask of no image"):
            load_dataset("flat", tmp_path)
        write(tmp_path / "masks/a.png", SPOT)
        assert [sample.anomalous for sample in load_dataset("flat", tmp_path)] == [True]

    def test_a_mask_that_two_images_could_have_is_refused(self, tmp_path):
        for name in ("a.png", "a.jpg", "masks/a.png"):
            write(tmp_path / name, PICTURE)
        with pytest.raises(ZsasError, match=r"the mask of a\.jpg and of a\.png"):
            load_dataset("flat", tmp_path)

    def test_an_empty_mask_means_sound(self, tmp_path):
        write(tmp_path / "a.png", PICTURE)
        write(tmp_path / "a_mask.png", SPOT * 0)
        (sample,) = load_dataset("flat", tmp_path)
        assert sample.anomalous is False

    def test_without_masks_nothing_is_known(self, tmp_path):
        write(tmp_path / "a.png", PICTURE)
        (sample,) = load_dataset("flat", tmp_path)
        assert sample.anomalous is None
        assert sample.load_mask((6, 8)) is None

    def test_no_images(self, tmp_path):
        with pytest.raises(ZsasError, match="There are no images in"):
            load_dataset("flat", tmp_path)


def test_every_suffix_that_is_segmented_is_measured(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "part.jp2")
    Image.fromarray(PICTURE).save(tmp_path / "part.gif")
    assert len(load_dataset("flat", tmp_path)) == 2


class TestChoosing:
    def test_categories(self, tmp_path):
        data = load_dataset("folder", write_folder(tmp_path / "m"), categories=["tile"])
        assert data.categories == ("tile",)

    def test_an_unknown_category(self, tmp_path):
        with pytest.raises(ZsasError, match="no category 'wood'; it has metal_nut, tile"):
            load_dataset("folder", write_folder(tmp_path / "m"), categories=["wood"])

    def test_a_limit_keeps_sound_parts_and_every_kind(self, tmp_path):
        root = write_folder(tmp_path / "m", per_kind=6)
        chosen = load_dataset("folder", root, categories=["tile"], limit=6)
        defect_types = [sample.defect_type for sample in chosen]
        assert sorted(defect_types) == ["good"] * 3 + ["line"] * 2 + ["spot"]
        assert [s.key for s in chosen] == [
            s.key for s in load_dataset("folder", root, categories=["tile"], limit=6)
        ]

    def test_a_root_that_is_missing(self):
        with pytest.raises(ZsasError, match="There is no folder nowhere"):
            load_dataset("mvtec", "nowhere")

    def test_a_layout_that_is_missing(self):
        with pytest.raises(ZsasError, match="take one of mvtec, visa, loco, folder, flat"):
            load_dataset("imagenet", ".")

    def test_flat_needs_a_root(self):
        with pytest.raises(ZsasError, match="on disk only"):
            load_dataset("flat")


def test_hidden_files_and_other_categories_do_not_stand_in_the_way(tmp_path):
    root = write_folder(tmp_path / "parts")
    (root / "tile/test/spot/._000.png").write_bytes(b"resource fork")
    (root / "tile/test/.ipynb_checkpoints").mkdir()
    (root / "tile/test/.ipynb_checkpoints/000.png").write_bytes(b"")
    assert len(load_dataset("folder", root)) == 12
    for mask in (root / "metal_nut/ground_truth").rglob("*.png"):
        mask.unlink()
    assert load_dataset("folder", root, categories=["tile", "tile"]).categories == ("tile",)
    with pytest.raises(ZsasError, match="has no mask"):
        load_dataset("folder", root)
    with pytest.raises(ZsasError, match="has no category 'gear'"):
        load_dataset("folder", write_folder(tmp_path / "whole"), categories=["gear", "tile"])


def test_a_folder_may_say_its_name(tmp_path):
    root = write_folder(tmp_path / "parts")
    assert load_dataset("folder", root).name == "parts"
    (root / "dataset.json").write_text("[]")
    assert load_dataset("folder", root).name == "parts"
    (root / "dataset.json").write_text('{"name": "plates"}')
    assert load_dataset("folder", root).name == "plates"


def test_two_images_of_one_name_are_refused(tmp_path):
    root = write_folder(tmp_path / "parts")
    good = root / "tile/test/good"
    cv2.imwrite(str(good / "000.jpg"), cv2.imread(str(good / "000.png")))
    with pytest.raises(ZsasError, match="two images with the name tile/test/good/000"):
        load_dataset("folder", root)


class TestAddresses:
    """What lies in S3 and the like, here in a file system that fsspec keeps in memory."""

    @pytest.fixture
    def far(self, tmp_path):
        system = fsspec.filesystem("memory")
        system.put(str(write_folder(tmp_path / "near")), "/bucket/parts", recursive=True)
        yield "memory://bucket/parts"
        system.rm("/bucket", recursive=True)

    def test_a_folder_is_the_same_from_far_away(self, far, tmp_path):
        here, there = (load_dataset("folder", root) for root in (tmp_path / "near", far))
        assert [s.key for s in there] == [s.key for s in here]
        assert there.name == "parts"
        assert digest_of_samples(there) == digest_of_samples(here)
        for near, distant in zip(here, pickle.loads(pickle.dumps(there)), strict=True):
            image = near.load_image()
            assert np.array_equal(distant.load_image(), image)
            assert np.array_equal(
                distant.load_mask(image.shape[:2]), near.load_mask(image.shape[:2])
            )

    def test_visa_and_flat_folders(self, far, tmp_path):
        fsspec.filesystem("memory").pipe(
            "/bucket/visa/split_csv/1cls.csv",
            b"object,split,label,image,mask\npcb1,test,normal,a.png,\n",
        )
        with pytest.raises(ZsasError, match=r"names a\.png, but there is no such file"):
            load_dataset("visa", "memory://bucket/visa")
        (tmp_path / "near/tile/test/spot/000_mask.png").write_bytes(
            (tmp_path / "near/tile/ground_truth/spot/000_mask.png").read_bytes()
        )
        flat = tmp_path / "near/tile/test/spot"
        fsspec.filesystem("memory").put(str(flat), "/bucket/flat", recursive=True)
        here, there = (load_dataset("flat", root) for root in (flat, "memory://bucket/flat"))
        assert [(s.key, s.anomalous) for s in there] == [(s.key, s.anomalous) for s in here]
        assert {s.anomalous for s in there} == {True, False}

    @pytest.mark.parametrize(
        ("root", "sentence"),
        [
            ("memory://nowhere/at-all", "There is no folder memory://nowhere/at-all"),
            ("unheard-of://bucket/x", "unheard-of://bucket/x cannot be listed"),
            ("unheardof://bucket/x", "unheardof://bucket/x cannot be listed"),
        ],
    )
    def test_what_is_not_there_is_a_sentence(self, root, sentence):
        with pytest.raises(ZsasError, match=sentence):
            load_dataset("folder", root)

    def test_a_storage_that_refuses_is_a_sentence(self, far, monkeypatch):
        data = load_dataset("folder", far)

        def refuse(*_, **__):
            raise RuntimeError("no credentials\nmany lines of them")

        monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.ls", refuse)
        with pytest.raises(ZsasError, match=r"cannot be listed \(no credentials\)\.$"):
            load_dataset("folder", far)
        monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem._open", refuse)
        with pytest.raises(ZsasError, match=r"000\.png cannot be read \(no credentials\)\.$"):
            data.samples[0].load_image()
