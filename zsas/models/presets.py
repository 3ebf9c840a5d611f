"""The presets (models that belong together), and the choice of the default one.

Every list of presets (flags, help, page, HTTP schema, docs) is derived from `PRESETS`. Neither torch nor the Hub is
needed here, so that the page and the shell know at once what they will run.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from zsas.errors import ZsasError

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"

Role = Literal["clip", "sam", "detector", "features", "saliency"]
"""What a model is for: text and patches, masks from prompts, boxes from text, patch features, saliency."""


@dataclass(frozen=True)
class Further:
    """A model that single systems need in addition to CLIP and SAM; it is downloaded when such a system first runs.

    Attributes:
        source: Hub id.
        size_bytes: What the download takes, about.
        licence: Of the weights.
    """

    source: str
    size_bytes: int
    licence: str

    @property
    def words(self) -> str:
        """Id, size and licence in words."""
        return f"{self.source} ({self.size_bytes / 1e6:.0f} MB, licence {self.licence})"


FURTHER: dict[Role, Further] = {
    "detector": Further("IDEA-Research/grounding-dino-tiny", 689_000_000, "Apache-2.0"),
    "saliency": Further("timm/wide_resnet50_2.racm_in1k", 276_000_000, "Apache-2.0"),
}
"""The same for all presets that fetch their models."""


@dataclass(frozen=True)
class Preset:
    """Models that belong together.

    Attributes:
        name: What a person types.
        roles: Hub id or folder of the model for each role that the preset fills.
        size_bytes: What a download of all takes, about.
        purpose: What it is for, in a few words.
        weights: Trained weights that are shipped for its models, by the localizer that reads them.
        clip_name: Name by which these weights know the CLIP; its Hub id if empty.
        papers_own: Whether a system brings the CLIP of its own paper, where that is another one.
        further: Models that only single systems need, by role; neither `size_bytes` nor `bundled` counts them.
        gflop: Billions of operations of its encoders for a square image with the default settings, about.
    """

    name: str
    roles: Mapping[Role, str]
    size_bytes: int
    purpose: str
    weights: Mapping[str, Path] = field(default_factory=dict)
    clip_name: str = ""
    papers_own: bool = False
    further: Mapping[Role, Further] = field(default_factory=dict)
    gflop: float = 0.0

    def has(self, role: Role) -> bool:
        """Whether it names a model for a role."""
        return role in self.roles or role in self.further

    def source(self, role: Role) -> str:
        """Hub id or folder of the model for a role.

        Raises:
            ZsasError: If the preset names none.
        """
        if role in self.further:
            return self.further[role].source
        if role not in self.roles:
            able = [name for name, preset in PRESETS.items() if preset.has(role)]
            take = f"take the preset {' or '.join(able)}" if able else "no preset has one yet"
            if role in FURTHER:
                take += f", or name one with --{role}"
            raise ZsasError(f"The preset {self.name!r} names no model for the role {role}; {take}.")
        return self.roles[role]

    @property
    def bundled(self) -> bool:
        """True if the weights come with the package."""
        return all(Path(source).is_dir() for source in self.roles.values())


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "tiny",
            {"clip": str(WEIGHTS / "tiny" / "clip"), "sam": str(WEIGHTS / "tiny" / "sam")},
            0,
            "our own small models, in the package: at once, anywhere, offline",
            weights={
                "linear": WEIGHTS / "tiny" / "clip" / "adapter.safetensors",
                "anomalyvfm": WEIGHTS / "tiny" / "anomalyvfm.safetensors",
            },
            clip_name="zsas/tiny",
            gflop=22,
        ),
        Preset(
            "light",
            {"clip": "openai/clip-vit-base-patch16", "sam": "facebook/sam2.1-hiera-tiny"},
            755_000_000,
            "the quickest published models, for a small CPU with network",
            further=FURTHER,
            gflop=505,
        ),
        Preset(
            "base",
            {"clip": "openai/clip-vit-base-patch16", "sam": "facebook/sam-vit-base"},
            975_000_000,
            "smaller models, for a CPU with network",
            further=FURTHER,
            gflop=1186,
        ),
        Preset(
            "paper",
            {"clip": "openai/clip-vit-large-patch14-336", "sam": "facebook/sam-vit-huge"},
            4_280_000_000,
            "the paper's models, for a GPU",
            papers_own=True,
            further=FURTHER,
            gflop=6975,
        ),
    )
}
"""All presets by name, the smallest first."""

POINT_FEATURES: dict[str, Further] = {
    "dinov2": Further("facebook/dinov2-base", 346_000_000, "Apache-2.0"),
    "resnet": Further("microsoft/resnet-50", 103_000_000, "Apache-2.0"),
}
"""Backbones whose features eq. 4 may take in the place of SAM's, by kind."""

