"""Drivers of instruments that exist on paper only: their capabilities decide what a wiring may ask of them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from pydantic import BaseModel, ConfigDict

from drivers.api import (
    Accuracy,
    AnalyzerCapability,
    Capability,
    ConnectError,
    Driver,
    DriverLoader,
    EdgeCapability,
    EdgeMethod,
    Level,
    Quantity,
    Role,
    SampleKind,
    SupplyCapability,
    TriggerInput,
    TriggerSource,
)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AddressOptions(Strict):
    resource: str
    timeout_s: float = 1.0


class PortOptions(Strict):
    port: str


class LineOptions(Strict):
    port: str
    baud: int = 115200


class PaperDriver:
    def __init__(self, name: str, roles: set[Role], options: type[BaseModel], capability: Capability) -> None:
        self.name = name
        self.roles = frozenset(roles)
        self.options = options
        self._capability = capability

    def capability(self, options: Any) -> Capability:
        assert isinstance(options, self.options)
        return self._capability

    def open(self, options: Any) -> AbstractAsyncContextManager[Any]:
        raise ConnectError(f"{self.name} exists on paper only")


LOW_PULSE = TriggerInput(Level.LOW, 2e-6, "tests")
ANY_TRIGGER = {TriggerSource.IMMEDIATE, TriggerSource.EXTERNAL}


def analyzer(
    period_s: float,
    methods: set[EdgeMethod],
    triggers: set[TriggerSource],
    taken: TriggerInput | None = None,
    noise_a: float = 1e-5,
) -> AnalyzerCapability:
    return AnalyzerCapability(
        ranges={Quantity.CURRENT: (Accuracy(0.1, 3e-4, 1e-5, 1e-6), Accuracy(3.0, 3e-4, 3e-4, noise_a))},
        sample=SampleKind.MEAN,
        period_min_s=period_s,
        period_step_s=period_s,
        depth_s=20.0,
        edge_methods=frozenset(methods),
        triggers=frozenset(triggers),
        clock_ppm=50.0,
        channels=(1, 2, 3, 4),
        source="tests",
        trigger_input=taken,
    )


SUPPLY = SupplyCapability(
    channels=(1, 2, 3, 4), voltage_max_v=20.0, current_max_a=3.0, watchdog_s=(1.0, 3600.0), source="tests"
)
EDGES = EdgeCapability(pins=tuple(range(16)), pulse_pins=(14, 15), pulse_min_s=1e-6, clock_ppm=50.0, source="tests")


def psu(name: str, taken: TriggerInput | None, *, period_s: float = 204.8e-6, noise_a: float = 1e-5) -> PaperDriver:
    able = Capability(supply=SUPPLY, analyzer=analyzer(period_s, set(), ANY_TRIGGER, taken, noise_a))
    return PaperDriver(name, {Role.SUPPLY, Role.ANALYZER}, AddressOptions, able)


PAPER = (
    psu("paper-psu", LOW_PULSE),
    psu("paper-high-psu", TriggerInput(Level.HIGH, 1e-6, "tests")),
    psu("paper-slow-psu", TriggerInput(Level.LOW, 2.0, "tests")),
    psu("paper-mute-psu", None),
    psu("paper-noisy-psu", LOW_PULSE, noise_a=1e-3),
    psu("paper-slow-log-psu", LOW_PULSE, period_s=20e-3),
    psu("paper-slowest-log-psu", LOW_PULSE, period_s=50e-3),
    PaperDriver(
        "paper-scope",
        {Role.ANALYZER},
        AddressOptions,
        Capability(analyzer=analyzer(1e-6, {EdgeMethod.SAMPLED}, {TriggerSource.IMMEDIATE})),
    ),
    PaperDriver("paper-stamps", {Role.EDGES}, PortOptions, Capability(edges=EDGES)),
    PaperDriver("paper-flash", {Role.FLASH}, PortOptions, Capability()),
    PaperDriver("serial", {Role.SERIAL}, LineOptions, Capability()),
)


def _loader(driver: Driver) -> DriverLoader:
    return lambda: driver


def _broken() -> Driver:
    raise ConnectError("driver 'paper-broken' cannot be loaded: No module named 'libusb'")


DRIVERS: Mapping[str, DriverLoader] = {
    **{driver.name: _loader(driver) for driver in PAPER},
    "paper-broken": _broken,
}
