"""Files that are no images that are read here, and what they are called."""

from __future__ import annotations

import pytest

from zsas.errors import ZsasError
from zsas.images import load_image
from zsas.images.formats import recognised

NAMED = {
    "NumPy": b"\x93NUMPY\1\0",
    "MATLAB": b"MATLAB 5.0 MAT-file",
    "HDF5": b"\x89HDF\r\n\x1a\n",
    "NIfTI": b"\x5c\1" + bytes(342) + b"n+1\0",
    "GIMP": b"gimp xcf v011\0",
    "DjVu": b"AT&TFORM",
    "Zeiss CZI": b"ZISRAWFILE",
    "DPX": b"SDPX",
    "Cineon": b"\x80\x2a\x5f\xd7",
    "JBIG2": b"\x97JB2\r\n\x1a\n",
    "FLIF": b"FLIF",
    "BPG": b"BPG\xfb",
    "MNG": b"\x8aMNG\r\n\x1a\n",
    "KTX": b"\xabKTX 11",
    "Windows metafile": b"\1\0\0\0" + bytes(36) + b" EMF",
    "XPM": b"/* XPM */",
    "archive": b"PK\3\4",
    "HTML": b"\n<!doctype html><p>404",
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\n",
    "zeros": bytes(1024),
}


@pytest.mark.parametrize("name", NAMED)
def test_other_files_are_called_what_they_are(name: str) -> None:
    found = recognised((NAMED[name] + bytes(600))[:1024])
    assert found is not None
    assert found.name == name
    with pytest.raises(ZsasError, match="which is not read; ") as caught:
        load_image(NAMED[name] + bytes(600))
    assert "damaged" not in str(caught.value)
