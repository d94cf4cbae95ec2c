"""The same Rust futures under stock asyncio: a library that returns them need not ask which loop runs.

    python examples/same_future_on_any_loop.py

On pyloop the task polls the Rust future in place. On another loop tokio's timer runs on a thread of its own
and wakes the task through call_soon_threadsafe: slower, with the same results.
"""

import asyncio
from time import perf_counter

import pyloop


async def library_call(name: str) -> str:
    """What a library might do: it knows nothing of the loop."""
    await pyloop.sleep(0.01)
    return await pyloop.sleep(0.01, f"hello, {name}")


async def main() -> list[str]:
    async with asyncio.timeout(5):
        return await asyncio.gather(*map(library_call, ("a", "b", "c")))


if __name__ == "__main__":
    expected = ["hello, a", "hello, b", "hello, c"]
    for name, run in ("pyloop", pyloop.run), ("asyncio", asyncio.run):
        start = perf_counter()
        greetings = run(main())
        elapsed = perf_counter() - start
        assert greetings == expected, (name, greetings)
        assert elapsed >= 0.02, (name, elapsed)
        print(f"{name:8} {greetings} in {elapsed * 1e3:.0f} ms")
