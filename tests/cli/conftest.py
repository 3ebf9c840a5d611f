"""The command line in this process, without models."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

from tests.helpers.commands import Run, StandIn
from zsas import models
from zsas.cli import app
from zsas.errors import ZsasError


def fetch(preset: models.Preset, **_: object) -> None:
    """Every model is here but the paper's."""
    if preset.name == "paper":
        raise ZsasError("The preset 'paper' needs the Hub, which cannot be reached.")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Calls `zsas` in this process, with stand-ins for the segmenter and for its models' files."""
    monkeypatch.setattr("zsas.models.hub.fetch", fetch)
    pipeline = ModuleType("zsas.segmenter")
    pipeline.Segmenter = StandIn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zsas.segmenter", pipeline)

    def call(*arguments: object) -> Result:
        StandIn.batches = []
        outcome = CliRunner().invoke(
            app, [str(argument) for argument in arguments], env={"COLUMNS": "200"}
        )
        assert "Traceback" not in outcome.output
        return outcome

    return call
