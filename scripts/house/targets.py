"""What each target of the Makefile is made of."""

from __future__ import annotations

import subprocess
from functools import partial

from house.benches import bench, bench_check
from house.lints import python_lint, rust_lint
from house.process import environment
from house.pythons import Python, pythons
from house.release import release
from house.rust import rust_test
from house.settings import ARGS, ROOT
from house.steps import Run
from house.suites import DEBUG, PLAIN, USUAL, Suite, Variant, conformance, fuzz, left_out, one_wheel

FEWER = ["--count", "4000"]
PYTEST: dict[str, Variant] = {"py-test": USUAL, "py-test-debug": DEBUG, "py-test-plain": PLAIN}
TARGETS = [
    "demo",
    "test",
    "build",
    "lint",
    "rust-test",
    *PYTEST,
    "fuzz",
    "conformance",
    "bench",
    "bench-check",
    "release",
    "docs",
]


def main(target: str) -> int:
    if target not in TARGETS:
        print(f"unknown target {target!r}: choose from {', '.join(TARGETS)}")
        return 2
    run = Run()
    found = pythons()
    first = found[0]
    print("CPython " + ", ".join(f"{py.version} ({py.path})" for py in found), flush=True)
    if target == "demo":
        return demo(run, first)
    if target == "bench":
        return bench(run, first)
    if target == "docs":
        return docs(run, first)
    if target == "release":
        return release(run, found)
    if target == "rust-test":
        rust_test(run, first, ARGS)
    elif target == "build":
        build(run, found)
    elif target == "lint":
        if first.ready(run, "test"):
            python_lint(run, first)
        rust_lint(run, first)
    elif target == "test":
        everything(run, found)
    elif target == "fuzz":
        for py in build(run, found):
            fuzz(run, py, ARGS)
    elif target == "bench-check":
        built = [py for py in found if py.ready(run, "build")]
        run.together(partial(bench_check, run, py, ARGS, show=len(built) == 1) for py in built)
    elif target == "conformance":
        for py in build(run, found):
            conformance(run, py, ARGS)
    else:
        chosen = suites(build(run, found), PYTEST[target], ARGS)
        # The output of a single one is shown as it comes.
        run.together(partial(suite.run, run, len(chosen) == 1) for suite in chosen)
    return run.summary()


def build(run: Run, found: list[Python]) -> list[Python]:
    """Those that are ready for the tests; the others are failures of the run."""
    ready = dict[Python, bool]()

    def prepare(py: Python) -> None:
        ready[py] = py.ready(run, "test")

    run.together(partial(prepare, py) for py in found)
    if all(ready.values()):
        oldest = min(found, key=lambda py: tuple(map(int, py.version.split("."))))
        made = oldest.build_one_wheel(run)
        run.together(partial(py.install_one_wheel, run, made) for py in found if made)
    for py in found:
        if not ready[py]:
            run.missed([f"{py.version} tests"], "not run: no build")
    return [py for py in found if ready[py]]


def suites(built: list[Python], variant: Variant, args: list[str]) -> list[Suite]:
    """The suite on each of these Pythons; what is the same on all of them with the first alone."""
    return [Suite(py, variant, (*left_out(variant, py is built[0]), *args)) for py in built]


def everything(run: Run, found: list[Python]) -> None:
    built = list[Python]()

    def rust() -> None:
        rust_lint(run, found[0])
        rust_test(run, found[0], [])

    # A compiler uses one core for long stretches; the other's share is the builds'.
    run.together([rust, lambda: built.extend(build(run, found))])
    if not built:
        return
    python_lint(run, built[0])
    # One Python is enough for each other variant: the newest for debug mode, the oldest for the plain paths.
    chosen = suites(built, USUAL, []) + suites(built[:1], DEBUG, []) + suites(built[-1:], PLAIN, [])
    chosen += map(one_wheel, built)
    run.together(
        [
            *(partial(suite.run, run, False) for suite in chosen),
            partial(fuzz, run, built[0], [], show=False),
            # The same programs again, and not all of them.
            *(partial(fuzz, run, py, FEWER, show=False) for py in built[1:]),
            partial(fuzz, run, built[-1], FEWER, plain=True, show=False),
            partial(bench_check, run, built[0], [], show=False),
            *(partial(conformance, run, py, [], show=False) for py in built),
        ]
    )
    for suite in chosen:
        suite.second_try(run)


def demo(run: Run, py: Python) -> int:
    if not py.ready(run, "build"):
        return run.summary()
    command = [str(py.exe), str(ROOT / "examples" / "demo.py"), *ARGS]
    print(f"\n=== demo, on CPython {py.version}\n", flush=True)
    return subprocess.run(command, env=environment(py.env()), cwd=ROOT).returncode


def docs(run: Run, py: Python) -> int:
    """The site, in target/site; a warning fails it."""
    if py.ready(run, "build", "docs"):
        command = [py.exe, "-m", "mkdocs", "build", "--strict"]
        run.step("docs", command, py.env(NO_MKDOCS_2_WARNING="1"))
    return run.summary()
