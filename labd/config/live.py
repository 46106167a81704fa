"""The configuration in use: whoever needs it reads it at each decision, and a reload replaces it as a whole."""

from __future__ import annotations

from labd.config.models import LabConfig


class LiveConfig:
    """Holds the `LabConfig` in use. What runs keeps the part it began with: models are frozen.

    Args:
        config: What the daemon started with.
    """

    def __init__(self, config: LabConfig) -> None:
        self._config = config

    @property
    def now(self) -> LabConfig:
        """As it is now."""
        return self._config

    def replace(self, config: LabConfig) -> None:
        """Use `config` from now on."""
        self._config = config
