"""Who may do what: every role, verb and subscription, over TLS, by password and by certificate, at the real broker.

Run with `-s` to see the tables.
"""

import asyncio
import json
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import aiomqtt
import pytest
from rich.console import Console
from rich.table import Table

from labd.bench.progress import ProgressFeed
from labd.config import LabConfig, LiveConfig, User
from labd.mqtt.acl import SHOWN, acl_file
from labd.mqtt.connector import Connector
from labd.mqtt.endpoint import Endpoint
from labd.mqtt.publishing import publish
from labd.mqtt.session import MqttSession
from labd.mqtt.topics import Topics
from labd.service.access import Role
from labd.service.requests import VERBS
from tests.access.guarded import Guarded, Proof, guarded
from tests.deadline import HUNG_S
from tests.service.labs import config, open_lab

TOPICS = Topics("bench-1")
PEOPLE = {"vera": Role.VIEWER, "otto": Role.OPERATOR, "ada": Role.ADMIN}
STRANGER = "mallory"
"""Has a password and a certificate, but no entry in lab.toml."""
EVERYBODY = (*PEOPLE, STRANGER)


def with_users(folder: Path) -> LabConfig:
    users = tuple(User(name=name, role=role.value) for name, role in PEOPLE.items())
    return config(folder).model_copy(update={"user": users})


def may_ask(name: str, verb: str) -> bool:
    return name in PEOPLE and PEOPLE[name].includes(VERBS[verb].role)


def show(title: str, rows: Iterable[str], seen: Mapping[str, set[str]]) -> None:
    table = Table(
        "", *(f"{name} ({PEOPLE[name].value if name in PEOPLE else 'stranger'})" for name in seen), title=title
    )
    for row in rows:
        table.add_row(row, *("allowed" if row in passed else "-" for passed in seen.values()))
    Console(width=140).print(table)


async def passed_by_broker(broker: Guarded, name: str, proof: Proof, topics: Iterable[str]) -> set[str]:
    """Which of `name`'s publishes labd's own user gets to see."""
    seen: set[str] = set()
    async with (
        broker.endpoint("labd", Proof.PASSWORD).client() as labd,
        broker.endpoint(name, proof).client() as client,
    ):
        await labd.subscribe("#", qos=1)
        for topic in topics:
            await publish(client, topic, b"{}")
        await publish(labd, f"{TOPICS.root}/end", b"{}")
        async with asyncio.timeout(HUNG_S):
            async for message in labd.messages:
                if message.topic.value == f"{TOPICS.root}/end":
                    return seen
                seen.add(message.topic.value)
    raise AssertionError("the broker has gone")


async def read_at_broker(broker: Guarded, name: str, proof: Proof, topics: Iterable[str]) -> set[str]:
    """Which of labd's own messages come to `name`, who subscribes to everything."""
    async with (
        broker.endpoint("labd", Proof.PASSWORD).client() as labd,
        broker.endpoint(name, proof).client() as client,
    ):
        await client.subscribe("#", qos=1)
        for topic in topics:
            await publish(labd, topic, b"{}")
        await client.unsubscribe("#")  # its acknowledgement comes after all that was subscribed to
        return {(await anext(aiter(client.messages))).topic.value for _ in range(len(client.messages))}


