"""The broker's rules for a lab with users: Mosquitto's ACL file, written from lab.toml and from what each verb needs.

The broker lets nobody publish below another user's name: by that labd knows who asks. That a role may not ask for a
verb is refused twice, by the broker and by labd; the broker's file may be older than lab.toml.
"""

from __future__ import annotations

from collections.abc import Iterator

from labd.config import LabConfig
from labd.mqtt.topics import Topics
from labd.service.access import Role
from labd.service.requests import VERBS

LABD = "labd"
"""labd's own user at the broker, unless `[mqtt]` names another one."""

SHOWN = (
    *("status", "event", "job/+", "job/+/progress", "board/+", "instrument/+", "reservation/+"),
    *("sweep/+", "sweep/+/report"),
)
"""What everybody with a role may read, below the lab's root."""


def verbs_of(role: Role) -> list[str]:
    """All that somebody of this role may ask for, in the order of the alphabet."""
    return sorted(verb for verb, served in VERBS.items() if role.includes(served.role))


def acl_file(config: LabConfig) -> str:
    """Mosquitto's ACL file for the users of lab.toml; whoever it does not name may do nothing."""
    return "\n".join(_lines(config)) + "\n"


def _lines(config: LabConfig) -> Iterator[str]:
    topics = Topics(config.lab.name)
    yield f"# Who may do what in the lab {config.lab.name}: made by `labd acl`, to be made again when users change."
    yield "# A user is who has shown a password or, with use_identity_as_username, a certificate of that name."
    yield ""
    yield f"user {config.mqtt.user or LABD}"
    yield f"topic readwrite {topics.root}/#"
    for user in config.user:
        yield ""
        yield f"# {user.role}"
        yield f"user {user.name}"
        yield from (f"topic write {topics.request(verb, user.name)}" for verb in verbs_of(Role(user.role)))
        yield f"topic read {topics.reply('#', user.name)}"
        yield from (f"topic read {topics.below(shown)}" for shown in SHOWN)
