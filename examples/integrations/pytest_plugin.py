"""pytest: one line in pyproject.toml runs a suite on pyloop, whichever plugin its coroutines have.

python examples/integrations/pytest_plugin.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

PYPROJECT = """
[tool.pytest.ini_options]
addopts = "-p pyloop.pytest_plugin"
"""

SUITE = """
import asyncio, importlib.util, unittest

import pytest

import pyloop

def here():
    return isinstance(asyncio.get_running_loop(), pyloop.EventLoop)

class TestCase(unittest.IsolatedAsyncioTestCase):
    async def test_unittest(self):
        assert here()

def test_asyncio_run():
    async def main():
        return here()
    assert asyncio.run(main())

if importlib.util.find_spec("pytest_asyncio"):
    import pytest_asyncio

    @pytest_asyncio.fixture
    async def fixture():
        return here()

    @pytest.mark.asyncio
    async def test_pytest_asyncio(fixture):
        assert fixture and here()

if importlib.util.find_spec("anyio"):
    @pytest.fixture
    def anyio_backend():
        return "asyncio"

    @pytest.mark.anyio
    async def test_anyio(anyio_backend):
        assert here()

if importlib.util.find_spec("pytest_aiohttp"):
    from aiohttp import web

    async def hello(request):
        return web.json_response(here())

    @pytest.mark.asyncio
    async def test_pytest_aiohttp(aiohttp_client):
        app = web.Application()
        app.router.add_get("/", hello)
        client = await aiohttp_client(app)
        assert await (await client.get("/")).json()
"""

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pyproject.toml").write_text(PYPROJECT)
        Path(folder, "test_suite.py").write_text(SUITE)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    print("pytest -p pyloop.pytest_plugin:", ran.stdout.splitlines()[-1])
