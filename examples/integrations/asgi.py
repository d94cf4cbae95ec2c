"""The application that the servers of these examples serve, and one question to each of them."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the module of the loop that runs it."""
    import asyncio

    if scope["type"] == "lifespan":
        while (message := (await receive())["type"]) != "lifespan.shutdown":
            await send({"type": f"{message}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = type(asyncio.get_running_loop()).__module__.encode()
    headers = [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def answer_of(*words: str, seconds: float = 20) -> str:
    """What the server answers that `python WORDS` starts. `{socket}` in a word is where it is to listen."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")
        command = [sys.executable, *(word.replace("{socket}", path) for word in words)]
        with subprocess.Popen(command, cwd=HERE) as server:
            try:
                return _ask(path, server, time.monotonic() + seconds)
            finally:
                server.send_signal(signal.SIGTERM)
                try:
                    server.wait(seconds)
                except subprocess.TimeoutExpired:
                    server.kill()


def _ask(path: str, server: "subprocess.Popen[bytes]", until: float) -> str:
    while server.poll() is None and time.monotonic() < until:
        with socket.socket(socket.AF_UNIX) as client:
            if client.connect_ex(path) == 0:
                client.sendall(b"GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")
                head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
                if head.startswith(b"HTTP/1.1 200"):
                    # Some send the body in chunks.
                    chunked = b"transfer-encoding: chunked" in head.lower()
                    return (body.split(b"\r\n")[1] if chunked else body).decode()
        time.sleep(0.01)  # it is starting
    raise RuntimeError(f"no answer; exit code {server.poll()}")
