"""What `pyloop.window` knows, as text: a tree in which those that are waited for stand below who waits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from pyloop.window import Await, Dump, Frame, LoopInfo, TaskInfo

#: So many tasks that look alike are shown one by one.
ALIKE = 3


def tree(dump: Dump) -> Iterator[str]:
    """The lines of it."""
    yield f"process {dump.pid}: CPython {dump.python}, pyloop {dump.pyloop}"
    if not dump.loops:
        yield "no loop"
    for loop in dump.loops:
        yield from loop_tree(loop)


def loop_tree(loop: LoopInfo) -> Iterator[str]:
    """The lines of one loop."""
    where = "not running" if loop.thread is None else f"in thread {loop.thread}"
    count = len(loop.tasks) + loop.left_out
    yield f"{loop.kind} {where}, {count} {'task' if count == 1 else 'tasks'}"
    if loop.stuck is not None:
        yield "it does not answer; its thread is here:"
        yield from (f"    {line}" for line in _stack(loop.stuck))
    yield from task_tree(loop.tasks)
    if loop.left_out:
        yield f"... and {loop.left_out} tasks more"


@dataclass(slots=True)
class _Row:
    """A task at its place, and how many more are like it."""

    task: TaskInfo
    through: str
    more: list[TaskInfo] = field(default_factory=list)


def task_tree(tasks: tuple[TaskInfo, ...]) -> Iterator[str]:
    """The lines of tasks. One that several wait for is shown below the first, and named below the others.

    Many tasks beside each other that wait for the same in the same place are one entry.
    """
    by_id = {task.id: task for task in tasks}
    awaited = {edge.task for task in tasks for edge in task.awaits if edge.task != task.id}
    shown = set[int]()
    for root in _alike([_Row(task, "") for task in tasks if task.id not in awaited]):
        yield from _below(root, by_id, shown)
    # What is left waits for itself in a circle: it begins anywhere.
    for task in tasks:
        if task.id not in shown:
            yield from _below(_Row(task, ""), by_id, shown)


def _below(root: _Row, by_id: dict[int, TaskInfo], shown: set[int]) -> Iterator[str]:
    left = [(root, "", "", True)]
    while left:
        row, margin, branch, is_last = left.pop()
        task = row.task
        again = task.id in shown
        yield f"{margin}{branch}{_title(row)}{'  (see above)' if again else ''}"
        shown.add(task.id)
        shown.update(each.id for each in row.more)
        if again:
            continue
        inner = margin if not branch else margin + ("   " if is_last else "│  ")
        rows = _alike([_Row(by_id[edge.task], edge.through) for edge in task.awaits if edge.task in by_id])
        yield from (f"{inner}{'│' if rows else ' '}    {line}" for line in _stack(task.stack))
        for number, below in enumerate(reversed(rows)):
            left.append((below, inner, "└─ " if number == 0 else "├─ ", number == 0))


def _alike(rows: list[_Row]) -> list[_Row]:
    """Rows of tasks that look alike and wait for no other, in one if they are many."""
    shapes = Counter(_shape(row) for row in rows if not row.task.awaits)
    found: dict[object, _Row] = {}
    kept = list[_Row]()
    for row in rows:
        shape = _shape(row)
        if row.task.awaits or shapes[shape] <= ALIKE:
            kept.append(row)
        elif shape in found:
            found[shape].more.append(row.task)
        else:
            found[shape] = row
            kept.append(row)
    return kept


def _shape(row: _Row) -> object:
    return row.task.state, row.task.waits_for, row.task.stack, row.through


def _title(row: _Row) -> str:
    task = row.task
    text = f"{task.name}: {task.state}"
    times = [each.waited for each in (task, *row.more) if each.waited is not None]
    if times:
        text += f" {seconds(max(times))}"
    if task.awaits:
        text += f" for {_in_words(task.awaits)}"
    elif task.waits_for is not None:
        text += f" for {task.waits_for}"
    return text + (f"; {len(row.more)} more like it" if row.more else "")


def _in_words(awaits: tuple[Await, ...]) -> str:
    kinds = Counter(each.through for each in awaits)
    words = []
    for through, count in kinds.items():
        tasks = "1 task" if count == 1 else f"{count} tasks"
        words.append(tasks if through == "await" else f"{tasks} through {through}")
    return " and ".join(words)


def _stack(stack: tuple[Frame, ...]) -> list[str]:
    width = max((len(frame.name) for frame in stack), default=0)
    return [f"{frame.name:{width}}  {place(frame)}" for frame in stack]


def place(frame: Frame) -> str:
    """Where it is; files of Python and of installed packages without the folders that lead to them."""
    if frame.file is None:
        return "Rust"
    return f"{_LIBRARY.sub('', frame.file)}:{frame.line}"


_LIBRARY = re.compile(r"^.*/(?:site-packages|lib/python3\.\d+)/")


def seconds(value: float) -> str:
    """A time as people read it."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.1f} s"
    minutes, rest = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
