"""prompt_toolkit: `prompt_async` and `run_async` use the loop that runs.

python examples/integrations/prompt_toolkit_prompt.py
"""

import asyncio

from prompt_toolkit import PromptSession
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

import pyloop


async def main() -> str:
    # What is typed comes from a pipe here; leave both arguments out at a terminal.
    with create_pipe_input() as typed:
        typed.send_text("hello\n")
        session: PromptSession[str] = PromptSession(input=typed, output=DummyOutput())
        return await session.prompt_async("> ")


if __name__ == "__main__":
    assert asyncio.run(main(), loop_factory=pyloop.new_event_loop) == "hello"
    print("prompt_toolkit: on pyloop")
