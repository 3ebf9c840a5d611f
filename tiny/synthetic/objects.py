"""All object families: things photographed on a background, as in industrial inspection."""

from __future__ import annotations

from collections.abc import Callable

from tiny.synthetic import objects_electronic as electronic
from tiny.synthetic import objects_fasteners as fasteners
from tiny.synthetic import objects_machined as machined
from tiny.synthetic import objects_manufactured as manufactured
from tiny.synthetic import objects_metal as metal
from tiny.synthetic import objects_natural as natural
from tiny.synthetic import objects_nuts as nuts
from tiny.synthetic.noise import Rng
from tiny.synthetic.surface import Surface

OBJECTS: dict[str, Callable[[Rng, int], Surface]] = {
    "hazelnut": nuts.hazelnut,
    "walnut": nuts.walnut,
    "cashew": nuts.cashew,
    "biscuit": natural.biscuit,
    "food_ring": natural.food_ring,
    "pasta": natural.pasta,
    "tablet": natural.tablet,
    "capsule": natural.capsule,
    "candle": natural.candle,
    "chocolate": natural.chocolate,
    "screw": fasteners.screw,
    "bolt_head": fasteners.bolt_head,
    "washer": fasteners.washer,
    "gear": metal.gear,
    "bearing": metal.bearing,
    "winged_nut": fasteners.winged_nut,
    "plate": metal.plate,
    "key": metal.key,
    "spring": metal.spring,
    "coin": metal.coin,
    "tube": metal.tube,
    "impeller": metal.impeller,
    "circuit": electronic.circuit,
    "transistor": electronic.transistor,
    "connector": electronic.connector,
    "wafer": electronic.wafer,
    "cable": electronic.cable,
    "bottle": manufactured.bottle,
    "lid": manufactured.lid,
    "carton": manufactured.carton,
    "zipper": manufactured.zipper,
    "brush": manufactured.brush,
    "strap": manufactured.strap,
    **machined.FAMILIES,
}
