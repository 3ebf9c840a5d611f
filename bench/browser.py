"""The page as a person meets it, in a real browser: `python -m bench.browser` prints each figure with its goal.

Measured on `python app.py` in a process of its own, with the preset tiny. The last line is the same as JSON, which
`python -m bench page` reads. The goals are meant for two quiet cores.
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
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

MOVES = 15
VISITS = 100
WARM = 20


@dataclass(frozen=True)
class Goal:
    """One figure of the page.

    Attributes:
        key: In the line of JSON.
        what: In words.
        limit: What it is to be at most, or at least where `more`.
        unit: Of both.
        more: Whether more is better.
    """

    key: str
    what: str
    limit: float
    unit: str
    more: bool = False

    def row(self, found: dict[str, float]) -> tuple[str, str, str, bool]:
        """What, measured, goal, reached."""
        value = found[self.key]
        reached = value >= self.limit if self.more else value <= self.limit
        sign = "≥" if self.more else "≤"
        figure = f"{value:.3g} {self.unit}"
        return f"page, {self.what}", figure, f"{sign} {self.limit:g} {self.unit}", reached


GOALS = (
    Goal("usable_seconds", "`python app.py` to a page that can be used", 3.0, "s"),
    Goal("transfer_mb", "sent before the first image, beyond an empty Blocks page", 0.3, "MB"),
    Goal("first_picture_seconds", "image chosen to its first picture, one view", 1.2, "s"),
    Goal("last_stage_seconds", "image chosen to its last stage, one view", 1.5, "s"),
    Goal("first_result_seconds", "click on an example to the whole result, all views", 1.5, "s"),
    Goal("redecide_median_ms", "marking level let go to the new drawing (median)", 300, "ms"),
    Goal("dragged_a_second", "drawings of a dragged marking level", 25, "a second", more=True),
    Goal("preview_ms", "pointer at rest to what a click would mark (median)", 250, "ms"),
    Goal("thumbnail_ms", "thumbnail clicked to its photo (median)", 150, "ms"),
    Goal("zoomed_a_second", "frames of zoom and pan in 6000 × 6000", 30, "a second", more=True),
    Goal("single_seconds", "one image while another visitor's 300 run (median)", 3, "s"),
    Goal("growth_mb", "memory that 100 visits leave behind", 50, "MB"),
)

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
# Zoom and pan for two seconds; how many frames a second the browser draws.
ZOOM = """() => new Promise((done) => {
  const drawing = document.querySelector("#zs-main"), box = drawing.getBoundingClientRect();
  const at = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2, bubbles: true, cancelable: true };
  const started = performance.now();
  let drawn = 0;
  const step = () => {
    drawing.dispatchEvent(new WheelEvent("wheel", { ...at, deltaY: drawn % 80 < 50 ? -60 : 60 }));
    drawn += 1;
    const spent = performance.now() - started;
    if (spent > 2000) done(1000 * drawn / spent); else requestAnimationFrame(step);
  };
  step();
})"""
# From the choice of a file to the first picture of a stage, and to the end, both in ms.
CHOSEN = """() => {
  window.taken = {};
  const field = document.querySelector("#zs-upload input[type=file]");
  field.addEventListener("change", () => {
    const started = performance.now();
    const look = () => {
      const app = document.querySelector(".zs-app"), spent = performance.now() - started;
      const shown = app.dataset.state === "busy" && app.querySelector("#zs-strip [data-stage]");
      if (shown && !window.taken.first) window.taken.first = spent;
      if (window.taken.first && app.dataset.state === "result") window.taken.last = spent;
      else requestAnimationFrame(look);
    };
    look();
  }, { capture: true, once: true });
}"""
READY = ".zs-app:not(.zs-running)[data-state=result] #zs-verdict .zs-meter"


@contextmanager
def serving(command: list[str], port: int) -> Iterator[tuple[str, int]]:
    """A server in a process of its own; its address and process id."""
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1"}
    environment |= {"ZSAS_PRESET": "tiny", "GRADIO_ANALYTICS_ENABLED": "False"}
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet)
    try:
        yield f"http://127.0.0.1:{port}", server.pid
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def main() -> None:
    """Start the page, measure, print."""
    with sync_playwright() as playwright:
        # A person's browser has been open for a while before the page is started.
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = new_page(browser)
        page.wait_for_timeout(4000)
        found: dict[str, float] = {}
        started = time.perf_counter()
        with serving([sys.executable, "app.py"], free_port()) as (url, pid):
            wait_for(url)
            found["answers_seconds"] = time.perf_counter() - started
            ours, arrived = received(page, url, "body[data-arrived]")
            found["usable_seconds"] = arrived - started
            page.wait_for_function(
                "() => !document.querySelector('#zs-status').innerText.includes('Loading')"
            )
            found["models_seconds"] = time.perf_counter() - started
            found |= chosen(page, url)
            found["first_result_seconds"] = first_result(page)
            found |= moves(page)
            found["preview_ms"] = preview(page)
            with tempfile.TemporaryDirectory() as folder:
                found["thumbnail_ms"] = thumbnails(page, Path(folder))
                found["zoomed_a_second"] = zoomed(page, url, Path(folder))
            page.close()
            found["single_seconds"] = beside_a_batch(url)
            found["growth_mb"] = visits(url, pid)
        empty = "import gradio as gr\nwith gr.Blocks() as page: pass\npage.launch(quiet=True)"
        with serving([sys.executable, "-c", empty], free_port()) as (url, _):
            wait_for(url)
            found["transfer_mb"] = (
                ours - received(new_page(browser), url, ".gradio-container")[0]
            ) / 1e6
        browser.close()
    print("| what | measured | goal | reached |\n| --- | --- | --- | --- |")
    for goal in GOALS:
        what, figure, limit, reached = goal.row(found)
        print(f"| {what} | {figure} | {limit} | {'yes' if reached else 'NO'} |")
    print(json.dumps(found))


def new_page(browser: Browser) -> Page:
    """A tab with nothing in its cache."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(300_000)
    return page


