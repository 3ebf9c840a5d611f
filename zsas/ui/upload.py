"""Upload components that open nothing but what a visitor uploaded.

Gradio moves a file into its cache, and checks where it came from, only where the value carries a `meta` key; without
the key some components open whatever server path the caller names. These ones refuse it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zsas.errors import ZsasError
from zsas.images import ReadImage, read_image
from zsas.ui.gradio_internals import gr, upload_folder, without_stubs


def refuse_foreign(payload: Any) -> None:
    """Raise `gr.Error` unless every file of a component's value lies in the upload folder.

    Args:
        payload: What Gradio hands to `preprocess`: None, one file or a list of files.
    """
    if payload is None:
        return
    files = getattr(payload, "root", payload)
    for file in files if isinstance(files, (list, tuple)) else [files]:
        path = getattr(file, "path", None)
        if not path or not is_uploaded(path):
            raise gr.Error(
                "That is not an uploaded file; upload it first, then name it.",
                title="Refused",
                print_exception=False,
            )


def is_uploaded(path: str) -> bool:
    """Whether a path is a file that came in through the upload route."""
    try:
        real = Path(path).resolve(strict=True)
    except (OSError, ValueError):
        return False
    return real.is_file() and real.is_relative_to(upload_folder())


def uploaded(path: Any) -> str:
    """A path that a tab names.

    Raises:
        ZsasError: If it is of no upload.
    """
    if not is_uploaded(str(path)):
        raise ZsasError("That is not an uploaded file; upload it first.")
    return str(path)


def load_upload(path: str | Path) -> ReadImage:
    """An uploaded image, and what was read.

    Raises:
        ZsasError: One sentence, with the file's own name instead of the server's path.
    """
    try:
        return read_image(path)
    except ZsasError as error:
        raise ZsasError(str(error).replace(str(path), Path(path).name)) from None


with without_stubs():

    class UploadedImage(gr.Image):
        """`gr.Image` that hands on the path of an upload, unopened."""

        is_template = True

        def preprocess(self, payload: Any) -> str | None:
            """The path of the uploaded file; see `refuse_foreign`."""
            refuse_foreign(payload)
            return None if payload is None else str(payload.path)

    class UploadedFiles(gr.File):
        """`gr.File` that hands on the paths of uploads."""

        is_template = True

        def preprocess(self, payload: Any) -> Any:
            """The paths of the uploaded files; see `refuse_foreign`."""
            refuse_foreign(payload)
            return super().preprocess(payload)
