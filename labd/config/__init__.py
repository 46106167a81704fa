"""`lab.toml`: frozen models of a rack, read with every fault told at once.

`load` gives the models or raises with all faults; `inspect` gives faults, warnings and capabilities beside them.
"""

from labd.config.changes import Changes, Difference, changes, fixed_changes
from labd.config.endpoints import EMBEDDED
from labd.config.live import LiveConfig
from labd.config.models import (
    Board,
    Firmware,
    Flash,
    Health,
    Http,
    Instrument,
    Keep,
    KeepRule,
    Lab,
    LabConfig,
    Limits,
    Measure,
    Mqtt,
    Queue,
    ReservationRules,
    Serial,
    Store,
    Supply,
    Timing,
    User,
)
from labd.config.reading import Inspection, inspect, load
from labd.config.sharing import resources_of, supply_resource
from labd.config.triggers import trigger_wires

__all__ = [
    "EMBEDDED",
    "Board",
    "Changes",
    "Difference",
    "Firmware",
    "Flash",
    "Health",
    "Http",
    "Inspection",
    "Instrument",
    "Keep",
    "KeepRule",
    "Lab",
    "LabConfig",
    "Limits",
    "LiveConfig",
    "Measure",
    "Mqtt",
    "Queue",
    "ReservationRules",
    "Serial",
    "Store",
    "Supply",
    "Timing",
    "User",
    "changes",
    "fixed_changes",
    "inspect",
    "load",
    "resources_of",
    "supply_resource",
    "trigger_wires",
]