ON_A_CPU, ON_A_GPU = "tiny", "paper"


def preset_named(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ZsasError: If there is none.
    """
    if name not in PRESETS:
        raise ZsasError(f"There is no preset {name!r}; choose {names()}.")
    return PRESETS[name]


def names(last: str = "or") -> str:
    """All names as words: "tiny, base or paper"."""
    *first, end = PRESETS
    return f"{', '.join(first)} {last} {end}"


def default_preset() -> str:
    """The default preset: that of ZSAS_PRESET, or else `paper` where a GPU can be used and `tiny` elsewhere.

    It does not import torch, and says the same before and after others do.

    Raises:
        ZsasError: If ZSAS_PRESET names no preset.
    """
    wanted = os.environ.get("ZSAS_PRESET", "")
    if wanted:
        if wanted not in PRESETS:
            raise ZsasError(f"ZSAS_PRESET is {wanted!r}, but it must be {names()}.")
        return wanted
    return ON_A_GPU if gpu_usable() else ON_A_CPU


def gpu_usable() -> bool:
    """Whether the installed build of torch can use a GPU that is here, without importing torch.

    The build says which kind it was made for (CUDA or ROCm); the driver says whether there is such a device and, for
    CUDA, whether it is new enough. A ZeroGPU lends its device later, so there its own variable counts.
    """
    if os.environ.get("SPACES_ZERO_GPU"):
        return True
    build = torch_build()
    if build["hip"]:
        return _rocm_devices() > 0
    return bool(build["cuda"]) and _cuda_devices(int(build["cuda"].split(".")[0])) > 0


def torch_build() -> dict[str, str]:
    """Versions of CUDA and ROCm that the installed torch was built with, "" for none, from its `version.py`."""
    found = {"cuda": "", "hip": ""}
    spec = importlib.util.find_spec("torch")  # finds a top-level package without importing it
    if spec is None or not spec.origin:
        return found
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return found
    for name in found:
        match = re.search(rf"^{name}\b[^=\n]*=\s*['\"]([\d.]+)", text, re.MULTILINE)
        found[name] = match[1] if match else ""
    return found


def _hidden(*variables: str) -> bool:
    """Whether an environment variable that lists the visible devices hides all of them."""
    values = [os.environ[name].strip() for name in variables if name in os.environ]
    return any(value == "" or value.startswith("-") for value in values)


def _cuda_devices(major: int) -> int:
    """NVIDIA GPUs whose driver can run a build for this major version of CUDA.

    It asks the management library, as torch does on request: the runtime would leave a context behind, after which a
    process cannot fork.
    """
    if _hidden("CUDA_VISIBLE_DEVICES"):
        return 0
    for name in ("libnvidia-ml.so.1", "nvml.dll"):
        try:
            nvml = ctypes.CDLL(name)
            break
        except OSError:
            continue
    else:
        return 0
    if nvml.nvmlInit_v2():
        return 0
    try:
        count, driver = ctypes.c_uint(0), ctypes.c_int(0)
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return 0
        if nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(driver)):
            return 0
        return count.value if driver.value // 1000 >= major else 0
    finally:
        nvml.nvmlShutdown()


def _rocm_devices(
    kfd: Path = Path("/dev/kfd"), nodes: Path = Path("/sys/class/kfd/kfd/topology/nodes")
) -> int:
    """AMD GPUs that the kernel's compute driver lists and lets this user open."""
    if _hidden("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        return 0
    if not os.access(kfd, os.R_OK | os.W_OK):
        return 0
    count = 0
    for properties in nodes.glob("*/properties"):
        try:
            text = properties.read_text(encoding="utf-8")
        except OSError:  # a node of a GPU that belongs to another container
            continue
        match = re.search(r"^simd_count (\d+)$", text, re.MULTILINE)
        count += bool(match and int(match[1]))  # a CPU is a node, too, with none
    return count
