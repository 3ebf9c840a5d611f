"""The data sets that followed MVTec-AD: LOCO AD with a mask for each defect, AD 2 with a public test split."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.datasets import PICTURE, SPOT, write
from zsas.datasets.load import load_dataset
from zsas.errors import ZsasError
from zsas.evaluation.identity import digest_of_samples


class TestLoco:
    """One mask for each defect of an image, in a folder of the image's name."""

    def write(self, root, rules=None):
        other = np.zeros((6, 8), np.uint8)
        other[0, :3] = 254
        write(root / "screw_bag/test/good/000.png", PICTURE)
        write(root / "screw_bag/test/logical_anomalies/000.png", PICTURE)
        write(root / "screw_bag/ground_truth/logical_anomalies/000/000.png", SPOT)
        write(root / "screw_bag/ground_truth/logical_anomalies/000/001.png", other)
        if rules is not None:
            (root / "screw_bag/defects_config.json").write_text(rules)
        return root

    def test_the_mask_is_the_union_and_each_defect_has_its_own(self, tmp_path):
        rules = (
            '[{"pixel_value": 255, "saturation_threshold": 3, "relative_saturation": false},'
            ' {"pixel_value": 254, "saturation_threshold": 0.5, "relative_saturation": true}]'
        )
        data = load_dataset("loco", self.write(tmp_path / "loco", rules))
        assert (data.name, data.categories) == ("loco", ("screw_bag",))
        assert "IJCV 2022" in data.licence
        good, bad = data.samples
        assert (bad.key, bad.defect_type) == (
            "screw_bag/test/logical_anomalies/000",
            "logical_anomalies",
        )
        assert bad.load_mask((6, 8)).sum() == 4 + 3
        spot, row = bad.load_defects()
        assert (spot.mask.sum(), spot.threshold, spot.relative) == (4, 3.0, False)
        assert (row.mask.sum(), row.threshold, row.relative) == (3, 0.5, True)
        assert good.load_defects() == ()
        assert not good.load_mask((6, 8)).any()

    def test_a_folder_laid_out_so_needs_no_rules(self, tmp_path):
        data = load_dataset("folder", self.write(tmp_path / "mine"))
        assert data.name == "mine"
        assert [(one.threshold, one.relative) for one in data.samples[1].load_defects()] == [
            (1.0, True)
        ] * 2

    def test_a_changed_mask_is_another_run(self, tmp_path):
        root = self.write(tmp_path / "loco")
        before = digest_of_samples(load_dataset("loco", root))
        noise = np.random.default_rng(0).integers(1, 255, (6, 8), np.uint8)
        write(root / "screw_bag/ground_truth/logical_anomalies/000/001.png", noise)
        assert digest_of_samples(load_dataset("loco", root)) != before

    @pytest.mark.parametrize(
        "rules",
        [
            "{}]",
            '{"a": 1}',
            '[{"pixel_value": 255}]',
            '[{"pixel_value": "x", "saturation_threshold": 1, "relative_saturation": true}]',
            '[{"pixel_value": 255, "saturation_threshold": 0, "relative_saturation": false}]',
            '[{"pixel_value": 255, "saturation_threshold": 7, "relative_saturation": true}]',
        ],
    )
    def test_wrong_rules_are_one_sentence(self, tmp_path, rules):
        with pytest.raises(ZsasError, match=r"defects_config.json cannot be read"):
            load_dataset("loco", self.write(tmp_path / "loco", rules))

    def test_a_type_without_a_rule_and_masks_of_two_sizes_are_one_sentence(self, tmp_path):
        rules = '[{"pixel_value": 255, "saturation_threshold": 3, "relative_saturation": false}]'
        root = self.write(tmp_path / "loco", rules)
        bad = load_dataset("loco", root).samples[1]
        with pytest.raises(ZsasError, match="have the value 254, which defects_config"):
            bad.load_defects()
        write(root / "screw_bag/ground_truth/logical_anomalies/000/001.png", SPOT[:4])
        with pytest.raises(ZsasError, match="has another size than 000"):
            bad.load_mask((6, 8))

    def test_it_is_on_disk_only(self):
        with pytest.raises(ZsasError, match="on disk only"):
            load_dataset("loco")


class TestAd2:
    """The public test images lie in `test_public`, and their masks in a folder among the types of defects."""

    def write(self, root):
        write(root / "can/train/good/000_regular.png", PICTURE)
        write(root / "can/test_public/good/000_regular.png", PICTURE)
        write(root / "can/test_public/bad/000_regular.png", PICTURE)
        write(root / "can/test_public/ground_truth/bad/000_regular_mask.png", SPOT)
        write(root / "can/test_private/000_regular.png", PICTURE)
        return root

    def test_public_images_are_the_test_split(self, tmp_path):
        data = load_dataset("folder", self.write(tmp_path / "MVTec_AD_2"))
        bad, good = data.samples
        assert (bad.key, bad.defect_type, bad.anomalous) == (
            "can/test/bad/000_regular",
            "bad",
            True,
        )
        assert bad.load_mask((6, 8)).sum() == 4
        assert (good.defect_type, good.anomalous) == ("good", False)
        assert not data.notes

    def test_good_images_to_learn_from_lie_where_they_did(self, tmp_path):
        (sample,) = load_dataset("folder", self.write(tmp_path / "MVTec_AD_2"), split="train")
        assert (sample.key, sample.anomalous) == ("can/train/good/000_regular", False)

    def test_a_defect_without_mask_says_where_it_was_expected(self, tmp_path):
        root = self.write(tmp_path / "MVTec_AD_2")
        (root / "can/test_public/ground_truth/bad/000_regular_mask.png").unlink()
        with pytest.raises(ZsasError, match=r"test_public/ground_truth/bad/000_regular_mask\.png"):
            load_dataset("folder", root)
