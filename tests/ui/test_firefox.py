"""The main journey in another browser."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.helpers.page import Served

pytestmark = pytest.mark.browser


def test_the_main_journey_in_firefox(served: Served) -> None:
    firefox, node = shutil.which("firefox-esr") or shutil.which("firefox"), shutil.which("node")
    if not (firefox and node and (ROOT / "node_modules" / "puppeteer-core").is_dir()):
        pytest.fail("Firefox or puppeteer-core is missing; `make browser` installs them.")
    done = subprocess.run(
        [node, str(Path(__file__).with_name("firefox.mjs")), served.url, firefox],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.stdout.strip().endswith("done"), done.stdout + done.stderr
