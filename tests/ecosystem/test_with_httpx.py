"""httpx, which goes through anyio, against uvicorn on the same loop."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator

import httpx
import pytest

from support.asgi import PIECE, App, served
from support.loops import Run
from support.transports import until


def client(address: tuple[str, int]) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url="http://{}:{}".format(*address), trust_env=False, timeout=9)


def test_many_requests_at_once(run: Run) -> None:
    async def main() -> None:
        async with served(App()) as address, client(address) as http:

            async def ask(number: int) -> str:
                return (await http.get(f"/hello?{number}")).text

            for _ in range(3):
                answers = await asyncio.gather(*(ask(number) for number in range(30)))
                assert answers == [f"hello {number}" for number in range(30)]

    run(main())


def test_bodies_are_streamed_both_ways(run: Run) -> None:
    data = os.urandom(1000) * 2000

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 30_000):
            yield data[at : at + 30_000]

    async def main() -> None:
        async with served(App()) as address, client(address) as http:
            digest = await http.post("/digest", content=pieces())
            assert digest.text == hashlib.sha256(data).hexdigest()
            async with http.stream("GET", "/stream?200") as response:
                size = 0
                async for piece in response.aiter_bytes():
                    size += len(piece)
            assert size == 200 * len(PIECE)

    run(main())


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_a_request_that_is_given_up_leaves_the_client_usable(run: Run, how: str) -> None:
    async def main() -> None:
        app = App()
        async with served(app) as address, client(address) as http:
            asking = asyncio.create_task(http.get("/wait", timeout=0.05 if how == "timeout" else 9))
            await until(lambda: "waits" in app.events)
            if how == "cancel":
                asking.cancel()
            with pytest.raises(httpx.ReadTimeout if how == "timeout" else asyncio.CancelledError):
                await asking
            await until(lambda: "http.disconnect" in app.events)
            assert (await http.get("/hello?again")).text == "hello again"

    run(main())
