"""Take the pictures of the page for README and docs: `docs/page.png`, and those of its other looks beside it.

    python -m scripts.screenshot            # starts the page itself, with the preset tiny
    python -m scripts.screenshot URL        # or takes a page that runs already

Needs Chromium (`make browser`).
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

DOCS = Path(__file__).resolve().parents[1] / "docs"
EXAMPLE = "wood-hole"
ONE = f"example={EXAMPLE}"
SHOTS = (
    ("page.png", f"{ONE}&__theme=light", {"width": 1360, "height": 1000}, False),
    ("page-dark.png", f"{ONE}&__theme=dark", {"width": 1360, "height": 1000}, True),
    ("page-phone.png", f"{ONE}&__theme=light", {"width": 375, "height": 812}, True),
    ("page-embed.png", f"{ONE}&__theme=light&embed=1", {"width": 820, "height": 820}, False),
    ("page-many.png", "__theme=light", {"width": 1360, "height": 800}, False),
)
"""Name, query, window, and whether all of the page is taken and not only what is in sight."""


def main() -> None:
    """Start the page where none is named, and take all pictures."""
    if len(sys.argv) > 1:
        take(sys.argv[1].rstrip("/"))
        return
    from zsas.ui.server import launch

    page = launch(prevent_thread_lock=True, quiet=True)
    assert page.local_url
    take(page.local_url.rstrip("/"))
    page.close(verbose=False)


def take(url: str) -> None:
    """One picture after the other."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--hide-scrollbars"],
        )
        for name, query, viewport, whole in SHOTS:
            page = browser.new_page(viewport=viewport)  # type: ignore[arg-type]
            page.set_default_timeout(180_000)
            page.goto(f"{url}/?{query}")
            if name == "page-many.png":
                page.wait_for_selector("body[data-arrived]")
                page.click(".zs-switch [data-mode=many]")
                page.click("[data-do=example_batch]")
                page.wait_for_function(
                    "() => document.querySelector('#zs-progress').textContent === '8 done'"
                )
            else:
                page.wait_for_selector(".zs-app:not(.zs-running) #zs-verdict .zs-meter")
                page.evaluate("scrollTo(0, 0)")
            page.wait_for_timeout(1500)
            page.screenshot(path=DOCS / name, full_page=whole)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
