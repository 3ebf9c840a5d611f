"""Optional dependencies: `pip install 'zsas[NAME]'`."""

from __future__ import annotations

from importlib.util import find_spec

from zsas.errors import ZsasError

_EXTRAS = {
    "ui": ("The page", ("gradio", "mcp")),
    "evaluate": ("Measuring", ("sklearn", "matplotlib", "pyarrow", "upath")),
    "meta": ("Meta's own SAM", ("segment_anything", "torchvision")),
    "images": (
        "TIFF, HEIC, JPEG XL or 16-bit colour",
        ("tifffile", "imagecodecs", "pillow_heif"),
    ),
    "tables": ("A table or a path beyond this machine", ("pyarrow", "upath")),
    "formats": ("DICOM and camera raw", ("pydicom", "rawpy")),
    "openvino": ("The runtime openvino", ("openvino",)),
    "ray": ("Ray", ("ray", "pyarrow", "upath")),
}


class MissingExtra(ZsasError):
    """An optional dependency is not installed."""


def require(extra: str) -> None:
    """Check that an extra is installed, before work begins.

    Args:
        extra: A name of `[project.optional-dependencies]`.

    Raises:
        MissingExtra: If one of its modules cannot be found.
    """
    what, modules = _EXTRAS[extra]
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise MissingExtra(
            f"{what} needs {' and '.join(missing)}, which a plain installation leaves out; "
            f"install it with: pip install 'zsas[{extra}]'."
        )
