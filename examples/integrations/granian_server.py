"""granian: its loop `asyncio` is that of the policy, which this file sets in each worker.

python examples/integrations/granian_server.py

The command alone: python -m pyloop -m granian --loop asyncio. Its workers are on pyloop where they are
forked, which is CPython's way before 3.14; workers that are spawned load the main module, as here.
"""

import sys
from pathlib import Path

from asgi import answer_of
from granian import Granian
from granian.constants import Interfaces, Loops

import pyloop

pyloop.install()

if __name__ == "__main__":
    if len(sys.argv) == 2:
        socket = Path(sys.argv[1])
        Granian(
            "asgi:app", uds=socket, interface=Interfaces.ASGI, loop=Loops.asyncio, log_enabled=False
        ).serve()
    else:
        answer = answer_of(__file__, "{socket}")
        assert answer == "pyloop._loop", answer
        print("granian: on pyloop")
