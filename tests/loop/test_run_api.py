"""What programs start with: asyncio.run and Runner with our factory, pyloop.run, install and the policy."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import warnings
from collections.abc import AsyncGenerator, Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from support.guard import Context
from support.loops import Loop, LoopFactory
from support.process import output


async def which() -> Loop:
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


def test_asyncio_run_takes_the_factory(loop_factory: LoopFactory, bare_factory: LoopFactory) -> None:
    loop = asyncio.run(which(), loop_factory=loop_factory)
    assert loop.is_closed()
    other = bare_factory()
    assert type(loop) is type(other)
    other.close()


def test_asyncio_run_raises_what_main_raises(loop_factory: LoopFactory) -> None:
    async def main() -> None:
        raise LookupError("main")

    with pytest.raises(LookupError, match="main"):
        asyncio.run(main(), loop_factory=loop_factory)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_asyncio_run_raises_what_ends_the_program(
    loop_factory: LoopFactory, kind: type[BaseException]
) -> None:
    async def main() -> None:
        await asyncio.sleep(0)
        raise kind

    with pytest.raises(kind):
        asyncio.run(main(), loop_factory=loop_factory)


def test_asyncio_run_cancels_what_is_left(loop_factory: LoopFactory) -> None:
    seen: list[str] = []

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            seen.append("cancelled")
            raise

    async def main() -> None:
        main.task = asyncio.create_task(background())  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    asyncio.run(main(), loop_factory=loop_factory)
    assert seen == ["cancelled"]


def test_asyncio_run_reports_what_fails_while_it_is_cancelled(
    loop_factory: LoopFactory, handled: list[Context]
) -> None:
    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("while cancelled")

    async def main() -> None:
        main.task = asyncio.create_task(background())  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    asyncio.run(main(), loop_factory=loop_factory)
    assert handled[0]["message"] == "unhandled exception during asyncio.run() shutdown"


def test_asyncio_run_closes_async_generators(loop_factory: LoopFactory) -> None:
    seen: list[str] = []

    async def generator() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            seen.append("closed")

    kept = generator()

    async def main() -> None:
        await anext(kept)

    asyncio.run(main(), loop_factory=loop_factory)
    assert seen == ["closed"]


def test_asyncio_run_refuses_to_run_inside_a_loop(loop: Loop, loop_factory: LoopFactory) -> None:
    async def main() -> None:
        coro = which()
        with pytest.raises(
            RuntimeError, match=r"asyncio\.run\(\) cannot be called from a running event loop"
        ):
            asyncio.run(coro, loop_factory=loop_factory)
        coro.close()

    loop.run_until_complete(main())


def test_a_runner_keeps_its_loop_and_context(loop_factory: LoopFactory) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        first = runner.run(which())
        assert runner.run(which()) is first is runner.get_loop()
        assert not first.is_closed()
    assert first.is_closed()


def test_a_runner_leaves_its_thread_without_a_loop(loop_factory: LoopFactory) -> None:
    asyncio.run(which(), loop_factory=loop_factory)
    assert asyncio._get_running_loop() is None


def test_an_async_program_uses_everything_at_once(loop_factory: LoopFactory) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def client(port: int, word: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{word}\n".encode())
        answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return answer.decode().strip()

    async def main() -> list[str]:
        async with asyncio.timeout(10), await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(client(port, f"word{i}")) for i in range(20)]
        return [task.result() for task in tasks]

    assert asyncio.run(main(), loop_factory=loop_factory) == [f"WORD{i}" for i in range(20)]


@pytest.fixture
def policy() -> Iterator[Callable[[Any], None]]:
    """Sets an event loop policy for the length of the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield asyncio.set_event_loop_policy
        asyncio.set_event_loop_policy(None)


def test_new_event_loop_makes_event_loops(pyloop: ModuleType, pyloop_loop: Loop) -> None:
    assert type(pyloop_loop) is pyloop.EventLoop
    assert issubclass(pyloop.EventLoop, asyncio.BaseEventLoop)
    loop = pyloop.EventLoop()
    assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1
    loop.close()


def test_event_loop_is_a_factory_itself(pyloop: ModuleType) -> None:
    assert type(asyncio.run(which(), loop_factory=pyloop.EventLoop)) is pyloop.EventLoop


def test_pyloop_run_returns_what_main_returns(pyloop: ModuleType) -> None:
    loop = pyloop.run(which())
    assert type(loop) is pyloop.EventLoop
    assert loop.is_closed()


