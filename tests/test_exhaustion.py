"""A process that has run out of descriptors or memory: who asks for more is told, the loop goes on."""

from __future__ import annotations

from support.loops import LoopFactory
from support.process import output

# `fill()` takes every descriptor that is left (and gives them back in a list); `spare(n)` leaves n.
FILL = """
import errno, gc, os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
def fill():
    taken = []
    while True:
        try:
            taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as error:
            assert error.errno == errno.EMFILE
            return taken
def free(taken):
    while taken:
        os.close(taken.pop())
"""


def test_the_first_timer_of_a_run_needs_no_descriptor(loop_kind: str) -> None:
    printed = output(
        loop_kind,
        FILL
        + """
async def main():
    taken = fill()
    print(await asyncio.sleep(0.002, "slept"))
    free(taken)
asyncio.run(main(), loop_factory=new_event_loop)
""",
    )
    assert printed == "slept\n"


def test_a_later_run_without_descriptors_has_timers(loop_kind: str) -> None:
    printed = output(
        loop_kind,
        FILL
        + """
loop = new_event_loop()
loop.run_until_complete(asyncio.sleep(0))
taken = fill()
for _ in range(3):
    print(loop.run_until_complete(asyncio.sleep(0.002, "slept")))
free(taken)
loop.close()
""",
    )
    assert printed == "slept\n" * 3


# `first_loop(taken)` is the loop that has run with the fewest descriptors left.
FIRST_LOOP = """
import warnings
warnings.simplefilter("ignore")  # coroutines that did not run
new_event_loop().close()
def first_loop(taken):
    while True:
        loop = None
        try:
            loop = new_event_loop()
            assert loop.run_until_complete(asyncio.sleep(0.002, "slept")) == "slept"
            return loop
        except OSError as error:
            assert error.errno == errno.EMFILE, error
        if loop is not None:
            loop.close()
        gc.collect()
        os.close(taken.pop())
"""


def test_a_loop_made_with_the_last_descriptors_is_refused_or_works(pyloop_factory: LoopFactory) -> None:
    printed = output(
        "pyloop",
        FILL
        + FIRST_LOOP
        + """
before = sorted(os.listdir("/dev/fd"))
taken = fill()
loop = first_loop(taken)
while taken:
    loop.close()
    os.close(taken.pop())
    loop = new_event_loop()
    print(loop.run_until_complete(asyncio.sleep(0.002, "slept")))
    if len(taken) < 40:
        free(taken)
loop.close()
gc.collect()
print(sorted(os.listdir("/dev/fd")) == before)
""",
    )
    assert printed.endswith("slept\nTrue\n")


def test_timers_are_exact_in_the_first_run_that_has_a_descriptor_for_them(
    pyloop_factory: LoopFactory,
) -> None:
    printed = output(
        "pyloop",
        FILL
        + FIRST_LOOP
        + """
def timerfds():
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink("/proc/self/fd/" + name))
        except OSError:  # the one that lists
            pass
    return links.count("anon_inode:[timerfd]")
taken = fill()
loop = first_loop(taken)
os.close(taken.pop())  # for the list itself
print(timerfds())
free(taken)
loop.run_until_complete(asyncio.sleep(0))
print(timerfds())
loop.close()
print(timerfds())
""",
    )
    assert printed == "0\n1\n0\n"
