"""gunicorn with uvicorn's workers: a worker class of one line, `gunicorn -k gunicorn_worker.PyloopWorker`.

python examples/integrations/gunicorn_worker.py
"""

from typing import Any, ClassVar

from asgi import answer_of
from uvicorn_worker import UvicornWorker


class PyloopWorker(UvicornWorker):  # type: ignore[misc] # it comes without types
    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"loop": "pyloop:new_event_loop", "http": "auto"}


if __name__ == "__main__":
    command = ["-m", "gunicorn", "asgi:app", "-k", "gunicorn_worker.PyloopWorker", "-b", "unix:{socket}"]
    answer = answer_of(*command, "-w", "2", "--log-level", "error")
    assert answer == "pyloop._loop", answer
    print("gunicorn -k gunicorn_worker.PyloopWorker: on pyloop")