def test_pyloop_run_raises_what_main_raises(pyloop: ModuleType) -> None:
    async def main() -> None:
        raise LookupError("main")

    with pytest.raises(LookupError, match="main"):
        pyloop.run(main())


@pytest.mark.parametrize("debug", [True, False])
def test_pyloop_run_takes_debug(pyloop: ModuleType, debug: bool) -> None:
    async def main() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert pyloop.run(main(), debug=debug) is debug


def test_pyloop_run_takes_debug_by_name_only(pyloop: ModuleType) -> None:
    coro = which()
    with pytest.raises(TypeError):
        pyloop.run(coro, True)
    coro.close()


@pytest.mark.parametrize("thing", [None, 1, which], ids=["None", "1", "function"])
def test_pyloop_run_refuses_what_cannot_be_awaited(pyloop: ModuleType, thing: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        pyloop.run(thing)


def test_pyloop_run_refuses_to_run_inside_a_loop(pyloop: ModuleType, loop: Loop) -> None:
    async def main() -> None:
        coro = which()
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            pyloop.run(coro)
        coro.close()

    loop.run_until_complete(main())


def test_importing_pyloop_changes_nothing(pyloop: ModuleType) -> None:
    printed = output(
        "asyncio",
        """
import asyncio.events, asyncio.tasks, asyncio.futures
def look():
    modules = asyncio, asyncio.events, asyncio.tasks, asyncio.futures, asyncio.base_events
    return [{key: id(value) for key, value in vars(module).items() if not key.startswith("__")}
            for module in modules]
before = look()
import pyloop
print(look() == before)
async def which():
    return type(asyncio.get_running_loop()).__module__
print(asyncio.run(which()))
""",
    )
    assert printed == "True\nasyncio.unix_events\n"


def test_install_makes_asyncio_run_use_pyloop(pyloop: ModuleType) -> None:
    printed = output(
        "pyloop",
        """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
import pyloop
async def which():
    return type(asyncio.get_running_loop()) is pyloop.EventLoop
pyloop.install()
print(asyncio.run(which()))
loop = asyncio.new_event_loop()
print(type(loop) is pyloop.EventLoop)
loop.close()
""",
    )
    assert printed == "True\nTrue\n"


@pytest.mark.before(3, 16)
def test_the_policy_makes_pyloops(pyloop: ModuleType, policy: Callable[[Any], None]) -> None:
    policy(pyloop.EventLoopPolicy())
    assert isinstance(asyncio.get_event_loop_policy(), asyncio.AbstractEventLoopPolicy)
    loop = asyncio.new_event_loop()
    assert type(loop) is pyloop.EventLoop
    asyncio.set_event_loop(loop)
    assert asyncio.get_event_loop() is loop
    asyncio.set_event_loop(None)
    loop.close()
    assert type(asyncio.run(which())) is pyloop.EventLoop


@pytest.mark.before(3, 16)
def test_the_policy_starts_subprocesses(pyloop: ModuleType, policy: Callable[[Any], None]) -> None:
    async def main() -> int:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(3)")
        return await process.wait()

    policy(pyloop.EventLoopPolicy())
    assert asyncio.run(main()) == 3


def test_the_package_says_what_it_offers(pyloop: ModuleType) -> None:
    assert {"EventLoop", "new_event_loop", "run", "install", "HIGH", "NORMAL", "LOW"} <= set(pyloop.__all__)
    for name in pyloop.__all__:
        assert getattr(pyloop, name) is not None
    assert isinstance(pyloop.__version__, str)


def test_pyloop_takes_every_argument_that_asyncio_takes(pyloop: ModuleType) -> None:
    """A keyword that CPython adds must not be the end of a drop-in."""
    lacking: list[str] = []
    for name, method in inspect.getmembers(asyncio.SelectorEventLoop, callable):
        if name.startswith("_"):
            continue
        try:
            signature = inspect.signature(getattr(pyloop.EventLoop, name))
        except ValueError:
            lacking.append(f"{name} has no signature")
            continue
        takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
        documented = inspect.signature(getattr(asyncio.AbstractEventLoop, name, method)).parameters
        for parameter in inspect.signature(method).parameters.values():
            named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            known = parameter.name in signature.parameters or parameter.name not in documented
            if named and not known and not takes_any:
                lacking.append(f"{name}({parameter.name}=)")
    assert lacking == []


def test_importing_and_running_warns_of_nothing() -> None:
    code = "import asyncio, pyloop; pyloop.run(asyncio.sleep(0)); pyloop.install()"
    ended = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
