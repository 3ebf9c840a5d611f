"""All object families: things photographed on a background, as in industrial inspection."""

from __future__ import annotations

from collections.abc import Callable

from tiny.synthetic import objects_machined as machined
from tiny.synthetic import objects_manufactured as made
from tiny.synthetic import objects_metal as metal
from tiny.synthetic import objects_natural as natural
from tiny.synthetic.noise import Rng
from tiny.synthetic.surface import Surface

OBJECTS: dict[str, Callable[[Rng, int], Surface]] = {
    "hazelnut": natural.hazelnut,
    "walnut": natural.walnut,
    "cashew": natural.cashew,
    "biscuit": natural.biscuit,
    "food_ring": natural.food_ring,
    "pasta": natural.pasta,
    "tablet": natural.tablet,
    "capsule": natural.capsule,
    "candle": natural.candle,
    "chocolate": natural.chocolate,
    "screw": metal.screw,
    "bolt_head": metal.bolt_head,
    "washer": metal.washer,
    "gear": metal.gear,
    "bearing": metal.bearing,
    "winged_nut": metal.winged_nut,
    "plate": metal.plate,
    "key": metal.key,
    "spring": metal.spring,
    "coin": metal.coin,
    "tube": metal.tube,
    "impeller": metal.impeller,
    "circuit": made.circuit,
    "transistor": made.transistor,
    "connector": made.connector,
    "wafer": made.wafer,
    "cable": made.cable,
    "bottle": made.bottle,
    "lid": made.lid,
    "carton": made.carton,
    "zipper": made.zipper,
    "brush": made.brush,
    "strap": made.strap,
    **machined.FAMILIES,
}
