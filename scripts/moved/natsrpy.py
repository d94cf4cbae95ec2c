"""What of natsrpy is measured: messages, by way of a server on this machine, and a key of its store."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from natsrpy import Message, Nats
from natsrpy.js import KVConfig, StorageType

if TYPE_CHECKING:
    from moved.measure import Operations

CONTENT = bytes(256)


async def operations(_: Path) -> Operations:
    # Nobody closes the connection, of which it would warn.
    logging.getLogger("_natsrpy_rs").setLevel(logging.ERROR)
    nats = Nats([os.environ["NATS_URL"]])
    await nats.startup()

    async def answer(message: Message) -> None:
        assert message.reply
        await nats.publish(message.reply, message.payload)

    answering = await nats.subscribe("question", callback=answer).detatch()
    messages = await nats.subscribe("subject").detatch()
    js = await nats.jetstream()
    store = await js.kv.create_or_update(KVConfig(bucket="measured", storage=StorageType.MEMORY))
    await store.put("key", CONTENT)

    async def passed() -> None:
        await nats.publish("subject", CONTENT)
        await anext(messages)

    async def asked() -> None:
        assert answering
        await nats.request("question", CONTENT)

    return {
        "publish, and the next message": passed,
        "request, answered by a coroutine": asked,
        "get of a key": lambda: store.get("key"),
        "put of a key": lambda: store.put("key", CONTENT),
    }
