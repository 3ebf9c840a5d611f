from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from zsas import models
from zsas.errors import ZsasError
from zsas.models import presets


def test_the_presets_are_the_designs():
    assert list(models.PRESETS) == ["tiny", "light", "base", "paper"]
    _, light, base, paper = models.PRESETS.values()
    assert paper.roles == {
        "clip": "openai/clip-vit-large-patch14-336",
        "sam": "facebook/sam-vit-huge",
    }
    assert base.roles == {"clip": "openai/clip-vit-base-patch16", "sam": "facebook/sam-vit-base"}
    assert light.roles == {
        "clip": "openai/clip-vit-base-patch16",
        "sam": "facebook/sam2.1-hiera-tiny",
    }
    assert models.PRESETS["tiny"].bundled
    assert not paper.bundled
    assert models.is_here(models.PRESETS["tiny"])


def test_a_role_that_a_preset_does_not_fill_is_one_sentence():
    with pytest.raises(ZsasError, match="'tiny' names no model for the role detector"):
        models.PRESETS["tiny"].source("detector")


@pytest.mark.parametrize(("gpu", "name"), [(True, "paper"), (False, "tiny")])
def test_the_default_is_paper_only_with_a_gpu(monkeypatch, gpu, name):
    monkeypatch.delenv("ZSAS_PRESET", raising=False)
    monkeypatch.setattr(presets, "gpu_usable", lambda: gpu)
    assert models.default_preset() == name


def test_the_environment_names_the_default_everywhere(monkeypatch):
    monkeypatch.setenv("ZSAS_PRESET", "base")
    assert models.default_preset() == "base"
    assert models.ModelChoice().named().preset == "base"
    monkeypatch.setenv("ZSAS_PRESET", "huge")
    with pytest.raises(
        ZsasError, match="ZSAS_PRESET is 'huge', but it must be tiny, light, base or paper"
    ):
        models.default_preset()


def test_the_default_is_known_without_torch():
    code = (
        "import sys; from zsas.models import default_preset; default_preset(); "
        "print(sorted({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_build_of_torch_is_read_as_torch_says_it():
    build = presets.torch_build()
    assert build == {"cuda": torch.version.cuda or "", "hip": torch.version.hip or ""}


@pytest.mark.parametrize(
    ("text", "build"),
    [
        ("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", {"cuda": "13.0", "hip": ""}),
        ("cuda = '12.8'\nhip = None\n", {"cuda": "12.8", "hip": ""}),
        (
            "cuda: Optional[str] = None\nhip: Optional[str] = '6.4.43'\n",
            {"cuda": "", "hip": "6.4.43"},
        ),
        ("cuda = None\nhip = None\n", {"cuda": "", "hip": ""}),
    ],
)
def test_each_kind_of_build_is_told_apart(monkeypatch, tmp_path, text, build):
    (tmp_path / "version.py").write_text(text)
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: spec)
    assert presets.torch_build() == build


class Nvml:
    """NVIDIA's management library with some devices and a driver for one version of CUDA."""

    def __init__(self, devices: int, driver: int, fails: int = 0) -> None:
        self.devices, self.driver, self.fails = devices, driver, fails
        self.closed = False

    def nvmlInit_v2(self) -> int:
        return self.fails

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = self.devices
        return 0

    def nvmlSystemGetCudaDriverVersion_v2(self, driver: Any) -> int:
        driver._obj.value = self.driver
        return 0

    def nvmlShutdown(self) -> int:
        self.closed = True
        return 0


@pytest.fixture
def no_gpu_variables(monkeypatch):
    for name in ("CUDA", "HIP", "ROCR"):
        monkeypatch.delenv(f"{name}_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)


def build_of(monkeypatch, cuda: str = "", hip: str = "") -> None:
    monkeypatch.setattr(presets, "torch_build", lambda: {"cuda": cuda, "hip": hip})


@pytest.mark.parametrize(
    ("cuda", "nvml", "usable"),
    [
        ("13.0", Nvml(1, 13000), True),
        ("12.8", Nvml(2, 13010), True),
        ("13.0", Nvml(1, 12080), False),  # the driver is too old for this build
        ("13.0", Nvml(0, 13000), False),
        ("13.0", Nvml(1, 13000, fails=9), False),  # library without a driver
        ("", Nvml(1, 13000), False),  # a build for the CPU beside a driver
    ],
)
def test_a_gpu_of_nvidia_counts_where_the_build_and_the_driver_can_use_it(
    monkeypatch, no_gpu_variables, cuda, nvml, usable
):
    build_of(monkeypatch, cuda=cuda)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: nvml)
    assert presets.gpu_usable() is usable
    assert nvml.closed or nvml.fails or not cuda


@pytest.mark.parametrize("value", ["", "-1"])
def test_a_hidden_gpu_does_not_count(monkeypatch, no_gpu_variables, value):
    build_of(monkeypatch, cuda="13.0")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Nvml(1, 13000))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert not presets.gpu_usable()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,-1")
    assert presets.gpu_usable()


def test_without_a_driver_there_is_no_gpu(monkeypatch, no_gpu_variables):
    def missing(_):
        raise OSError("cannot open shared object file")

    build_of(monkeypatch, cuda="13.0")
    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert not presets.gpu_usable()


def node(folder: Path, name: str, simd: int) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "properties").write_text(
        f"cpu_cores_count 8\nsimd_count {simd}\nmem_banks 1\n"
    )


def test_a_gpu_of_amd_counts_where_the_kernel_lists_it(monkeypatch, no_gpu_variables, tmp_path):
    kfd, nodes = tmp_path / "kfd", tmp_path / "nodes"
    node(nodes, "0", 0)
    assert presets._rocm_devices(kfd, nodes) == 0, "there is no driver"
    kfd.touch()
    assert presets._rocm_devices(kfd, nodes) == 0, "a CPU is no device"
    node(nodes, "1", 256)
    assert presets._rocm_devices(kfd, nodes) == 1
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "")
    assert presets._rocm_devices(kfd, nodes) == 0


def test_a_build_for_rocm_asks_the_kernel(monkeypatch, no_gpu_variables):
    build_of(monkeypatch, hip="6.4.1")
    monkeypatch.setattr(presets, "_rocm_devices", lambda: 1)
    monkeypatch.setattr(presets, "_cuda_devices", lambda _: pytest.fail("asked NVIDIA's driver"))
    assert presets.gpu_usable()


def test_a_zerogpu_lends_its_device_later(monkeypatch, no_gpu_variables):
    build_of(monkeypatch)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert presets.gpu_usable()


def test_here_it_agrees_with_torch(no_gpu_variables):
    assert presets.gpu_usable() == torch.cuda.is_available()


def test_nobody_else_lists_the_presets():
    """Help, page and schema are derived; a second list of the names in code would go stale."""
    import re

    root = Path(models.__file__).parents[1]
    listing = re.compile(r"light, base|tiny, light|\"tiny\", \"light\"|base or tiny")
    found = [
        str(file.relative_to(root))
        for file in root.rglob("*.py")
        if listing.search(file.read_text(encoding="utf-8"))
    ]
    assert found in ([], ["models/presets.py"])
