"""`labctl sweep`: what operators do with the sweeps of a lab, and the report of a night."""

from labd.cli.sweep.command import app

__all__ = ["app"]
