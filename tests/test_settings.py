from __future__ import annotations

import inspect
import pickle
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from zsas.cli.settings import settings_page
from zsas.declare import Setting
from zsas.errors import ZsasError
from zsas.flags import flag_of, with_settings
from zsas.refiners.points import PointSettings
from zsas.settings import RENAMED, Settings, all_groups, all_settings

NUMBERS = [s for s in all_settings() if s.type in (int, float) and not s.words]


def by_name(setting: Setting) -> str:
    return setting.name


def test_every_setting_has_a_sentence_of_help_and_a_group() -> None:
    names = [setting.name for setting in all_settings()]
    assert len(names) == len(set(names))
    keys = {group.key for group in all_groups()}
    for setting in all_settings():
        assert setting.help.endswith("."), setting.name
        assert setting.label, setting.name
        assert setting.group in keys, setting.name
        own = Settings(system="vv")  # a system without defaults of its own
        assert setting.name == "system" or getattr(own, setting.name) == setting.default
        assert setting.checked(setting.default) == setting.default


@pytest.mark.parametrize("setting", NUMBERS, ids=by_name)
def test_the_ends_of_a_range_are_allowed_and_what_lies_beyond_is_a_sentence(
    setting: Setting,
) -> None:
    assert setting.low is not None
    assert setting.high is not None
    assert setting.step is not None
    for end in (setting.low, setting.high):
        assert getattr(Settings(**{setting.name: end}), setting.name) == end
    for beyond in (
        setting.low - setting.step,
        setting.high + setting.step,
        float("nan"),
        float("inf"),
    ):
        with pytest.raises(ZsasError) as caught:
            Settings(**{setting.name: beyond})
        sentence = str(caught.value)
        for part in (setting.name, repr(beyond), f"to {setting.high:g}"):
            assert part in sentence


@pytest.mark.parametrize(
    "setting", [setting for setting in all_settings() if setting.choices], ids=by_name
)
def test_a_word_that_is_no_choice_is_a_sentence(setting: Setting) -> None:
    for choice in setting.choices:
        assert getattr(Settings(**{setting.name: choice}), setting.name) == choice
    with pytest.raises(ZsasError, match=f"{setting.name} is 'sideways', but it must be "):
        Settings(**{setting.name: "sideways"})


@pytest.mark.parametrize(
    "values",
    [
        {"k_positive": 2.5},
        {"k_positive": "3"},
        {"k_positive": True},
        {"threshold": "high"},
        {"threshold": [0.5]},
        {"negatives": "yes"},
        {"object_name": 7},
        {"object_name": "x" * 81},
        {"resolution": 64},
        {"reference_size": 10},
        {"system": ["auto"]},
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
    with pytest.raises(AttributeError, match="replace"):
        settings.k_positive = 5
    assert settings.replace(k_positive=5).k_positive == 5
    assert settings.k_positive == 3
    with pytest.raises(ZsasError, match="no setting 'kay'"):
        settings.replace(kay=5)


def test_a_dict_gives_the_same_settings_back() -> None:
    settings = Settings(object_name="metal nut", threshold_mode="otsu", negatives=False)
    assert Settings.from_dict(settings.to_dict()) == settings
    assert Settings.from_dict({}) == Settings()


def test_settings_can_be_sent_to_another_process() -> None:
    settings = Settings(system="paper", threshold=0.3)
    again = pickle.loads(pickle.dumps(settings))
    assert again == settings
    assert hash(again) == hash(settings)
    assert again.replace(system="auto").prompting == "per_region"


def test_a_component_gets_its_own_group() -> None:
    points = Settings(k_positive=7).of(PointSettings)
    assert points == PointSettings(k_positive=7)


def test_a_system_has_defaults_of_its_own_that_can_be_overruled() -> None:
    assert Settings(system="paper").prompting == "joint"
    assert Settings(system="paper", prompting="per_region").prompting == "per_region"
    assert Settings(system="paper", prompting=None).prompting == "joint"
    assert Settings(system="paper").replace(system="auto").prompting == "per_region"


@pytest.mark.parametrize("name", RENAMED)
def test_an_old_name_is_a_sentence_with_the_new_one(name: str) -> None:
    with pytest.raises(ZsasError, match=f"is now called '{RENAMED[name]}'"):
        Settings(**{name: 1})


def test_only_system_and_resolution_need_the_encoders_again() -> None:
    settings = Settings()
    assert settings.replace(threshold=0.3, k_positive=7).encoding_key == settings.encoding_key
    assert settings.replace(resolution=336).encoding_key != settings.encoding_key
    assert settings.replace(system="vv").encoding_key != settings.encoding_key


@pytest.mark.parametrize(("text", "value"), [("0,25", 0.25), ("0.25", 0.25), (" 7 ", 7)])
def test_numbers_as_text_are_read(text: str, value: float) -> None:
    known = {setting.name: setting for setting in all_settings()}
    name = "threshold" if value < 1 else "k_positive"
    assert known[name].parse(text) == value


def test_the_page_in_the_docs_is_the_generated_one() -> None:
    page = Path(__file__).parents[1] / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == settings_page(), (
        "run: zsas settings > docs/settings.md"
    )


def test_every_setting_is_a_flag_with_help_and_range() -> None:
    app = typer.Typer()
    seen: list[Settings] = []

    @app.command()
    @with_settings
    def decide(name: str, settings: Settings) -> None:
        """Decide."""
        seen.append(settings)

    assert "settings" not in inspect.signature(decide).parameters
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "300"}).output
    for setting in all_settings():
        assert flag_of(setting) in text
        assert setting.help[:40] in text
    assert "(3 to 151 px at the reference size)" in text
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


