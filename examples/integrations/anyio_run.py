"""anyio: `backend_options`.

python examples/integrations/anyio_run.py
"""

import asyncio

import anyio

import pyloop


async def main() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0)
    assert isinstance(asyncio.get_running_loop(), pyloop.EventLoop)


if __name__ == "__main__":
    anyio.run(main, backend="asyncio", backend_options={"loop_factory": pyloop.new_event_loop})
    print("anyio.run: on pyloop")
