"""What the plain HTTP interface takes and gives, as an OpenAPI document and as a page; made from the settings."""

from __future__ import annotations

from html import escape
from typing import Any

from zsas import __version__
from zsas.declare import Setting
from zsas.models import PRESETS
from zsas.settings import all_settings
from zsas.ui.batch import MAX_FILES
from zsas.ui.beside import MOST_REFERENCES
from zsas.ui.compare import MASK, TEXTS, answer_schema

ROOT = "/api/v1"
TOGETHER = {
    "batch_scoring": "true compares the files with each other first: at least 5 of the same product, mostly good. Each "
    "answer then depends on the others.",
}
"""What a batch takes beside what a single image does."""
FILES = ("mask", "score", "overlay")
FILES_OF_COMPARE = ("sheet",)


# Long because it is one document, written down in its order.
def document(root: str = "") -> dict[str, Any]:
    """The OpenAPI document, version 3.1.

    Args:
        root: Where a proxy shows the page, as `/zsas` or a whole address; "" at the top of the server.
    """
    error = {"$ref": "#/components/schemas/Error"}
    statuses = {
        400: "The form cannot be read.",
        413: "The form is too large.",
        415: "The request is no multipart form.",
        422: "The image or a setting is refused; the sentence names it.",
        503: "The models cannot be had, or the line is full; Retry-After says when to try again.",
    }
    refusals = {str(status): _json(text, error) for status, text in statuses.items()}
    token = {"in": "path", "required": True, "schema": {"type": "string"}}

    def post(name: str, summary: str, form: dict[str, Any], gives: str, schema: str) -> Any:
        body = {"required": True, "content": {"multipart/form-data": {"schema": form}}}
        answer = _json(gives, {"$ref": f"#/components/schemas/{schema}"})
        return {
            "post": {
                "operationId": name,
                "summary": summary,
                "requestBody": body,
                "responses": {"200": answer, **refusals},
            }
        }

    one = "Examine one image."
    several = "Examine several images, on request compared with each other."
    systems = "Several systems on one image."
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "zsas",
            "version": __version__,
            "description": "Zero-shot anomaly segmentation: what is wrong on an image, and where.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        **({"servers": [{"url": root}]} if root else {}),
        "paths": {
            f"{ROOT}/segment": post("segment", one, _form(), "The result.", "Result"),
            f"{ROOT}/batch": post("batch", several, _form_of_batch(), "A row a file.", "Rows"),
            f"{ROOT}/compare": post(
                "compare", systems, _form_of_compare(), "A row a system.", "Compared"
            ),
            f"{ROOT}/files/{{token}}/{{name}}": {
                "get": {
                    "operationId": "file",
                    "summary": "A file of an earlier answer, for an hour.",
                    "parameters": [{"name": "token", **token}, {"name": "name", **token}],
                    "responses": {
                        "200": {"description": "The file.", "content": {"image/png": {}}},
                        "404": _json("It is gone, or never was.", error),
                    },
                }
            },
        },
        "components": {
            "schemas": {
                "Result": result_schema(),
                "Rows": _rows(),
                "Compared": answer_schema(),
                "Error": _error(),
            }
        },
    }


def _form() -> dict[str, Any]:
    fields: dict[str, Any] = {
        "image": {
            "type": "string",
            "format": "binary",
            "description": "The image file: PNG, JPEG, TIFF, BMP, WebP and others.",
        },
        "references": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "maxItems": MOST_REFERENCES,
            "description": "Images of good parts of the same kind; the field is repeated for each.",
        },
        "region": {
            "type": "string",
            "description": "Where to look: JSON, or an image file that is white there; see docs/parts.md.",
        },
        "ignore": {"type": "string", "description": "What to leave out of sight, as region."},
        "part": {
            "type": "string",
            "format": "binary",
            "description": "A part profile; what is named beside it counts more.",
        },
        "preset": {"enum": ["", *PRESETS], "description": "Which models; what is running without."},
        "files": {
            "type": "string",
            "description": f"Files to be answered as well: some of {', '.join(FILES)}, with commas.",
            "default": "",
            "examples": ["mask,score"],
        },
        "files_as": {"enum": ["base64", "links"], "default": "base64"},
        "page": {
            "type": "integer",
            "description": "Page or frame of a file with several, from 1; 0 for the first.",
            "default": 0,
            "minimum": 0,
            "maximum": 1_000_000,
        },
        "bits": {
            "type": "integer",
            "description": "Bits that a camera uses of values of 16, such as 12; 0 for what the file says.",
            "default": 0,
            "minimum": 0,
            "maximum": 32,
        },
    }
    for setting in all_settings():
        fields[setting.name] = schema_of(setting)
    return {
        "type": "object",
        "properties": fields,
        "required": ["image"],
        "additionalProperties": False,
    }