def received(page: Page, url: str, there: str) -> tuple[int, float]:
    """Bytes that cross the network until two seconds after a page is there, and when it was there."""
    client = page.context.new_cdp_session(page)
    client.send("Network.enable")
    sizes: list[int] = []
    client.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto(url)
    page.wait_for_selector(there, state="attached")
    arrived = time.perf_counter()
    page.wait_for_timeout(2000)
    return sum(sizes), arrived


def wait_for(url: str) -> None:
    """Until the page answers."""
    for _ in range(6000):
        try:
            if httpx.get(url, timeout=5).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise SystemExit("The page did not answer.")


def examples() -> list[Path]:
    """The bundled images."""
    return sorted(Path("examples").glob("*.jpg"))


def chosen(page: Page, url: str) -> dict[str, float]:
    """From the choice of a file to its first picture and to its last stage, one view: medians, after one to warm up."""
    page.goto(f"{url}/?views=one")
    page.wait_for_selector("body[data-arrived]")
    first, last = [], []
    for path in examples()[:4]:
        page.evaluate(CHOSEN)
        page.set_input_files("#zs-upload input[type=file]", path)
        page.wait_for_function("window.taken.last")
        page.wait_for_selector(READY)
        taken = page.evaluate("window.taken")
        first.append(taken["first"] / 1000)
        last.append(taken["last"] / 1000)
    return {
        "first_picture_seconds": statistics.median(first[1:]),
        "last_stage_seconds": statistics.median(last[1:]),
    }


def first_result(page: Page) -> float:
    """From the click on an example to the whole result; the second example, so that the first has warmed up."""
    page.goto(page.url.split("?")[0])
    page.wait_for_selector("body[data-arrived]")
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


def clocked(page: Page, do: Callable[[], object], until: str) -> float:
    """Milliseconds in the browser from now until an expression holds."""
    started = page.evaluate("performance.now()")
    do()
    page.wait_for_function(until, polling="raf")
    return float(page.evaluate("performance.now()")) - float(started)


def preview(page: Page) -> float:
    """From the pointer's last move to the preview."""
    page.wait_for_timeout(1500)
    box = page.locator("#zs-main").bounding_box()
    assert box is not None
    taken = []
    for number in range(9):
        x, y = box["x"] + box["width"] * (0.15 + 0.08 * number), box["y"] + 0.8 * box["height"]
        page.mouse.move(5, 5)
        page.wait_for_timeout(500)
        page.mouse.move(x - 2, y)
        there = "document.querySelector('#zs-preview path')"
        try:
            page.set_default_timeout(2000)
            taken.append(clocked(page, lambda x=x, y=y: page.mouse.move(x, y), there))  # type: ignore[misc]
        except (
            Exception
        ):  # there a click would mark nothing, or nearly everything, and nothing is shown
            continue
        finally:
            page.set_default_timeout(300_000)
    return statistics.median(taken) if taken else float("nan")


