"""The names of everything that a lab says and hears over MQTT; pure, so that daemon and clients share it."""

from __future__ import annotations

from dataclasses import dataclass

TOPIC_MAX_BYTES = 256
"""Longest topic that labd publishes a reply to; MQTT itself would allow 65,535."""

NOBODY = "unknown"
"""Client name that answers a request from which no client could be read."""


@dataclass(frozen=True, slots=True)
class Address:
    """What the topic of a request says.

    Args:
        verb: What is asked.
        user: Who asks, by the broker's word; None on the open topic.
    """

    verb: str
    user: str | None


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics of one lab.

    Args:
        lab: The lab's name.
    """

    lab: str

    @property
    def root(self) -> str:
        """What all topics of the lab begin with."""
        return f"labd/v1/{self.lab}"

    @property
    def status(self) -> str:
        """The lab itself, retained; the broker writes `offline` here when the daemon is lost."""
        return f"{self.root}/status"

    @property
    def told(self) -> str:
        """How far the broker has everything, retained; for labd alone."""
        return f"{self.root}/told"

    @property
    def event(self) -> str:
        """Every state change, numbered."""
        return f"{self.root}/event"

    @property
    def requests(self) -> tuple[str, str]:
        """Filters for all requests, the open ones and those of users."""
        return f"{self.root}/request/#", f"{self.root}/user/+/request/#"

    def request(self, verb: str, user: str | None = None) -> str:
        """Where a request of `verb` is sent, in an open lab or by a user."""
        return f"{self.of(user)}/request/{verb}"

    def reply(self, client: str, user: str | None = None) -> str:
        """Where `client` is answered unless its request names another topic."""
        return f"{self.of(user)}/reply/{client}"

    def of(self, user: str | None) -> str:
        """What the topics of a user begin with; the lab's root for nobody in particular."""
        return self.root if user is None else f"{self.root}/user/{user}"

    def job(self, job_id: int) -> str:
        """A whole job, retained."""
        return f"{self.root}/job/{job_id}"

    def progress(self, job_id: int) -> str:
        """How far a running job is."""
        return f"{self.root}/job/{job_id}/progress"

    def below(self, path: str) -> str:
        """A topic by its path below the root, as documents name theirs."""
        return f"{self.root}/{path}"

    @property
    def jobs(self) -> str:
        """Filter for all jobs."""
        return f"{self.root}/job/+"

    def board(self, board_id: str) -> str:
        """A board's state, retained."""
        return f"{self.root}/board/{board_id}"

    def instrument(self, instrument_id: str) -> str:
        """An instrument's state, retained."""
        return f"{self.root}/instrument/{instrument_id}"

    def address(self, topic: str) -> Address | None:
        """What a request's topic says; None if the topic is no request of this lab."""
        below = topic.removeprefix(f"{self.root}/")
        if below == topic:
            return None
        if below.startswith("request/"):
            return Address(below.removeprefix("request/"), None)
        match below.split("/", 3):
            case ["user", user, "request", verb]:
                return Address(verb, user)
        return None

    def may_answer_at(self, topic: str, user: str | None = None) -> bool:
        """Whether a client may have its reply at `topic`: a plain topic, and none that the lab speaks on itself.

        A user is answered at the user's own topics only: what they may see is for nobody else.
        """
        if not topic or len(topic.encode(errors="replace")) > TOPIC_MAX_BYTES:
            return False
        if topic.startswith("$") or any(sign in topic for sign in "+#") or not topic.isprintable():
            return False
        if user is not None:
            return topic.startswith(f"{self.of(user)}/reply/")
        return not topic.startswith("labd/v1/") or topic.startswith(f"{self.root}/reply/")
