"""Settings and points in an address, and a control for each setting."""

from __future__ import annotations

import pytest

from zsas.settings import Settings, all_settings
from zsas.ui import address, drawer, screen


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(
            threshold=0.35,
            negatives=False,
            kernel_shape="cross",
            k_positive=7,
            object_name="a b&c=d",
        ),
    ],
)
def test_settings_survive_the_address(settings: Settings) -> None:
    from urllib.parse import parse_qsl

    assert address.from_query(dict(parse_qsl(address.to_query(settings)))) == (settings, [])


def test_the_address_names_only_what_differs() -> None:
    assert address.to_query(Settings(), example="nut", preset="") == "example=nut"


@pytest.mark.parametrize(("text", "value"), [("on", True), ("off", False), ("0", False)])
def test_a_switch_in_the_address_may_be_said_in_several_words(text: str, value: bool) -> None:
    assert address.from_query({"negatives": text}) == (Settings(negatives=value), [])


@pytest.mark.parametrize(
    "query", [{"threshold": "7"}, {"k_positive": "x"}, {"negatives": "maybe"}, {"fusion": "sum"}]
)
def test_a_wrong_parameter_is_left_out_with_a_sentence(query: dict[str, str]) -> None:
    settings, refused = address.from_query({**query, "blur": "2"})
    assert settings == Settings(blur=2.0)
    assert len(refused) == 1
    name, value = next(iter(query.items()))
    assert f"{name} is " in refused[0]
    assert value in refused[0]


def test_there_is_a_control_for_each_setting_with_its_own_range() -> None:
    text = drawer.drawer(Settings())
    for setting in all_settings():
        if setting.name in Settings().used() and setting.name not in drawer.ELSEWHERE:
            assert f'name="{setting.name}"' in text
            if setting.low is not None and not setting.words:
                assert f'min="{setting.low:g}" max="{setting.high:g}"' in text
    assert "All " in text
    assert 'data-name="threshold"' not in text
    assert 'data-name="threshold"' in drawer.drawer(Settings(threshold=0.3))


def test_points_of_an_address_are_read_and_nonsense_is_left_out() -> None:
    assert screen.parse_points("10,20,1;1,2;x,y,z;999,1,1;5,6,0;7,8,3", (240, 320)) == (
        (10, 20, 1),
        (5, 6, 0),
    )
