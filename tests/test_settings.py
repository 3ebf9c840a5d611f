from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from zsas.docs import settings_page
from zsas.errors import ZsasError
from zsas.flags import PANELS, flag_of, with_settings
from zsas.settings import Knob, Settings, knobs

NUMBERS = [knob for knob in knobs() if knob.type in (int, float)]


def by_name(knob: Knob) -> str:
    return knob.name


def test_every_field_is_a_knob_with_a_sentence_of_help() -> None:
    assert [knob.name for knob in knobs()] == [field.name for field in dataclasses.fields(Settings)]
    for knob in knobs():
        assert knob.help.endswith("."), knob.name
        assert knob.label, knob.name
        assert knob.group in PANELS, knob.name
        assert getattr(Settings(), knob.name) == knob.default


def test_the_three_knobs_of_the_paper_stand_in_front() -> None:
    assert {knob.name for knob in knobs() if knob.front} == {
        "k_positive",
        "threshold",
        "kernel_size",
    }


@pytest.mark.parametrize("knob", NUMBERS, ids=by_name)
def test_the_ends_of_a_range_are_allowed_and_what_lies_beyond_is_a_sentence(knob: Knob) -> None:
    assert knob.low is not None
    assert knob.high is not None
    assert knob.step is not None
    for end in (knob.low, knob.high):
        assert getattr(Settings(**{knob.name: end}), knob.name) == end
    for beyond in (knob.low - knob.step, knob.high + knob.step, float("nan"), float("inf")):
        with pytest.raises(ZsasError) as caught:
            Settings(**{knob.name: beyond})
        sentence = str(caught.value)
        for part in (knob.name, repr(beyond), f"{knob.low:g} to {knob.high:g}"):
            assert part in sentence


@pytest.mark.parametrize("knob", [knob for knob in knobs() if knob.choices], ids=by_name)
def test_a_word_that_is_no_choice_is_a_sentence(knob: Knob) -> None:
    for choice in knob.choices:
        assert getattr(Settings(**{knob.name: choice}), knob.name) == choice
    with pytest.raises(ZsasError, match=f"{knob.name} is 'sideways', but it must be "):
        Settings(**{knob.name: "sideways"})


@pytest.mark.parametrize(
    "values",
    [
        {"k_positive": 2.5},
        {"k_positive": "3"},
        {"k_positive": True},
        {"k_positive": None},
        {"threshold": "high"},
        {"threshold": [0.5]},
        {"negatives": "yes"},
        {"negatives": None},
        {"object_name": 7},
        {"object_name": "x" * 81},
        {"resolution": 64},
        {"reference_side": 10},
        {"localizer": ["auto"]},
        {"threshold": 10**400},
        {"k_positive": 10**400},
        {"threshold": np.array([0.1, 0.2])},
        {"negatives": np.array([1, 2])},
        {"fusion": np.array(["map", "mask"])},
    ],
)
def test_a_value_of_another_kind_is_a_sentence(values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(ZsasError, match=name):
        Settings(**values)


def test_numbers_of_other_libraries_become_plain_ones() -> None:
    settings = Settings(k_positive=np.int64(4), threshold=np.float32(0.25), kernel_size=31.0)  # type: ignore[arg-type]
    assert type(settings.k_positive) is int
    assert type(settings.threshold) is float
    assert type(settings.kernel_size) is int


def test_settings_are_frozen_and_replaced() -> None:
    settings = Settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.k_positive = 5  # type: ignore[misc]
    assert settings.replace(k_positive=5).k_positive == 5
    assert settings.k_positive == 3
    with pytest.raises(ZsasError, match="no setting 'kay'"):
        settings.replace(kay=5)


def test_a_dict_gives_the_same_settings_back() -> None:
    settings = Settings(object_name="metal nut", threshold_mode="otsu", negatives=False)
    assert Settings.from_dict(settings.to_dict()) == settings
    assert Settings.from_dict({}) == Settings()


def test_only_localizer_and_resolution_need_the_encoders_again() -> None:
    settings = Settings()
    assert settings.replace(threshold=0.3, k_positive=7).encoding_key == settings.encoding_key
    assert settings.replace(resolution=336).encoding_key != settings.encoding_key
    assert settings.replace(localizer="training_free").encoding_key != settings.encoding_key


def test_the_page_in_the_docs_is_the_generated_one() -> None:
    page = Path(__file__).parents[1] / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == settings_page(), (
        "run: zsas settings > docs/settings.md"
    )


def test_every_knob_is_a_flag_with_help_and_range() -> None:
    app = typer.Typer()
    seen: list[Settings] = []

    @app.command()
    @with_settings
    def decide(name: str, settings: Settings) -> None:
        """Decide."""
        seen.append(settings)

    assert "settings" not in inspect.signature(decide).parameters
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "300"}).output
    for knob in knobs():
        assert flag_of(knob) in text
        assert knob.help[:40] in text
    assert "(3 to 151 px at the reference side)" in text
    for choice in ("ellipse", "rectangle", "cross"):
        assert choice in text

    changed = {
        "--object": "metal nut",
        "--k-positive": "7",
        "--threshold": "0.25",
        "--kernel-shape": "cross",
    }
    words = [word for pair in changed.items() for word in pair]
    outcome = CliRunner().invoke(app, ["x", "--no-negatives", *words])
    assert outcome.exit_code == 0, outcome.output
    assert seen == [
        Settings(
            object_name="metal nut",
            k_positive=7,
            threshold=0.25,
            kernel_shape="cross",
            negatives=False,
        )
    ]
