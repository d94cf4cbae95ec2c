"""The Python half: talks to the Rust server of main.rs, and awaits a Rust future."""

import asyncio
from collections.abc import Awaitable, Callable


async def ask(port: int, nap: Callable[[float], Awaitable[None]]) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello from Python\n")
    answer = await reader.readline()
    await nap(0.01)
    writer.close()
    await writer.wait_closed()
    return answer.decode().strip()
