"""uvicorn: `--loop pyloop:new_event_loop`, also with --workers and --reload, and the same from Python.

python examples/integrations/uvicorn_server.py
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from asgi import answer_of, app

import pyloop

COMMAND = ["-m", "uvicorn", "asgi:app", "--uds", "{socket}", "--log-level", "warning"]
LINE = ["--loop", "pyloop:new_event_loop"]


async def alone() -> None:
    """In a program of one's own there is no line: uvicorn serves on the loop that runs."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    servers = [[], ["--workers", "2"], ["--reload"]]
    with ThreadPoolExecutor() as pool:
        answers = pool.map(lambda more: answer_of(*COMMAND, *LINE, *more), servers)
    assert set(answers) == {"pyloop._loop"}
    # In Python: uvicorn.run("asgi:app", loop="pyloop:new_event_loop")
    pyloop.run(alone())
    print("uvicorn --loop pyloop:new_event_loop, with --workers and --reload: on pyloop")