def _form_of_batch() -> dict[str, Any]:
    """The same form with several images."""
    form = _form()
    image = {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "minItems": 1,
        "maxItems": MAX_FILES,
        "description": "The image files; the field is repeated for each.",
    }
    together = {"type": "boolean", "default": False, "description": TOGETHER["batch_scoring"]}
    return {**form, "properties": {**form["properties"], "image": image, "batch_scoring": together}}


def _rows() -> dict[str, Any]:
    failed = {
        "type": "object",
        "properties": {"file": {"type": "string"}, "error": {"type": "string"}},
        "required": ["file", "error"],
    }
    rows = {"type": "array", "items": {"anyOf": [{"$ref": "#/components/schemas/Result"}, failed]}}
    together = {"type": "boolean", "description": "Whether they were compared with each other."}
    return {
        "type": "object",
        "properties": {"batch_scoring": together, "rows": rows},
        "required": ["batch_scoring", "rows"],
    }


def _form_of_compare() -> dict[str, Any]:
    """The same form with systems, refiners and a mask in the place of one system."""
    form = _form()
    names = ", ".join(FILES_OF_COMPARE)
    files = {
        **form["properties"]["files"],
        "description": f"Files to be answered as well: {names}.",
        "examples": [names],
    }
    own = {name: {"type": "string", "description": text} for name, text in TEXTS.items()}
    mask = {"type": "string", "format": "binary", "description": MASK}
    left = {n: f for n, f in form["properties"].items() if n not in ("system", "refiner")}
    return {**form, "properties": {**left, "files": files, **own, "mask": mask}}


def schema_of(setting: Setting) -> dict[str, Any]:
    """JSON schema of a setting."""
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    found: dict[str, Any] = {"type": kinds[setting.type], "default": setting.default}
    found["description"] = f"{setting.help}{f' ({setting.unit})' if setting.unit else ''}"
    if setting.choices:
        found["enum"] = list(setting.choices)
    if setting.words:
        number = {"type": found.pop("type"), "minimum": setting.floor, "maximum": setting.high}
        found["anyOf"] = [{"type": "string", "enum": list(setting.words)}, number]
    elif setting.low is not None:
        found |= {"minimum": setting.low, "maximum": setting.high}
    return found


