"""Who may ask for what: users have a role, each verb needs one, and operators change only what is their own.

labd never checks a password. The broker does, and its rules let a user publish below `user/<user>/` only: so the topic
of a request says who asks. With no `[[user]]` in lab.toml the lab is open, and everybody is an admin.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from labd.config import LabConfig
from labd.errors import RequestError
from labd.service.sender import Sender


class ForbiddenError(RequestError):
    """Who asks may not do that."""

    kind = "forbidden"


class Role(StrEnum):
    """What somebody may do; each role includes those before it."""

    VIEWER = "viewer"
    """Looks."""
    OPERATOR = "operator"
    """Changes what is their own: jobs, sweeps, reservations."""
    ADMIN = "admin"
    """Changes what is anybody's, and the lab itself."""

    def includes(self, other: Role) -> bool:
        """Whether somebody of this role may do all that `other` may."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(other)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who asks, and what they may do."""

    role: Role
    sender: Sender


def role_of(config: LabConfig, user: str | None) -> Role:
    """The role of `user`; None stands for whoever the broker does not vouch for.

    Raises:
        ForbiddenError: this lab does not serve them.
    """
    if not config.user:
        return Role.ADMIN
    if user is None:
        raise ForbiddenError(
            "this lab has users, and the open topic says nothing of who asks",
            where="topic",
            remedy="publish to user/<your name>/request/<verb>; with labctl give --user, or --cert of a certificate",
        )
    for known in config.user:
        if known.name == user:
            return Role(known.role)
    raise ForbiddenError(
        f"this lab has no user {user!r}", where="topic", remedy="have an admin add a [[user]] to lab.toml, and reload"
    )


def demand(role: Role, needed: Role, verb: str) -> None:
    """Let nobody below `needed` ask for `verb`.

    Raises:
        ForbiddenError: `role` is too low.
    """
    if not role.includes(needed):
        raise ForbiddenError(
            f"{verb} is for {needed}s, and you are a {role}",
            where="topic",
            remedy=f"ask somebody whose role is {needed}, or have yours changed in lab.toml",
        )
