"""Random programs run as on asyncio. These are a few; `make fuzz` runs them by the thousand."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import replace

import pytest

from fuzz import acts, awaits, grammar, play, sides, worker
from fuzz.__main__ import Fuzz
from fuzz.grammar import Op, Program
from fuzz.shrink import shrink

PROGRAMS = 60


@pytest.mark.usefixtures("pyloop")
@pytest.mark.parametrize("start", [1_000_000 + PROGRAMS * number for number in range(10)])
def test_random_programs_run_as_on_asyncio(start: int) -> None:
    for seed in range(start, start + PROGRAMS):
        program = grammar.make(seed)
        theirs, ours = play.both(program)
        assert ours == theirs, program.text()


def test_a_seed_is_always_the_same_program() -> None:
    assert grammar.make(2) == grammar.make(2) != grammar.make(3)


def test_a_program_happens_in_the_same_way_each_time() -> None:
    for seed in range(100):
        program = grammar.make(seed)
        if not program.timed:
            assert play.play(program, "asyncio") == play.play(program, "asyncio")


def test_each_instruction_is_known_and_drawn() -> None:
    assert grammar.SHAPES.keys() == acts.ACTS.keys() | awaits.AWAITS.keys()
    programs = [grammar.make(seed) for seed in range(2_000)]
    drawn = {op.kind for program in programs for body in program.roots for op in grammar.walk(body)}
    assert drawn == grammar.SHAPES.keys()
    assert {program.side for program in programs} == {"pyloop", *sides.MIXED}


class LastInFirstOut(asyncio.SelectorEventLoop):
    """Runs what `call_soon_threadsafe` brings before all else."""

    _ready: deque[asyncio.Handle]

    def call_soon_threadsafe[*Ts](
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = super().call_soon_threadsafe(callback, *args, context=context)
        self._ready.rotate(1)
        return handle


def test_a_loop_that_does_wrong_is_found_by_a_small_program(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(sides.ASYNCIO, name="wrong", new_loop=LastInFirstOut)
    monkeypatch.setattr(sides, "side", lambda name: sides.ASYNCIO if name == "asyncio" else wrong)
    found = next(filter(None, (worker.compare(grammar.make(seed)) for seed in range(200))))
    program, happened = found.text.split("\n\n")
    assert "call_soon" in program or "from a thread" in program
    assert len(program.splitlines()) <= 10
    assert "asyncio" in happened and "ours" in happened
    assert worker.Failure.parse(found.line()) == found


def test_shrinking_leaves_what_it_needs() -> None:
    def still(program: Program) -> bool:
        return any(op.kind == "uncancel" for body in program.roots for op in grammar.walk(body))

    programs = map(grammar.make, range(100))
    large = next(program for program in programs if still(program) and program.size() > 20)
    smallest = shrink(large, still)
    assert smallest.roots == ((Op("uncancel"),),)
    assert (smallest.drive, smallest.debug) == ("at one go", False)


# A worker in which an `uncancel` of a program has this effect.
WORKER = """
import sys
from fuzz import grammar, worker
def both(program):
    if any(op.kind == "uncancel" for body in program.roots for op in grammar.walk(body)):
        {effect}
    return [], []
worker.both = both
sys.exit(worker.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("effect", "patience", "why"),
    [
        ("__import__('os').abort()", 60, "ends the process: SIGABRT"),
        ("__import__('os')._exit(9)", 60, "ends the process: exit code 9"),
        ("__import__('signal').pause()", 1.5, "hangs for 1.5 s"),
    ],
)
def test_a_program_that_ends_its_process_is_found(effect: str, patience: float, why: str) -> None:
    command = (sys.executable, "-c", WORKER.format(effect=effect))
    fuzz = Fuzz(worker=command, patience=patience, shrinking=0.5, most=1)
    fuzz.run(0, 40)
    (failure,) = fuzz.failures
    assert failure.why == why
    assert fuzz.ran == failure.seed + 1
    assert "uncancel" in failure.text
    assert "uncancel" in grammar.make(failure.seed).text()


def test_a_program_reads_as_a_text() -> None:
    body = (Op("try", (2,), ((Op("sleep", (4,)),), (Op("who"),))), Op("set", (1,)))
    program = Program(7, (body, ()), drive="turn by turn", debug=True)
    assert program.size() == 4
    assert program.text() == (
        "seed 7: pyloop, turn by turn, debug mode\n"
        "t0:\n    try 2\n        sleep 4\n    and\n        who\n    set 1\nt1:"
    )
