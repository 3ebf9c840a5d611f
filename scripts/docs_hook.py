"""What the documentation's site shows beside docs/: the README as its first page, and a reference of every module.

Both are made while the site is built, so that nothing has to be kept in step by hand.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
BESIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "examples/minimal.py": "minimal.md",
}
"""Files of the repository's root that the site shows, and as what."""

ORDER = {
    "Use": "install results parts references settings systems models http line embedding space scale licences",
    "Understand": "method minimal architecture benchmark",
    "Take part": "contributing changelog security training synthetic_images tiny_models training_log",
}
"""The site's sections; a page that stands in none comes in the last one."""


def modules() -> list[str]:
    """Every public module of zsas, by its dotted name; the page's own parts are left out."""
    found = []
    for file in sorted((ROOT / "zsas").rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if not any(part.startswith("_") for part in name.split(".")) and not name.startswith(
            "zsas.ui"
        ):
            found.append(name)
    return found


def page_of(name: str) -> str:
    """A file of the root as a page: without front matter, its links as they are from inside docs/."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if name.endswith(".py"):
        return f"# {name}\n\n```python\n{text}```\n"
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)
    text = text.replace("](docs/", "](")
    for file, page in BESIDE.items():
        text = text.replace(f"]({file}", f"]({page}")
    return text


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that no file of docs/ holds."""
    for name, page in BESIDE.items():
        files.append(File.generated(config, page, content=page_of(name)))
    lines = ["# Reference\n", "Every public module, from its docstrings.\n"]
    for name in modules():
        title = f"# {name}\n\n"
        files.append(
            File.generated(
                config,
                f"reference/{name}.md",
                content=f"{title}::: {name}\n    options:\n      show_root_heading: false\n",
            )
        )
        lines.append(f"- [`{name}`]({name}.md)")
    files.append(File.generated(config, "reference/index.md", content="\n".join(lines) + "\n"))
    return files


def on_config(config: Any) -> Any:
    """Lay out the navigation: known pages in their sections, the rest behind them, the reference last."""
    pages = {file.stem for file in (ROOT / "docs").glob("*.md")}
    pages |= {page.removesuffix(".md") for page in BESIDE.values()} - {"index"}
    sections = [
        (title, [p for p in wanted.split() if p in pages]) for title, wanted in ORDER.items()
    ]
    sections[-1][1].extend(sorted(pages - {page for _, wanted in sections for page in wanted}))
    nav: list[Any] = ["index.md"]
    nav += [{title: [f"{page}.md" for page in wanted]} for title, wanted in sections]
    nav.append(
        {"Reference": ["reference/index.md", *(f"reference/{name}.md" for name in modules())]}
    )
    config.nav = nav
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead links from docs/ to the repository's root to the pages that show these files."""
    for file, page in BESIDE.items():
        markdown = markdown.replace(f"](../{file}", f"]({page}")
    return markdown
