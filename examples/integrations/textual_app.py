"""Textual: `App.run(loop=)`, or `run_async` on the loop that runs.

python examples/integrations/textual_app.py
"""

import asyncio

from textual.app import App

import pyloop


class Small(App[str]):
    def on_mount(self) -> None:
        self.exit(type(asyncio.get_running_loop()).__module__)


if __name__ == "__main__":
    # headless: there may be no terminal here.
    assert Small().run(headless=True, loop=pyloop.new_event_loop()) == "pyloop._loop"
    assert pyloop.run(Small().run_async(headless=True)) == "pyloop._loop"
    print("Textual: on pyloop")
