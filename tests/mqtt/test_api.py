"""The API's document is the one that labd makes, is sound in itself, and tells the truth about real messages."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from typer.testing import CliRunner

from labd.cli.daemon import app
from labd.mqtt.api import DOCUMENTS, asyncapi
from labd.service.outbox import everything, read_news
from labd.service.requests import VERBS
from tests.service.labs import bring_up, open_lab
from tests.service.test_answer import ask

COMMITTED = Path(__file__).parents[2] / "docs/reference/asyncapi.json"
GOOD = {"benchmark": "digits01", "mode": "energy"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return asyncapi()


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def find(document: dict[str, Any], reference: str) -> Any:
    assert reference.startswith("#/")
    found: Any = document
    for part in reference[2:].split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


def validator(document: dict[str, Any], message: str) -> Draft202012Validator:
    registry: Registry[Any] = Registry().with_resource(
        "urn:api", Resource(contents=document, specification=DRAFT202012)
    )
    schema = {"$ref": f"urn:api#/components/messages/{message}/payload"}
    return Draft202012Validator(schema, registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER)


def test_the_committed_document_is_the_one_that_labd_prints() -> None:
    printed = CliRunner().invoke(app, ["api"])
    assert printed.exit_code == 0
    assert printed.stdout == COMMITTED.read_text(), "run: labd api > docs/reference/asyncapi.json"


def test_it_has_the_form_of_asyncapi_3(document: dict[str, Any]) -> None:
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(document["info"])
    for reference in references(document):
        find(document, reference)
    for channel in document["channels"].values():
        named = {part[1:-1] for part in channel["address"].split("/") if part.startswith("{")}
        assert named == set(channel["parameters"])
        assert channel["address"].startswith("labd/v1/{lab}/")
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"]
        assert all(each["$ref"].startswith(f"{channel}/messages/") for each in operation["messages"])


def test_every_message_has_a_sound_schema_and_its_examples_fit(document: dict[str, Any]) -> None:
    for name, message in document["components"]["messages"].items():
        Draft202012Validator.check_schema(message["payload"])
        for example in message.get("examples", ()):
            validator(document, name).validate(example["payload"])
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_verb_and_document_is_there(document: dict[str, Any]) -> None:
    for verb in VERBS:
        assert {f"request.{verb}", f"user.request.{verb}"} <= set(document["channels"])
        result = document["components"]["messages"][f"{verb}.reply"]["payload"]["properties"]["result"]
        assert result != {"$ref": "#/components/schemas/Message"}, f"{verb} does not say what it answers"
    assert set(DOCUMENTS) <= set(document["channels"])


async def test_real_replies_and_documents_fit_their_schemas(document: dict[str, Any], tmp_path: Path) -> None:
    async with open_lab(tmp_path) as (lab, _):
        await bring_up(lab)
        for number, (verb, params) in enumerate(
            [("job.submit", GOOD), ("job.get", {"id": 1}), ("job.list", {}), ("board.list", {}), ("audit.list", {})]
        ):
            reply = await ask(lab, verb, params, f"r{number}")
            validator(document, f"{verb}.reply").validate(json.loads(reply.model_dump_json()))
        refused = await ask(lab, "job.get", {"id": 99}, "r9")
        validator(document, "refusal").validate(json.loads(refused.model_dump_json()))
        news = await lab.database.read(lambda session: read_news(session, lab, 0))
        shown = [*news.shown, *await lab.database.read(lambda session: everything(session, lab))]
        for each in shown:
            if each.document is not None:
                told = json.loads(each.document.model_dump_json())
                validator(document, type(each.document).__name__).validate(told)
        for event in news.events:
            validator(document, "EventDocument").validate(json.loads(event.model_dump_json()))
        assert {type(each.document).__name__ for each in shown} >= {
            "JobDocument",
            "BoardDocument",
            "InstrumentDocument",
        }
