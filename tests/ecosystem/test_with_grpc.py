"""grpc.aio: a library in C with threads of its own, which wake the loop through a socket.

In a process of its own, as its threads stay when everything is closed.
"""

from __future__ import annotations

from support import process

SCRIPT = """
import os
import grpc

async def echo(request, context):
    await asyncio.sleep(0)
    return request

async def each(request, context):
    for number in range(100):
        yield request + b"%d" % number

async def total(requests, context):
    size = 0
    async for request in requests:
        size += len(request)
    return b"%d" % size

async def talk(requests, context):
    async for request in requests:
        yield request.upper()

ended = []

async def wait(request, context):
    try:
        await asyncio.sleep(60)
    finally:
        ended.append("wait")

METHODS = {
    "echo": grpc.unary_unary_rpc_method_handler(echo),
    "each": grpc.unary_stream_rpc_method_handler(each),
    "total": grpc.stream_unary_rpc_method_handler(total),
    "talk": grpc.stream_stream_rpc_method_handler(talk),
    "wait": grpc.unary_unary_rpc_method_handler(wait),
}

async def main():
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test", METHODS)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        echo = channel.unary_unary("/test/echo")
        answers = await asyncio.gather(*(echo(b"%d" % number) for number in range(100)))
        assert answers == [b"%d" % number for number in range(100)]
        data = os.urandom(1000) * 2000
        assert await echo(data) == data
        got = [part async for part in channel.unary_stream("/test/each")(b"n")]
        assert got == [b"n%d" % number for number in range(100)]

        async def pieces():
            for _ in range(100):
                yield bytes(10_000)

        assert await channel.stream_unary("/test/total")(pieces()) == b"1000000"
        call = channel.stream_stream("/test/talk")()
        for word in b"one", b"two":
            await call.write(word)
            assert await call.read() == word.upper()
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        wait = channel.unary_unary("/test/wait")
        try:
            await wait(b"", timeout=0.1)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        waiting = asyncio.create_task(anything(wait(b"")))
        await asyncio.sleep(0.05)
        waiting.cancel()
        try:
            await waiting
        except asyncio.CancelledError:
            pass
        while ended != ["wait", "wait"]:
            await asyncio.sleep(0.001)
        assert await echo(b"again") == b"again"
    await server.stop(1)
    print("done")

async def anything(call):
    return await call

asyncio.run(main(), loop_factory=new_event_loop)
"""


def test_all_kinds_of_calls_and_their_ends(loop_kind: str) -> None:
    assert process.output(loop_kind, SCRIPT).split() == ["done"]
