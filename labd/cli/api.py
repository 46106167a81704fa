"""`labd api`: what can be said to a lab over MQTT, for machines."""

from __future__ import annotations

import json

import typer

from labd.mqtt.api import asyncapi


def api() -> None:
    """Print the MQTT API as an AsyncAPI 3.0 document, with the JSON Schema of every message."""
    typer.echo(json.dumps(asyncapi(), indent=1))
