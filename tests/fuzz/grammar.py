"""What a program is made of: instructions with a few small numbers and with bodies of further instructions.

A number means something to its instruction only (which future, which kind of timer), and each number means
something, so a program stays a program whatever is taken out of it: that is what makes shrinking simple.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from .sides import MIXED

Body = tuple["Op", ...]


class Op(NamedTuple):
    """One instruction."""

    kind: str
    numbers: tuple[int, ...] = ()
    bodies: tuple[Body, ...] = ()


@dataclass(frozen=True)
class Shape:
    """What an instruction takes, and how often it is drawn."""

    weight: int
    numbers: int = 0
    bodies: tuple[str, ...] = ()  # of each: which instructions may be in it

    def least(self) -> int:
        return 1 if self.bodies else 0


# What the bodies may hold. An `await` body is one awaitable or a few, any instruction of a coroutine is one.
ACTS, ANY, AWAITABLES = "acts", "any", "awaitables"

# Without waiting.
ACT_SHAPES: dict[str, Shape] = {
    "resolve": Shape(18, 1),
    "fail": Shape(2, 1),
    "resolve again": Shape(1, 1),
    "cancel future": Shape(2, 1),
    "renew": Shape(4, 1),
    "look at": Shape(2, 1),
    "cancel": Shape(7, 2),
    "uncancel": Shape(2),
    "forget": Shape(1, 1),
    "spawn": Shape(8, 1, (ANY,)),
    "spawn awaitable": Shape(3, 1, (AWAITABLES,)),
    "call_soon": Shape(6, 1, (ACTS,)),
    "timer": Shape(5, 1, (ACTS,)),
    "from a thread": Shape(1, 0, (ACTS,)),
    "cancel handle": Shape(2, 1),
    "when done": Shape(4, 1, (ACTS,)),
    "forget when done": Shape(1, 1),
    "set": Shape(8, 1),
    "clear": Shape(2, 1),
    "put_nowait": Shape(3, 1),
    "get_nowait": Shape(1, 1),
    "task_done": Shape(1, 1),
    "release": Shape(2, 1),
    "set variable": Shape(3, 1),
    "get variable": Shape(3, 1),
    "reset variable": Shape(1),
    "who": Shape(2),
    "write": Shape(2),
    "stop": Shape(1),
    "raise": Shape(2, 1),
}

# What waits, or is around what waits.
AWAIT_SHAPES: dict[str, Shape] = {
    "sleep": Shape(18, 1),
    "future": Shape(10, 1),
    "task": Shape(6, 1),
    "itself": Shape(1),
    "rust": Shape(8, 1),
    "nap": Shape(0, 1),  # in timed programs
    "bare yield": Shape(2, 1),
    "await": Shape(4, 1, (AWAITABLES,)),
    "inside": Shape(3, 1, (ANY,)),
    "generator": Shape(3, 1, (ANY,)),
    "gather": Shape(5, 1, (AWAITABLES,)),
    "wait": Shape(4, 2, (AWAITABLES,)),
    "as_completed": Shape(2, 1, (AWAITABLES,)),
    "wait_for": Shape(6, 1, (AWAITABLES,)),
    "shield": Shape(3, 0, (AWAITABLES,)),
    "timeout": Shape(6, 1, (ANY,)),
    "reschedule": Shape(2, 1),
    "group": Shape(5, 0, (AWAITABLES, ANY)),
    "add to group": Shape(1, 0, (ANY,)),
    "lock": Shape(5, 1, (ANY,)),
    "acquire": Shape(1, 1),
    "condition": Shape(3, 1, (ANY,)),
    "notify": Shape(4, 1),
    "event": Shape(5, 1),
    "put": Shape(7, 1),
    "get": Shape(4, 1),
    "join": Shape(1, 1),
    "barrier": Shape(1),
    "try": Shape(8, 1, (ANY, ANY)),
    "return": Shape(1),
}
SHAPES = ACT_SHAPES | AWAIT_SHAPES

NUMBERS = 12
DEEPEST = 4


@dataclass(frozen=True)
class Program:
    """What one seed means. `roots` are the bodies of its first tasks."""

    seed: int
    roots: tuple[Body, ...]
    side: str = "pyloop"
    drive: str = "at one go"
    debug: bool = False
    timed: bool = False

    def text(self) -> str:
        said = [f"seed {self.seed}: {self.side}, {self.drive}", *(["debug mode"] if self.debug else [])]
        lines = [", ".join(said)]
        for number, body in enumerate(self.roots):
            lines += [f"t{number}:", *_lines(body, 1)]
        return "\n".join(lines)

    def size(self) -> int:
        return sum(1 for body in self.roots for _ in walk(body))


def walk(body: Body) -> Iterator[Op]:
    for op in body:
        yield op
        for inner in op.bodies:
            yield from walk(inner)


def _lines(body: Body, depth: int) -> Iterator[str]:
    for op in body:
        yield "    " * depth + " ".join([op.kind, *map(str, op.numbers)])
        for number, inner in enumerate(op.bodies):
            if number:
                yield "    " * depth + "and"
            yield from _lines(inner, depth + 1)


class _Maker:
    def __init__(self, chance: random.Random, timed: bool) -> None:
        self.chance = chance
        self.left = chance.choice([6, 10, 16, 24, 32, 48])
        shapes = SHAPES | ({"nap": replace(SHAPES["nap"], weight=20)} if timed else {})
        self.tables: dict[str, tuple[list[str], list[int]]] = {}
        for allowed, table in ((ACTS, ACT_SHAPES), (ANY, shapes), (AWAITABLES, shapes)):
            for nested in (True, False):
                kinds = {
                    kind: shape.weight * (3 if allowed == AWAITABLES and kind in AWAIT_SHAPES else 1)
                    for kind, shape in table.items()
                    if nested or not shape.bodies
                }
                self.tables[f"{allowed} {nested}"] = (list(kinds), list(kinds.values()))

    def body(self, allowed: str, depth: int) -> Body:
        most = 3 if depth else 7
        return tuple(self.op(allowed, depth) for _ in range(self.chance.randint(1, most)))

    def op(self, allowed: str, depth: int) -> Op:
        self.left -= 1
        kinds, weights = self.tables[f"{allowed} {depth < DEEPEST and self.left > 0}"]
        (kind,) = self.chance.choices(kinds, weights)
        shape = SHAPES[kind]
        numbers = tuple(self.chance.randrange(NUMBERS) for _ in range(shape.numbers))
        return Op(kind, numbers, tuple(self.body(inner, depth + 1) for inner in shape.bodies))


def make(seed: int) -> Program:
    """The program of this seed: always the same one, on each Python."""
    chance = random.Random(seed)
    timed = chance.random() < 0.01
    side = "pyloop" if chance.random() < 0.85 else chance.choice(MIXED)
    drive = chance.choices(["at one go", "turn by turn", "by a main task"], [4, 2, 2])[0]
    debug = chance.random() < 0.03
    maker = _Maker(chance, timed)
    roots = list[Body]()
    while maker.left > 0 and len(roots) < 6:
        roots.append(maker.body(ANY, 0))
    return Program(seed, tuple(roots), side, "by a main task" if timed else drive, debug, timed)
