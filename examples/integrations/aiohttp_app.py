"""aiohttp: `web.run_app(..., loop=)`.

python examples/integrations/aiohttp_app.py
"""

import asyncio
import signal
import socket

import aiohttp
from aiohttp import web

import pyloop


async def hello(request: web.Request) -> web.Response:
    return web.Response(text=type(asyncio.get_running_loop()).__module__)


async def ask(port: int) -> str:
    """A client, which has no line of its own: it uses the loop that runs."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as answer:
        return await answer.text()


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as listening:
        answers = list[str]()

        async def ask_and_end(app: web.Application) -> None:
            async def soon() -> None:
                answers.append(await ask(listening.getsockname()[1]))
                signal.raise_signal(signal.SIGTERM)

            app["asking"] = asyncio.create_task(soon())

        app = web.Application()
        app.router.add_get("/", hello)
        app.on_startup.append(ask_and_end)
        # The line:
        web.run_app(app, sock=listening, loop=pyloop.new_event_loop(), print=None)
    assert answers == ["pyloop._loop"], answers
    print("aiohttp web.run_app(loop=): on pyloop")
