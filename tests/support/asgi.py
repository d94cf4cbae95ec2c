"""An ASGI application on uvicorn, on the loop that runs."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

PIECE = b"x" * 10_000


class App:
    """Answers by the path; what befell it is in `events`."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = (await receive())["type"]
                self.events.append(message)
                await send({"type": f"{message}.complete"})
                if message == "lifespan.shutdown":
                    return
        elif scope["type"] == "websocket":
            await self._talk(receive, send)
        else:
            await getattr(self, scope["path"].strip("/") or "hello")(scope, receive, send)

    async def hello(self, scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"hello " + scope["query_string"])

    async def digest(self, scope: Any, receive: Any, send: Any) -> None:
        digest = hashlib.sha256()
        while True:
            message = await receive()
            digest.update(message.get("body", b""))
            if not message.get("more_body"):
                break
        await answer(send, digest.hexdigest().encode())

    async def stream(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(int(scope["query_string"])):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        await send({"type": "http.response.body"})

    async def wait(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        self.events.append("waits")
        self.events.append((await receive())["type"])

    async def slow(self, scope: Any, receive: Any, send: Any) -> None:
        self.events.append("slow")
        await asyncio.sleep(0.05)
        await answer(send, b"slow")

    async def _talk(self, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send(
                {"type": "websocket.send", "text": None}
                | {key: message[key] for key in ("text", "bytes") if message.get(key) is not None}
            )
        self.events.append("websocket.disconnect")


async def answer(send: Any, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[tuple[str, int]]:
    """The address of a server that runs until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            app, http="httptools", ws="websockets-sansio", lifespan="on", log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.001)
        try:
            yield listening.getsockname()
        finally:
            server.should_exit = True
            await serving
