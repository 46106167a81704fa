"""`labd`: the tool of the one who keeps the rack."""

from __future__ import annotations

import typer

from labd.cli.lazy import LazyGroup


class Commands(LazyGroup):
    """All that `labd` can do."""

    places = {  # noqa: RUF012 - a constant
        "check": (
            "labd.cli.check:check",
            "Say what labd understands of a lab.toml, or every fault in it at once. Touches no device.",
        ),
        "demo": (
            "labd.cli.demo:demo",
            "Queue energy, performance and accuracy jobs on each of four virtual boards, and show what they measured.",
        ),
        "acl": ("labd.cli.acl:acl", "Print Mosquitto's ACL file for the users of lab.toml."),
        "api": (
            "labd.cli.api:api",
            "Print the MQTT API as an AsyncAPI 3.0 document, with the JSON Schema of every message.",
        ),
        "outputs-off": (
            "labd.cli.outputs_off:outputs_off",
            "Switch off every output that feeds a board, and say of each whether it is off.",
        ),
        "run": (
            "labd.cli.run:run",
            "Run the daemon until SIGTERM or Ctrl-C; without a terminal, SIGHUP makes it read lab.toml again.",
        ),
        "virtual": ("labd.cli.virtual:virtual", "A rack with no hardware."),
        "db": ("labd.cli.run:database", "The lab's database."),
    }


app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def labd() -> None:
    """The tool of the one who keeps the rack."""


def main() -> None:
    """Entry point of `labd`."""
    app(prog_name="labd")
