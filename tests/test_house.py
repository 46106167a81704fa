"""The house keeps its shape: small modules, and every driver loads and states what it can do."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.api import Driver, find_drivers

ROOT = Path(__file__).parent.parent
LONGEST = 500


def test_no_module_is_too_long_to_read_in_one_sitting() -> None:
    sizes = {
        path.relative_to(ROOT): len(path.read_text().splitlines())
        for room in ("labd", "drivers", "firmware", "tests")
        for path in (ROOT / room).rglob("*.py")
    }
    assert sizes
    assert {path: lines for path, lines in sizes.items() if lines > LONGEST} == {}


@pytest.mark.parametrize("driver", find_drivers().values(), ids=lambda driver: driver.name)
def test_every_driver_has_the_name_of_its_entry_point_and_strict_frozen_options(driver: Driver) -> None:
    assert find_drivers()[driver.name] is driver
    assert driver.roles
    assert driver.options.model_config.get("extra") == "forbid"
    assert driver.options.model_config.get("frozen") is True
