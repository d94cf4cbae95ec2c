"""Jupyter: a kernel whose loop is pyloop's, so that `await` in a cell runs on it.

python examples/integrations/jupyter_kernel.py

Install it once: python -m ipykernel install --user --name pyloop, then put `"-m", "pyloop",` after the
interpreter in the `argv` of its kernel.json. In any other kernel `pyloop.run_in_thread(coroutine)`
runs a coroutine on pyloop in a cell.
"""

import json
import tempfile
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

SPEC = {
    "argv": ["python", "-m", "pyloop", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
    "display_name": "Python on pyloop",
    "language": "python",
}
CELL = """
import asyncio
await asyncio.sleep(0)
print(type(asyncio.get_running_loop()).__module__)
"""

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        kernel = Path(folder, "pyloop")
        kernel.mkdir()
        (kernel / "kernel.json").write_text(json.dumps(SPEC))
        specs = KernelSpecManager(kernel_dirs=[folder])
        manager = KernelManager(kernel_name="pyloop", kernel_spec_manager=specs)
        manager.start_kernel()
        client = manager.client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=30)
            said = list[str]()
            client.execute_interactive(
                CELL, timeout=30, output_hook=lambda message: said.append(message["content"].get("text", ""))
            )
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
    assert "pyloop._loop\n" in said, said
    print("Jupyter: a kernel on pyloop")
