"""What a server is built from: the Dockerfile, and the front matter that a Space reads."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from zsas.models import PRESETS, PUBLISHED
from zsas.models.hub import FILES, PICKLED, SAFE

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    """Instructions of the Dockerfile with their words, continued lines joined."""
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", DOCKERFILE))
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]  # type: ignore[misc]


def test_the_image_runs_as_nobody_and_says_whether_it_is_well() -> None:
    users = [words for name, words in instructions() if name == "USER"]
    assert users
    assert users[-1] not in ("root", "0")
    assert users[-1].isdigit(), "Kubernetes' runAsNonRoot believes numbers only"
    check = next(words for name, words in instructions() if name == "HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    assert command[0] == "python"
    compile(command[2], "health check", "exec")
    assert ("CMD", '["zsas", "serve"]') in instructions()


def test_the_image_copies_what_exists_and_what_the_builder_is_given() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    given = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {
        source for name, words in instructions() if name == "COPY" for source in words.split()[:-1]
    }
    assert copied == given
    assert all((ROOT / source).exists() for source in copied)


def test_the_image_writes_to_two_places_only() -> None:
    values = dict(re.findall(r"(\w+)=(\S+)", " ".join(w for n, w in instructions() if n == "ENV")))
    assert values["HF_HOME"].startswith("/data/")
    assert values["GRADIO_TEMP_DIR"].startswith("/tmp/")
    assert values["MPLCONFIGDIR"].startswith("/tmp/")


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not installed")
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(["hadolint", str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def front_matter() -> dict[str, list[str]]:
    """Lists of the front matter of README.md."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("---")[1]
    return {
        name: re.findall(r"- (.+)", block)
        for name, block in re.findall(r"(?m)^(\w+):\n((?:  - .+\n)+)", text)
    }


def test_a_space_preloads_all_of_the_preset_that_its_hardware_runs() -> None:
    fields = front_matter()
    paper = PRESETS["paper"]
    assert set(fields["models"]) == set(paper.roles.values())
    preloaded = dict(line.split(maxsplit=1) for line in fields["preload_from_hub"])
    assert set(preloaded) == set(paper.roles.values())
    for role, source in paper.roles.items():
        names = set(preloaded[source].split(","))
        assert names & {SAFE, PICKLED}
        assert {
            name for name in FILES[role] if "*" not in name and "processor" not in name
        } <= names


def test_the_docs_name_every_preset_and_all_published_weights() -> None:
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, preset in PRESETS.items():
        assert f"| `{name}` |" in page
        assert f"| `{name}` |" in readme
        assert preset.bundled or all(f"`{source}`" in page for source in preset.roles.values())
    assert all(f"`{name}`" in page for name in PUBLISHED)
