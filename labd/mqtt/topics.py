"""The names of everything that a lab says and hears over MQTT; pure, so that daemon and clients share it."""

from __future__ import annotations

from dataclasses import dataclass

TOPIC_MAX_BYTES = 256
"""Longest topic that labd publishes a reply to; MQTT itself would allow 65,535."""

NOBODY = "unknown"
"""Client name that answers a request from which no client could be read."""


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
    def requests(self) -> str:
        """Filter for all requests."""
        return f"{self.root}/request/#"

    def request(self, verb: str) -> str:
        """Where a request of `verb` is sent."""
        return f"{self.root}/request/{verb}"

    def reply(self, client: str) -> str:
        """Where `client` is answered unless its request names another topic."""
        return f"{self.root}/reply/{client}"

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

    def verb_of(self, topic: str) -> str | None:
        """The verb of a request's topic; None if the topic is no request of this lab."""
        prefix = f"{self.root}/request/"
        return topic.removeprefix(prefix) if topic.startswith(prefix) else None

    def may_answer_at(self, topic: str) -> bool:
        """Whether a client may have its reply at `topic`: a plain topic, and none that the lab speaks on itself."""
        if not topic or len(topic.encode(errors="replace")) > TOPIC_MAX_BYTES:
            return False
        if topic.startswith("$") or any(sign in topic for sign in "+#") or not topic.isprintable():
            return False
        return not topic.startswith("labd/v1/") or topic.startswith(f"{self.root}/reply/")
