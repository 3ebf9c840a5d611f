"""All texture families: normal industrial surfaces that fill the picture."""

from __future__ import annotations

from tiny.synthetic import textures_manufactured as made
from tiny.synthetic import textures_metal as metal
from tiny.synthetic import textures_mineral as mineral
from tiny.synthetic import textures_organic as organic
from tiny.synthetic.texture import Texture

TEXTURES: dict[str, Texture] = {
    **metal.FAMILIES,
    **mineral.FAMILIES,
    **organic.FAMILIES,
    **made.FAMILIES,
}
