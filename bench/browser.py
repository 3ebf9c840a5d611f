"""The page as a person meets it, in a real browser: `python -m bench.browser` prints a line of JSON.

Measured on `python app.py` in a process of its own: seconds from its start to a page that can be used; from the click
on an example to the whole result; median and worst milliseconds from letting the marking level go to the new drawing;
how often a second it is drawn while it is dragged; and how many MB a hundred visits, one after the other, leave behind.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, sync_playwright

MOVES = 15
VISITS = 100
WARM = 20
# Move the thumb, let it go, and resolve when the drawing has changed.
MOVE = """([name, value]) => new Promise((done) => {
  const slider = document.querySelector(`#zs-scale .zs-tick[name=${name}]`);
  const viewer = document.querySelector("#zs-viewer");
  const started = performance.now();
  const watcher = new MutationObserver(() => requestAnimationFrame(() => {
    watcher.disconnect();
    done(performance.now() - started);
  }));
  watcher.observe(viewer, { childList: true });
  slider.value = value;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  slider.dispatchEvent(new Event("change", { bubbles: true }));
})"""
# Drag the marking level for a while; how often a second the browser draws from the map that it holds.
DRAG = """() => new Promise((done) => {
  const slider = document.querySelector("#zs-scale .zs-tick");
  const started = performance.now();
  let drawn = 0;
  const step = () => {
    slider.value = 0.3 + 0.4 * (drawn % 40) / 40;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    drawn += 1;
    const spent = performance.now() - started;
    if (spent > 1500) done(1000 * drawn / spent); else requestAnimationFrame(step);
  };
  step();
})"""
READY = ".zs-app:not(.zs-running)[data-state=result] #zs-verdict .zs-meter"


def main() -> None:
    """Start the page, measure, print."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1"}
    url = f"http://127.0.0.1:{port}"
    with sync_playwright() as playwright:
        # A person's browser is open before the page is started.
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(300_000)
        started = time.perf_counter()
        server = subprocess.Popen(
            [sys.executable, "app.py"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(url)
            answers = time.perf_counter() - started
            page.goto(url)
            page.wait_for_selector("body[data-arrived]")
            usable = time.perf_counter() - started
            page.wait_for_function(
                "() => !document.querySelector('#zs-status').innerText.includes('Loading')"
            )
            loaded = time.perf_counter() - started
            found = {
                "answers_seconds": answers,
                "usable_seconds": usable,
                "models_seconds": loaded,
                "first_result_seconds": first_result(page),
                **moves(page),
            }
            browser.close()
            print(json.dumps({**found, "growth_mb": visits(url, server.pid)}))
        finally:
            server.terminate()
            server.wait()


def wait_for(url: str) -> None:
    """Until the page answers."""
    for _ in range(6000):
        try:
            if httpx.get(url, timeout=5).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise SystemExit("The page did not answer.")


def first_result(page: Page) -> float:
    """From the click on an example to the whole result; the second example, so that the first has warmed up."""
    taken = 0.0
    for number in (0, 1):
        page.locator("#zs-examples button").nth(number).click()
        started = time.perf_counter()
        page.wait_for_selector("#zs-verdict .zs-busy")
        page.wait_for_selector(READY)
        taken = time.perf_counter() - started
    return taken


def moves(page: Page) -> dict[str, float]:
    """Letting a slider go, again and again."""
    page.wait_for_timeout(1000)
    taken = []
    for number in range(MOVES):
        taken.append(page.evaluate(MOVE, ["threshold", f"{0.3 + 0.02 * number:.2f}"]))
        page.wait_for_timeout(400)
    return {
        "redecide_median_ms": statistics.median(taken),
        "redecide_worst_ms": max(taken),
        "dragged_a_second": page.evaluate(DRAG),
    }


def visits(url: str, pid: int) -> float:
    """MB that the server grows by in `VISITS` visits, after `WARM` that fill the caches."""
    config = httpx.get(f"{url}/config", timeout=60).json()
    page = next(c["id"] for c in config["components"] if c["props"].get("elem_id") == "zs-app")
    index = Path("examples/index.toml").read_text().splitlines()
    names = [line.split('"')[1] for line in index if line.startswith("id")]
    before = 0.0
    for number in range(WARM + VISITS):
        if number == WARM:
            before = resident_mb(pid)
        visit(url, page, names[number % len(names)])
    return resident_mb(pid) - before


def visit(url: str, page: int, example: str) -> None:
    """What a browser does on opening a link to an example."""
    body = {"component_id": page, "session_hash": secrets.token_hex(6)}
    with httpx.Client(base_url=url, timeout=300) as client:

        def call(name: str, data: dict[str, Any]) -> dict[str, Any]:
            asked = {**body, "fn_name": name, "data": data}
            return client.post("/gradio_api/component_server", json=asked).json()

        answer = call("page_hello", {"query": f"?example={example}"})
        token = answer["token"]
        while answer["busy"]:
            answer = call("page_updates", {"token": token, "seen": answer["news"]})


def resident_mb(pid: int) -> float:
    """Resident memory of a process, from /proc."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
