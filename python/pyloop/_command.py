"""`python -m pyloop`: runs a program as `python` itself does, and its loops are pyloop's."""

from __future__ import annotations

import asyncio
import builtins
import io
import os
import runpy
import sys
from asyncio import events
from types import CodeType, ModuleType

from pyloop import _native
from pyloop._loop import new_event_loop
from pyloop._policy import install

USAGE = """\
python -m pyloop [-m MODULE | -c CODE | FILE | -] [ARGUMENT ...]
python -m pyloop ps PID [--json] [--limit N]
python -m pyloop top PID [--interval SECONDS] [--limit N]
python -m pyloop trace PID [--seconds S] [-o FILE] [--limit N]

Runs a program as python itself does, on pyloop: asyncio.run and asyncio.new_event_loop make pyloop's loops.
A loop that the program makes in another way (a loop_factory, a policy of its own) stays what it is, and the
processes that it starts are python's as ever.

FILE is a script, or a folder or zip file with a __main__.py; - is the standard input. Without any of them:
asyncio's interactive interpreter, where `await` may be used directly.

ps shows the tasks of the loops in a running process: where each waits, for what, and for how long; top shows
them as they go; trace records what the loops do, for https://ui.perfetto.dev. The process has CPython 3.14 or
later, or has a window open (PYLOOP_WINDOW=1, pyloop.open_window()). Where there is a file called ps, top or
trace, it is run.

  -h, --help     this text
  -V, --version  pyloop's version, and Python's
"""


def main() -> None:
    """Run what `sys.argv` says. What the program raises comes out.

    Raises SystemExit(2) for what `USAGE` does not have.
    """
    match sys.argv[1:]:
        case ["-h" | "--help", *_]:
            print(USAGE, end="")
        case ["-V" | "--version", *_]:
            print(f"pyloop {_native.__version__}, Python {sys.version.split()[0]}")
        case []:
            _run_module("asyncio", [])
        case ["-m", module, *arguments]:
            _run_module(module, arguments)
        case ["-c", code, *arguments]:
            _forget_path("")
            _run_code(code, "<string>", ["-c", *arguments])
        case ["ps" | "top" | "trace" as look, *arguments] if not os.path.exists(look):
            sys.exit(_look(look, arguments))
        case ["-", *arguments]:
            _forget_path("")
            _run_code(sys.stdin.read(), "<stdin>", ["-", *arguments])
        case [file, *arguments] if not file.startswith("-"):
            _run_file(file, arguments)
        case _:
            print(USAGE, end="", file=sys.stderr)
            sys.exit(2)


def _look(look: str, arguments: list[str]) -> int:
    """Look into another process; the exit status."""
    if look == "top":
        from pyloop._top import top

        return top(arguments)
    from pyloop import _window_client

    return _window_client.ps(arguments) if look == "ps" else _window_client.trace(arguments)


def use_pyloop() -> None:
    """Have `asyncio.new_event_loop` make pyloop's loops, in this process."""
    if sys.version_info < (3, 16):
        install()
    else:
        # There are no policies any more. This process runs one program, which has not begun.
        asyncio.new_event_loop = events.new_event_loop = new_event_loop


def _forget_path(instead: str) -> None:
    """`-m pyloop` has put the working directory in front of where modules are looked for."""
    if not sys.flags.safe_path:
        sys.path[0] = instead


def _new_main() -> ModuleType:
    """The program's own `__main__`."""
    module = ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    return module


def _run_module(name: str, arguments: list[str], *, as_main: bool = False) -> None:
    _new_main()
    use_pyloop()
    if not as_main:
        sys.argv = ["-m", *arguments]
    # CPython's own main calls it, also for a folder or a zip file, then with `__main__` and without an argv.
    runpy._run_module_as_main(name, not as_main)  # type: ignore[attr-defined]


def _run_file(file: str, arguments: list[str]) -> None:
    sys.argv = [file, *arguments]
    try:
        if os.path.isfile(file) and not _is_zip(file):
            with io.open_code(os.path.abspath(file)) as opened:
                source = opened.read()
        elif os.path.exists(file):
            _forget_path(os.path.abspath(file))
            _run_module("__main__", arguments, as_main=True)
            return
        else:
            raise FileNotFoundError(2, os.strerror(2))
    except OSError as refused:
        print(f"{sys.executable}: can't open file {os.path.abspath(file)!r}: {refused}", file=sys.stderr)
        sys.exit(2)
    _forget_path(os.path.dirname(os.path.realpath(file)))
    _run_code(source, file, sys.argv)


def _is_zip(file: str) -> bool:
    from zipfile import is_zipfile

    return is_zipfile(file)


def _run_code(source: str | bytes, file: str, argv: list[str]) -> None:
    sys.argv = argv
    code: CodeType = compile(source, file, "exec", dont_inherit=True)
    module = _new_main()
    if file != "<string>":
        module.__file__ = file if file == "<stdin>" else os.path.join(os.getcwd(), file)
    use_pyloop()
    exec(code, module.__dict__)
