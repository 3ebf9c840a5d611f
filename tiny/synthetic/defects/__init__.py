"""Defects: each paints on a normal surface and returns the mask of what it changed."""

from __future__ import annotations

from tiny.synthetic.defects import form, marks, matter
from tiny.synthetic.defects.common import Defect
from tiny.synthetic.defects.normals import HARD_NORMALS
from tiny.synthetic.defects.painting import as_defect

DEFECTS: dict[str, Defect] = {
    "bent": as_defect(form.bent, large=True),
    "broken": as_defect(form.broken),
    "bubble": as_defect(matter.bubble),
    "burn": as_defect(matter.burn),
    "colour": as_defect(matter.colour),
    "contamination": as_defect(matter.contamination),
    "corrosion": as_defect(matter.corrosion, large=True),
    "crack": as_defect(marks.crack),
    "cut": as_defect(marks.cut),
    "dent": as_defect(form.dent),
    "fold": as_defect(marks.fold, large=True),
    "fray": as_defect(marks.fray, large=True),
    "glue": as_defect(matter.glue),
    "hole": as_defect(form.hole),
    "misplaced": as_defect(form.misplaced),
    "missing": as_defect(form.missing, large=True),
    "pinholes": as_defect(form.pinholes),
    "print": as_defect(marks.misprint),
    "roughness": as_defect(marks.roughness, large=True),
    "scratch": as_defect(marks.scratch),
    "squeezed": as_defect(marks.squeezed, large=True),
    "stain": as_defect(matter.stain),
    "thread": as_defect(marks.thread, large=True),
    "uneven": as_defect(matter.uneven, large=True),
}
"""Defect type -> defect(rng, surface) -> (rgb float32 (S, S, 3) in [0, 1], mask bool (S, S)).

The mask is where the picture visibly changed."""

PHRASES: dict[str, list[str]] = {
    "bent": ["a bent part", "a bend", "a warped area", "a deformed shape"],
    "broken": ["a broken edge", "a broken corner", "a break", "a spalled corner", "breakage"],
    "bubble": ["a bubble", "bubbles", "a blister", "blisters"],
    "burn": ["a burn", "a burn mark", "a scorched spot", "a burnt area"],
    "colour": [
        "a wrong colour",
        "discolouration",
        "a colour defect",
        "a painted spot",
        "a coloured mark",
    ],
    "contamination": ["contamination", "foreign particles", "dirt", "a foreign object"],
    "corrosion": ["corrosion", "rust", "an oxidised area", "a corroded spot"],
    "crack": ["a crack", "cracks", "a hairline crack", "a cracked surface"],
    "cut": ["a cut", "a slit", "a gash", "a cut surface"],
    "dent": ["a dent", "dents", "a bump", "a dented surface"],
    "fold": ["a fold", "a wrinkle", "a crease", "a folded area"],
    "fray": ["fraying", "a frayed edge", "splinters", "loose fibres"],
    "glue": ["glue", "a glue strip", "an oil smear", "a glue residue"],
    "hole": ["a hole", "a blowhole", "a puncture", "a pit"],
    "misplaced": ["a misplaced part", "a shifted part", "a flipped part", "a wrongly placed piece"],
    "missing": ["a missing part", "a missing piece", "a chip", "a part broken off"],
    "pinholes": ["pinholes", "tiny holes", "pores", "small pits"],
    "print": ["a faulty print", "smeared print", "a pen mark", "wrong print"],
    "roughness": ["a rough area", "an abrasion", "scuff marks", "a worn surface"],
    "scratch": ["a scratch", "scratches", "a scratched surface", "a scratch mark"],
    "squeezed": ["a squeezed area", "a crushed part", "a pinched area"],
    "stain": ["a stain", "stains", "a spot", "a dirty spot", "a stained surface"],
    "thread": ["a thread", "a hair", "a fibre", "a loose thread"],
    "uneven": ["an uneven area", "an unevenly finished surface", "a patchy area", "a worn area"],
}
"""Defect type -> noun phrases for sentences such as "a metal plate with {phrase}"."""

__all__ = ["DEFECTS", "HARD_NORMALS", "PHRASES"]