@pytest.mark.parametrize("proof", Proof)
async def test_the_broker_alone_lets_each_role_do_its_part_and_nothing_else(tmp_path: Path, proof: Proof) -> None:
    asked = {name: {TOPICS.request(verb, name): verb for verb in VERBS} for name in EVERYBODY}
    for_others = [TOPICS.request(verb) for verb in VERBS]
    spoken = [TOPICS.status, TOPICS.event, TOPICS.told, TOPICS.job(1), TOPICS.board("b1"), "elsewhere"]
    shown = [TOPICS.below(path.replace("+", "x")) for path in SHOWN]
    hidden = [TOPICS.told, TOPICS.reply("x"), *for_others, "elsewhere"]
    async with guarded(tmp_path, acl_file(with_users(tmp_path)), ("labd", *EVERYBODY)) as broker:
        passed: dict[str, set[str]] = {}
        read: dict[str, set[str]] = {}
        for name in EVERYBODY:
            others = [TOPICS.request(verb, other) for other in EVERYBODY if other != name for verb in VERBS]
            replies = {other: TOPICS.reply("x", other) for other in EVERYBODY}
            wrong = [*for_others, *others, *replies.values(), *spoken]
            seen = await passed_by_broker(broker, name, proof, [*asked[name], *wrong])
            assert seen <= set(asked[name]), f"{name} got through where nobody may"
            passed[name] = {asked[name][topic] for topic in seen}
            read[name] = await read_at_broker(broker, name, proof, [*shown, *hidden, *replies.values()])
            allowed = {*shown, replies[name]} if name in PEOPLE else set()
            assert read[name] == allowed
        show(f"requests that the broker lets through, by {proof}", VERBS, passed)
        show(f"what the broker lets read, by {proof}", [*shown, *hidden, *replies.values()], read)
    assert passed == {name: {verb for verb in VERBS if may_ask(name, verb)} for name in EVERYBODY}


async def test_labd_itself_refuses_what_a_broker_with_old_rules_lets_through(tmp_path: Path) -> None:
    lax = "\n".join(f"user {name}\ntopic readwrite {TOPICS.root}/#\n" for name in ("labd", *EVERYBODY))
    async with guarded(tmp_path, lax, ("labd", *EVERYBODY)) as broker, open_lab(tmp_path) as (open_to_all, _):
        lab = replace(open_to_all, live=LiveConfig(with_users(tmp_path)))
        session = MqttSession(lab, broker.endpoint("labd", Proof.CERTIFICATE), ProgressFeed())
        serving = asyncio.create_task(session.run())
        try:
            async with asyncio.timeout(HUNG_S):
                await session.online.wait()
            passed: dict[str, set[str]] = {}
            for name in EVERYBODY:
                kinds = await asked_of_labd(broker.endpoint(name, Proof.PASSWORD), name)
                passed[name] = {verb for verb, kind in kinds.items() if kind != "forbidden"}
            nobody = await asked_of_labd(broker.endpoint("ada", Proof.PASSWORD), None)
        finally:
            serving.cancel()
            await asyncio.wait({serving})
    show("requests that labd carries out, whatever the broker's rules", VERBS, passed)
    assert passed == {name: {verb for verb in VERBS if may_ask(name, verb)} for name in EVERYBODY}
    assert set(nobody.values()) == {"forbidden"}, "the open topic says nothing of who asks"


async def asked_of_labd(endpoint: Endpoint, user: str | None) -> dict[str, str]:
    """The kind of error, or `ok`, that each verb is answered with."""
    kinds: dict[str, str] = {}
    async with Connector(endpoint).connected() as client:
        await client.subscribe(TOPICS.reply("x", user), qos=1)
        for verb in VERBS:
            payload = {"request_id": f"{user}-{verb}", "client": "x", "params": {"nonsense": True}}
            await publish(client, TOPICS.request(verb, user), json.dumps(payload))
            async with asyncio.timeout(HUNG_S):
                message = await anext(aiter(client.messages))
            assert isinstance(message.payload, bytes)
            reply = json.loads(message.payload)
            assert reply["request_id"] == payload["request_id"]
            kinds[verb] = "ok" if reply["ok"] else reply["error"]["kind"]
    return kinds


@pytest.mark.parametrize("proof", Proof)
async def test_who_cannot_prove_a_name_does_not_come_in(tmp_path: Path, proof: Proof) -> None:
    async with guarded(tmp_path, acl_file(with_users(tmp_path)), ("labd", "ada")) as broker:
        if proof is Proof.PASSWORD:
            wrong = replace(broker.endpoint("ada", proof), password="a guess")
        else:
            context = ssl.create_default_context()
            broker.authority.configure_trust(context)
            wrong = Endpoint("localhost", broker.ports[proof], context)
        with pytest.raises(aiomqtt.MqttError):
            async with asyncio.timeout(HUNG_S), impatient(wrong.client()):
                raise AssertionError("it was let in")


def impatient(client: aiomqtt.Client) -> aiomqtt.Client:
    client.timeout = 2.0  # a broker that wants a certificate says so by hanging up
    return client
