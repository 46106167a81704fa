"""Whether the users of a lab can be told apart, and whether one of them may run it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from labd.config.findings import Finding
from labd.config.models import User

OWN_NAME = "labd"
"""Who asks for what the lab does by itself."""


def check_users(users: Mapping[int, User]) -> Iterator[Finding]:
    """Every name is there once, and none is the lab's own."""
    seen: set[str] = set()
    for index, user in users.items():
        path = ("user", index, "name")
        if user.name in seen:
            yield Finding(path, f"{user.name!r} is there twice", "give each user one [[user]]")
        if user.name == OWN_NAME:
            yield Finding(path, f"{OWN_NAME!r} is what the lab calls itself in its record", "use another name")
        seen.add(user.name)


def warn_users(users: Mapping[int, User]) -> Iterator[Finding]:
    """Without an admin nobody can stop, resume or reload the lab over MQTT."""
    if users and all(user.role != "admin" for user in users.values()):
        message = "no user is an admin: nobody can stop the lab, or reload it, over MQTT"
        yield Finding(("user", min(users), "role"), message, 'give one of them role = "admin"')
