"""What `import pyloop` costs beside asyncio: the modules that come with it, and what is left for later."""

from __future__ import annotations

import ast

import pytest

import pyloop
from support.process import output

# Each takes a file, and about as long as 1,000 callbacks. Another one here is a decision, not an accident.
MODULES = {
    "pyloop",
    *(
        f"pyloop.{name}"
        for name in ("_accel", "_awaits", "_compat", "_datagrams", "_forks", "_loop", "_native")
    ),
    *(f"pyloop.{name}" for name in ("_pipes", "_run", "_signals", "_sockets", "_subprocess", "_tls")),
    *(f"pyloop.{name}" for name in ("_transports", "_wakeup")),
    *(f"pyloop.{name}" for name in ("_fs", "_sync")),
    "__future__",
    "gc",
}

NEW_MODULES = """
import ssl, sys
before = set(sys.modules)
import pyloop
print(sorted(set(sys.modules) - before))
"""


def test_it_imports_its_own_modules_and_none_that_asyncio_has_not() -> None:
    found = ast.literal_eval(output("asyncio", NEW_MODULES, PYLOOP_ACCEL="", PYLOOP_WINDOW=""))
    assert set(found) - MODULES == set()


def test_it_makes_no_context_of_openssl_which_takes_as_long_as_half_of_the_rest() -> None:
    printed = output(
        "asyncio",
        """
import ssl
made = []
class Context(ssl.SSLContext):
    def __new__(cls, *args, **kwargs):
        made.append(args)
        return super().__new__(cls, *args, **kwargs)
ssl.SSLContext = Context
import pyloop
loop = pyloop.new_event_loop()
loop.close()
print(len(made))
state = pyloop.accelerations()["tls"]
print(len(made), state)
assert pyloop.accelerations()["tls"] == state
print(len(made))
""",
        PYLOOP_ACCEL="",
    )
    assert printed == "0\n1 on\n1\n"


@pytest.mark.parametrize("name", pyloop.__all__)
def test_each_public_name_is_there_and_listed(name: str) -> None:
    assert getattr(pyloop, name) is getattr(pyloop, name)
    assert name in dir(pyloop)


def test_star_imports_all_of_them() -> None:
    names: dict[str, object] = {}
    exec("from pyloop import *", names)
    assert set(pyloop.__all__) <= set(names)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'pyloop' has no attribute 'watchdogs'$"):
        _ = pyloop.watchdogs  # type: ignore[attr-defined]


def test_the_acceleration_that_waits_for_a_connection_counts_as_neither_on_nor_off() -> None:
    printed = output(
        "asyncio",
        """
import pyloop
loop = pyloop.new_event_loop()
def counted():
    told = loop.statistics()
    return told["accelerations_on"] + told["accelerations_off"]
before = counted()
print(len(pyloop.accelerations()) - before, counted() - before)
loop.close()
""",
    )
    assert printed == "1 1\n"


SWITCHED_OFF_LATER = """
import os, pyloop
os.environ["PYLOOP_ACCEL"] = "none"  # for a child, say
print(pyloop.accelerations()["tls"])
"""


@pytest.mark.parametrize(("asked", "state"), [("", "on"), ("-tls", "off: switched off by PYLOOP_ACCEL")])
def test_it_is_the_import_that_reads_the_variable(asked: str, state: str) -> None:
    assert output("asyncio", SWITCHED_OFF_LATER, PYLOOP_ACCEL=asked) == f"{state}\n"
