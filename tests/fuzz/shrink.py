"""A smaller program that still does it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from .grammar import Body, Program


def shrink(program: Program, still: Callable[[Program], bool], seconds: float = 30) -> Program:
    """Takes parts out as long as what is left still does it; what time does not allow stays."""
    until = time.monotonic() + seconds
    while True:
        for smaller in _smaller(program):
            if time.monotonic() > until:
                return program
            if still(smaller):
                program = smaller
                break
        else:
            return program


def _smaller(program: Program) -> Iterator[Program]:
    """The largest steps first."""
    roots = program.roots
    for i in range(len(roots)):
        # An empty task stays in its place: which task a number means depends on how many there are.
        yield replace(program, roots=roots[:i] + roots[i + 1 :])
        if roots[i]:
            yield replace(program, roots=(*roots[:i], (), *roots[i + 1 :]))
    for i, root in enumerate(roots):
        for body in _less(root):
            yield replace(program, roots=(*roots[:i], body, *roots[i + 1 :]))
    if program.debug:
        yield replace(program, debug=False)
    if program.drive != "at one go" and not program.timed:
        yield replace(program, drive="at one go")
    for i, root in enumerate(roots):
        for body in _plainer(root):
            yield replace(program, roots=(*roots[:i], body, *roots[i + 1 :]))


def _less(body: Body) -> Iterator[Body]:
    """One instruction fewer."""
    for half in (body[: len(body) // 2], body[len(body) // 2 :]):
        if 1 < len(half) < len(body):
            yield half
    for i, op in enumerate(body):
        yield body[:i] + body[i + 1 :]
        for inner in op.bodies:
            yield body[:i] + inner + body[i + 1 :]
        for j, inner in enumerate(op.bodies):
            for less in _less(inner):
                if less:
                    bodies = (*op.bodies[:j], less, *op.bodies[j + 1 :])
                    yield (*body[:i], op._replace(bodies=bodies), *body[i + 1 :])


def _plainer(body: Body) -> Iterator[Body]:
    """As many instructions, smaller numbers."""
    for i, op in enumerate(body):
        for j, number in enumerate(op.numbers):
            for smaller in range(min(number, 3)):
                numbers = (*op.numbers[:j], smaller, *op.numbers[j + 1 :])
                yield (*body[:i], op._replace(numbers=numbers), *body[i + 1 :])
        for j, inner in enumerate(op.bodies):
            for plainer in _plainer(inner):
                bodies = (*op.bodies[:j], plainer, *op.bodies[j + 1 :])
                yield (*body[:i], op._replace(bodies=bodies), *body[i + 1 :])
