"""Interrupts (Ctrl-C, say) at random moments while Rust futures are under way."""

from __future__ import annotations

import random
import signal
import threading
from types import FrameType
from typing import Any

import pytest

from support.extension import ext
from support.loops import LoopFactory

pytestmark = pytest.mark.usefixtures("background", "pyloop_factory")


async def awaits(awaitable: Any) -> Any:
    return await awaitable


class Interrupted(KeyboardInterrupt):
    pass


INTERRUPTED: dict[str, Any] = {
    "parked": lambda: ext.sleep(30),
    "in a poll": lambda: ext.polls_python(lambda: sum(range(100)) and None),
    "yielding": lambda: ext.yield_once(),
    "woken by threads": lambda: ext.raced(50),
    "spawned": lambda: ext.spawned(),
    "blocking": lambda: ext.blocking_call(lambda: sum(range(100))),
    "local tasks": lambda: ext.spawns_local(),
}


@pytest.mark.parametrize("where", INTERRUPTED)
def test_an_interrupt_leaves_the_run_and_the_loop_runs_again(
    pyloop_factory: LoopFactory, unraisable: list[str], where: str
) -> None:
    # Not on the stock loop: an interrupt between its taking a handle and running it is lost there.
    main_thread = threading.get_ident()

    def shoot() -> None:
        signal.pthread_kill(main_thread, signal.SIGUSR1)

    def interrupt(_signum: int, frame: FrameType | None) -> None:
        if frame is None or frame.f_code.co_name != "_remove":
            raise Interrupted
        # The callback of a weak reference: what is raised there is lost, on any loop.
        threading.Timer(0.001, shoot).start()

    async def work(shot: threading.Thread) -> None:
        shot.start()
        while True:
            await INTERRUPTED[where]()

    chance = random.Random(where)
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        for _ in range(30):
            soon = chance.uniform(0.0005, 0.003)
            shot = threading.Timer(soon, shoot)
            loop = pyloop_factory()
            working = loop.create_task(work(shot))
            with pytest.raises(Interrupted):
                loop.run_until_complete(working)
            shot.join()
            assert loop.run_until_complete(awaits(ext.ready(5))) == 5
            loop.run_until_complete(awaits(ext.sleep(0.0005)))
            if working.done():
                working.exception()
            working._log_destroy_pending = False  # type: ignore[attr-defined]
            loop.close()
    finally:
        signal.signal(signal.SIGUSR1, before)
    # Made, and not awaited any more.
    assert [text for text in unraisable if "never awaited" not in text] == []
