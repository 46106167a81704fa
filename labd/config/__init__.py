"""`lab.toml`: frozen models of a rack, read with every fault told at once.

`load` of `labd.config.reading` gives the models or raises with all faults, and `inspect` gives faults, warnings and
capabilities beside them; that loads all that devices can do, and the models alone do not.
"""

from labd.config.live import LiveConfig
from labd.config.models import (
    EMBEDDED,
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
    Load,
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
from labd.config.sharing import resources_of, supply_resource
from labd.config.sync_load import Burst, burst, load_wires
from labd.config.triggers import trigger_wires

__all__ = [
    "EMBEDDED",
    "Board",
    "Burst",
    "Firmware",
    "Flash",
    "Health",
    "Http",
    "Instrument",
    "Keep",
    "KeepRule",
    "Lab",
    "LabConfig",
    "Limits",
    "LiveConfig",
    "Load",
    "Measure",
    "Mqtt",
    "Queue",
    "ReservationRules",
    "Serial",
    "Store",
    "Supply",
    "Timing",
    "User",
    "burst",
    "load_wires",
    "resources_of",
    "supply_resource",
    "trigger_wires",
]
