"""What stock asyncio does with the same tests on this machine: the measure that another loop is held to.

Owns ``.cache``: one file for each Python and each state of the code that decides what a test comes to. It is
filled as far as it is asked for, so ``--only`` stays quick.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import ssl
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from .outcomes import ClassId, ClassResult, Outcome, Run, is_fixture
from .pool import Pool

_HERE = Path(__file__).parent
_DECIDING = ("replace.py", "worker.py", "plan.py", "pool.py", "outcomes.py", "ours/*.py")


def _cache_file() -> Path:
    digest = hashlib.sha256()
    for part in (sys.version, sys.base_prefix, ssl.OPENSSL_VERSION, platform.release()):
        digest.update(part.encode())
    for pattern in _DECIDING:
        for source in sorted(_HERE.glob(pattern)):
            digest.update(source.read_bytes())
    return _HERE / ".cache" / f"asyncio-{platform.python_version()}-{digest.hexdigest()[:16]}.json"


def load() -> Run:
    """What is known already."""
    try:
        data = json.loads(_cache_file().read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return {ClassId.parse(name): ClassResult.from_json(result) for name, result in data.items()}


def store(run: Run) -> None:
    """Keeps ``run`` beside what is known already."""
    file = _cache_file()
    file.parent.mkdir(exist_ok=True)
    known = load() | run
    data = {str(class_id): known[class_id].to_json() for class_id in sorted(known)}
    written = file.with_suffix(f".{os.getpid()}")
    written.write_text(json.dumps(data, indent=1), encoding="utf-8")
    written.replace(file)


def complete(
    known: Run,
    classes: Mapping[ClassId, list[str]],
    pool: Pool,
    progress: Callable[[ClassId, ClassResult], None],
) -> Run:
    """The baseline of these tests: what is not known yet is run and stored.

    A test that failed is run once more, by itself: the baseline says what stock asyncio can pass here, and a
    machine that was busy at that moment must not take a test out of the measure.
    """
    unknown = {c: tests for c, tests in classes.items() if c not in known or set(tests) - set(known[c].tests)}
    fresh = pool.run(unknown, seconds(known), progress)
    again = {
        c: [name for name in result.names(Outcome.FAILED) if not is_fixture(name)]
        for c, result in fresh.items()
    }
    second = pool.run({c: names for c, names in again.items() if names}, {}, progress)
    for class_id, result in second.items():
        fresh[class_id].tests |= {name: result.tests[name] for name in result.names(Outcome.PASSED)}
    for class_id, result in fresh.items():
        if class_id in known:
            result.tests = known[class_id].tests | result.tests
    if fresh:
        store(fresh)
    return known | fresh


def seconds(run: Run) -> dict[ClassId, float]:
    """How long each class took, to begin with the long ones."""
    return {class_id: result.seconds for class_id, result in run.items()}