def thumbnails(page: Page, folder: Path) -> float:
    """From the click on a thumbnail to its photo with the findings."""
    page.set_input_files("#zs-upload input[type=file]", [str(path) for path in examples()[:8]])
    page.wait_for_function("document.querySelector('#zs-progress').innerText === '8 done'")
    taken = []
    for number in range(8):
        page.wait_for_timeout(300)
        cell = page.locator("#zs-cells [data-open-row]").nth(number)
        name = cell.locator("b").inner_text()
        walk = f"document.querySelector('#zs-walk span').innerText.endsWith({json.dumps(name)})"
        there = f"{walk} && document.querySelector('{READY}')"
        taken.append(clocked(page, cell.click, there))
        page.click("#zs-walk [data-do=all]")
    return statistics.median(taken)


def zoomed(page: Page, url: str, folder: Path) -> float:
    """Frames a second while a photo of 36 megapixels is zoomed and panned."""
    noise = np.random.default_rng(0).integers(0, 255, (1500, 1500, 3), dtype=np.uint8)
    large = cv2.resize(noise, (6000, 6000), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(folder / "large.jpg"), large)
    page.goto(f"{url}/?tiles=off")
    page.wait_for_selector("body[data-arrived]")
    page.set_input_files("#zs-upload input[type=file]", folder / "large.jpg")
    page.wait_for_selector(READY)
    page.wait_for_timeout(1000)
    return float(page.evaluate(ZOOM))


def visits(url: str, pid: int) -> float:
    """MB that the server grows by in `VISITS` visits, after `WARM` that fill the caches."""
    page = page_component(url)
    index = Path("examples/index.toml").read_text().splitlines()
    names = [line.split('"')[1] for line in index if line.startswith("id")]
    before = 0.0
    for number in range(WARM + VISITS):
        if number == WARM:
            before = resident_mb(pid)
        visit(url, page, names[number % len(names)])
    return resident_mb(pid) - before


def page_component(url: str) -> int:
    """The component whose functions the page's script calls."""
    config = httpx.get(f"{url}/config", timeout=60).json()
    return next(int(c["id"]) for c in config["components"] if c["props"].get("elem_id") == "zs-app")


def beside_a_batch(url: str, count: int = 300, asked: int = 5) -> float:
    """Median seconds of a visitor's own image while a batch of another one runs."""
    page = page_component(url)

    def visitor(client: httpx.Client) -> tuple[Callable[..., dict[str, Any]], str]:
        body = {"component_id": page, "session_hash": secrets.token_hex(6)}

        def call(name: str, data: dict[str, Any]) -> dict[str, Any]:
            given = {**body, "fn_name": name, "data": data}
            return client.post("/gradio_api/component_server", json=given).json()

        return call, call("page_hello", {"query": ""})["token"]

    def upload(client: httpx.Client, number: int) -> str:
        rng = np.random.default_rng(number)
        image = rng.integers(120, 160, (96, 128, 3)).astype(np.uint8)
        cv2.circle(
            image, (int(rng.integers(20, 100)), int(rng.integers(20, 70))), 8, (20, 20, 20), -1
        )
        files = {"files": (f"{number}.png", cv2.imencode(".png", image)[1].tobytes())}
        return str(client.post("/gradio_api/upload", files=files).json()[0])

    taken = []
    with (
        httpx.Client(base_url=url, timeout=300) as one,
        httpx.Client(base_url=url, timeout=300) as other,
    ):
        (many, its), (single, own) = visitor(one), visitor(other)
        files = [{"name": f"{i}.png", "path": upload(one, i)} for i in range(count)]
        act = {"token": its, "name": "begin_batch", "data": {"files": files}, "seen": 0}
        many("page_act", act)
        for number in range(asked):
            time.sleep(2)
            many("page_updates", {"token": its, "seen": 0})  # its tab is open
            path = upload(other, 10_000 + number)
            started = time.perf_counter()
            act = {"token": own, "name": "open_upload", "data": {"path": path}, "seen": 0}
            answer = single("page_act", act)
            while answer["busy"]:
                answer = single("page_updates", {"token": own, "seen": answer["news"]})
            taken.append(time.perf_counter() - started)
        many("page_act", {"token": its, "name": "stop_batch", "data": {}, "seen": 0})
    return statistics.median(taken)


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
