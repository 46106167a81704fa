"""Topics: a verb is read back from its topic, and a reply goes nowhere that it could do harm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.mqtt.topics import Address, Topics

TOPICS = Topics("bench-1")


@given(st.from_regex(r"[a-z]{1,12}\.[a-z]{1,12}", fullmatch=True))
def test_a_verb_is_read_back_from_its_topic(verb: str) -> None:
    assert TOPICS.address(TOPICS.request(verb)) == Address(verb, None)
    assert TOPICS.address(TOPICS.request(verb, "ada")) == Address(verb, "ada")


@pytest.mark.parametrize(
    "topic", [TOPICS.status, TOPICS.job(3), "labd/v1/other/request/job.submit", "", "labd/v1/bench-1/user/ada/reply/x"]
)
def test_other_topics_have_no_verb(topic: str) -> None:
    assert TOPICS.address(topic) is None


@pytest.mark.parametrize("topic", ["me/answers", TOPICS.reply("ada"), "labd/v1/bench-1/reply/a/b"])
def test_a_client_may_be_answered_at(topic: str) -> None:
    assert TOPICS.may_answer_at(topic)


@pytest.mark.parametrize(
    "topic",
    ["", "a/+", "#", "$SYS/x", "a\0b", "a\nb", "x" * 257, "é" * 129, TOPICS.status, TOPICS.job(1), "labd/v1/b/reply/x"],
)
def test_a_client_may_not_be_answered_at(topic: str) -> None:
    assert not TOPICS.may_answer_at(topic)


def test_a_user_is_answered_at_topics_of_their_own_only() -> None:
    assert TOPICS.may_answer_at(TOPICS.reply("labctl-1", "ada"), "ada")
    for topic in ("me/answers", TOPICS.reply("ada"), TOPICS.reply("labctl-1", "bob"), f"{TOPICS.root}/user/ada/x"):
        assert not TOPICS.may_answer_at(topic, "ada")
    assert not TOPICS.may_answer_at(TOPICS.reply("labctl-1", "ada"))