def result_schema() -> dict[str, Any]:  # one list of fields, hence its length
    """JSON schema of a result."""
    number, whole = {"type": ["number", "null"]}, {"type": "integer"}
    region = {
        "type": "object",
        "properties": {
            "id": whole,
            "box": {"type": "array", "items": whole, "description": "x0, y0, x1, y1; exclusive."},
            "area": whole,
            "area_mm2": {**number, "description": "Where millimetres per pixel are known."},
            "score": number,
            "ignored": {"type": "boolean", "description": "It is too small to count."},
            "rejected": {"type": "boolean", "description": "A person said that nothing is wrong."},
            "rle": {"type": "object", "description": "COCO's run-length code."},
        },
    }
    return {
        "type": "object",
        "description": "What result.json holds; see docs/results.md.",
        "properties": {
            "file": {"type": "string"},
            "format": {"type": "integer"},
            "verdict": {"enum": ["normal", "unsure", "anomalous"]},
            "sentence": {"type": "string"},
            "anomalous": {"type": "boolean", "description": "Score at or above the limit."},
            "ok": {
                "type": "boolean",
                "description": "The verdict for machines; unsure counts as unsure_as says.",
            },
            "decided_by": {"enum": ["system", "person"]},
            "limit": number,
            "limit_from": {
                "enum": ["default", "references", "person", "verdicts"],
                "description": "Where it comes from: good images, where some were given and nobody named one.",
            },
            "unsure_band": number,
            "image_score": number,
            "references": {
                "type": "array",
                "description": "Good images that it was compared with: name, and digest of the pixels.",
                "items": {"type": "object"},
            },
            "score_alone": {**number, "description": "Without good images and batch."},
            "normal_ratio": {
                **number,
                "description": "How many times as far from the good images as they from each other.",
            },
            "good_images": {"type": "integer", "description": "How many it was compared with."},
            "good_ratios": {"type": "array", "items": number},
            "width": whole,
            "height": whole,
            "input": {
                "type": ["object", "null"],
                "description": "What was read: format, bits, page of how many pages, and notes.",
            },
            "scale": {
                "type": ["object", "null"],
                "description": "Millimetres per pixel, and the smallest anomaly that counts.",
            },
            "region": {
                "type": ["object", "null"],
                "description": "What was looked at: fraction, pixels, shapes; null for the whole image.",
            },
            "regions": {"type": "array", "items": region},
            "points": {
                "type": "array",
                "description": "What SAM was asked with: x and y in pixels, label 1 or 0, where it comes from.",
                "items": {"type": "object"},
            },
            "stages": {
                "type": "array",
                "description": "The steps of the system: name, title, symbol, equations, caption and facts of each.",
                "items": {"type": "object"},
            },
            "provenance": {
                "type": "array",
                "description": "What the mask is made of: names of stages, or region.",
                "items": {"type": "string"},
            },
            "system": {"type": "string"},
            "settings": {"type": "object"},
            "models": {"type": "object", "description": "What ran: preset, localizer, refiner."},
            "versions": {"type": "object"},
            "timings": {"type": "object"},
            "files": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "required": ["verdict", "anomalous", "image_score", "width", "height", "regions"],
    }


def _error() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "error": {"type": "string", "description": "One sentence for a person."},
            "parameter": {"type": "string", "description": "The field that is wrong."},
        },
        "required": ["error"],
    }


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def page(address: str = "http://127.0.0.1:7860") -> str:
    """The document as a page for people, without any script.

    Args:
        address: Of the server, as whoever reads it knows it.
    """
    address = escape(f"{address}{ROOT}")
    form = _form()["properties"]
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_kind(field))}</td>"
        f"<td>{escape(str(field.get('default', '')))}</td>"
        f"<td>{escape(field.get('description', ''))}</td></tr>"
        for name, field in form.items()
    )
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>zsas over HTTP</title>
<style>body{{font:16px/1.5 system-ui;max-width:70rem;margin:2rem auto;padding:0 1rem}}
td,th{{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #ccc}}
pre{{background:#eee;padding:1rem;overflow:auto}}</style>
<h1>POST {ROOT}/segment</h1>
<p>A form of the type multipart/form-data with one image; the answer is JSON: the result, or
<code>{{"error": …, "parameter": …}}</code>. The document: <a href="openapi.json">openapi.json</a>.</p>
<pre>curl -F image=@part.png -F threshold=0.5 -F files=mask {address}/segment</pre>
<table><tr><th>field<th>values<th>default<th>meaning</tr>{rows}</table>
<h1>POST {ROOT}/batch</h1>
<p>The same form with <code>image</code> given once for each file, and <code>batch_scoring=true</code> to compare them
with each other; the answer has a row for each.</p>
<pre>curl -F image=@1.png -F image=@2.png -F image=@3.png -F image=@4.png -F image=@5.png -F batch_scoring=true \\
    {address}/batch</pre>
<h1>POST {ROOT}/compare</h1>
<p>The same form with <code>systems</code> and <code>refiners</code>, names with commas, in the place of one system, and
a <code>mask</code> if there is one; the answer has a row for each.</p>
<pre>curl -F image=@part.png -F systems=auto,winclip,sdp -F files=sheet {address}/compare</pre></html>"""


def _kind(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(filter(None, field["enum"]))
    if "minimum" in field:
        return f"{field['type']}, {field['minimum']:,.10g} to {field['maximum']:,.10g}"
    if "anyOf" in field:
        return " or ".join(_kind(one) for one in field["anyOf"])
    return str(field.get("format", field.get("type", "")))
