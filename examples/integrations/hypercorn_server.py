"""hypercorn: it serves on the loop that runs; its workers take that of the policy, which this file sets.

python examples/integrations/hypercorn_server.py

The command alone, with one worker in its own process: python -m pyloop -m hypercorn --workers 0.
"""

import asyncio
import sys

from asgi import answer_of, app
from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.run import run

import pyloop

# Its workers are processes that load the main module, and with it this line.
pyloop.install()


def settings(bind: str) -> Config:
    config = Config()
    config.application_path, config.bind, config.workers, config.loglevel = "asgi:app", [bind], 2, "ERROR"
    return config


async def main() -> None:
    stop = asyncio.Event()
    # Without a line of its own, in a program whose loop is pyloop's.
    serving = asyncio.create_task(serve(app, settings("127.0.0.1:0"), shutdown_trigger=stop.wait))
    await asyncio.sleep(0)
    stop.set()
    await serving


if __name__ == "__main__":
    if len(sys.argv) == 2:
        sys.exit(run(settings(f"unix:{sys.argv[1]}")))
    asyncio.run(main(), loop_factory=pyloop.new_event_loop)
    answer = answer_of(__file__, "{socket}")
    assert answer == "pyloop._loop", answer
    print("hypercorn: on pyloop")
