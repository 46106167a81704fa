"""A client that floods the lab is told so, and costs the others nothing."""

import asyncio
import json
from pathlib import Path

from labd.mqtt.hearing import CLIENT_MAX
from tests.brokers import mosquitto
from tests.deadline import HUNG_S
from tests.mqtt.test_session import GOOD, TOPICS, operator, serving
from tests.service.labs import open_lab

FLOOD = 1500


async def test_a_flood_is_answered_as_busy_and_others_are_served(tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path) as server,
        open_lab(tmp_path) as (lab, moves),
        serving(lab, server.endpoint),
        operator(server.endpoint, TOPICS.reply("eve")) as eve,
        operator(server.endpoint, TOPICS.reply("ada")) as ada,
    ):
        release = asyncio.Event()
        held = asyncio.get_running_loop()
        # The writer is kept from its work until the whole flood has come: so there is a flood on any machine.
        gate = asyncio.create_task(
            lab.database.write(lambda _: asyncio.run_coroutine_threadsafe(release.wait(), held).result())
        )
        eve.client.pending_calls_threshold = FLOOD
        sending = asyncio.gather(
            *(
                eve.client.publish(
                    TOPICS.request("job.submit"),
                    json.dumps({"request_id": f"e{number}", "client": "eve", "params": GOOD}),
                    qos=1,
                )
                for number in range(FLOOD)
            )
        )
        await sending
        await ada.ask("board.list", {}, "a1")
        assert (await ada.reply("a1"))["ok"], "others are served meanwhile"
        release.set()
        await gate
        kinds: list[str] = []
        async with asyncio.timeout(HUNG_S):
            async for message in eve.client.messages:
                assert isinstance(message.payload, bytes)
                reply = json.loads(message.payload)
                kinds.append("ok" if reply["ok"] else reply["error"]["kind"])
                if len(kinds) == FLOOD:
                    break
        assert set(kinds) == {"ok", "busy"}, "nobody is met with silence"
        assert kinds.count("ok") == CLIENT_MAX == moves.wakes
        await eve.ask("job.list", {}, "later", client="eve")
        assert (await eve.reply("later"))["ok"], "once there is room, the flooder is served again"