def test_a_level_alone_is_a_level_for_all_images():
    """The system finds a level for each image; who names one means it."""
    assert Settings().threshold_mode == "adaptive"
    assert Settings(system="paper").threshold_mode == "absolute"
    assert Settings(threshold=0.4).threshold_mode == "absolute"
    assert Settings().replace(threshold=0.4).threshold_mode == "absolute"
    assert Settings(threshold=0.4, threshold_mode="adaptive").threshold_mode == "adaptive"


def test_moving_the_level_leaves_the_mode_in_which_it_has_no_effect():
    adaptive = Settings(threshold_mode="adaptive")
    assert adaptive.replace(threshold=0.4).threshold_mode == "absolute"
    assert adaptive.replace(blur=2.0).threshold_mode == "adaptive"
    assert Settings(threshold_mode="quantile").replace(threshold=0.4).threshold_mode == "quantile"
    back = Settings(threshold=0.4).replace(threshold_mode="adaptive")
    assert back == Settings()
    assert Settings(threshold=0.4).replace(threshold=None) == Settings()


def test_what_follows_from_another_setting_is_not_counted_as_changed():
    assert Settings().changed() == frozenset()
    assert Settings(threshold=0.4).changed() == {"threshold"}
    assert Settings(threshold=0.55).changed() == {"threshold_mode"}
    assert Settings(threshold=0.4, threshold_mode="quantile").changed() == {
        "threshold",
        "threshold_mode",
    }


def test_what_a_flag_gives_goes_to_other_processes() -> None:
    """A flag's words are an enumeration that no other process knows."""
    enumeration: Any = StrEnum  # as the flags make it
    given = enumeration("system", {"vv": "vv"})("vv")
    chosen = Settings(system=given)
    assert type(chosen.system) is str
    assert pickle.loads(pickle.dumps(chosen)) == chosen
    assert pickle.loads(pickle.dumps(chosen.encoding_key)) == chosen.encoding_key


def test_text_is_valid_text_or_a_sentence() -> None:
    """A shell in another locale hands on bytes; a JSON may hold half a character."""
    handed_on = "Größe".encode().decode("ascii", "surrogateescape")
    assert Settings(object_name=handed_on).object_name == "Größe"
    for broken in ("gr\udcf6", "\ud800"):
        with pytest.raises(ZsasError, match=r"object_name is .* which is no valid text"):
            Settings(object_name=broken)
