"""`labctl top`: the whole lab at a glance, live."""

from labd.cli.top.command import top

__all__ = ["top"]
