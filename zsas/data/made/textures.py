"""All texture families: sound industrial surfaces that fill the picture."""

from __future__ import annotations

from zsas.data.made import textures_made as made
from zsas.data.made import textures_metal as metal
from zsas.data.made import textures_mineral as mineral
from zsas.data.made import textures_organic as organic
from zsas.data.made.texture import Texture

TEXTURES: dict[str, Texture] = {
    **metal.FAMILIES,
    **mineral.FAMILIES,
    **organic.FAMILIES,
    **made.FAMILIES,
}
