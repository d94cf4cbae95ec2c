"""`make sanitize`: the tests under ThreadSanitizer and AddressSanitizer, with Python on top.

    make sanitize ARGS="thread"                     one of them
    make sanitize ARGS="thread tests/io tests/fs"   and what pytest is to run: each is a step of its own
    make sanitize ARGS="address plain"              with PYLOOP_ACCEL=none

pyloop, the tests' extension module and Rust's standard library are built for the sanitizer. Python is not:
it is started by a program that has the sanitizer's runtime in it (launcher.rs). Without arguments it is
`cargo test` and each folder of tests. A report fails its step; AddressSanitizer ends the process, so the rest
of the folder has not run then. The reports are in reports/sanitize/, named by the process: none is expected.

`plain` is worth a run with AddressSanitizer: of an object that `accel/pool.rs` keeps for the next one it
cannot know that it is freed.

Not a part of `make test`: on two cores a build takes five to ten minutes, the tests half an hour with
AddressSanitizer and an hour with ThreadSanitizer, most of it in the programs that tests start. Who is in a
hurry names the folders that a change is about. Tests are more patient here (tests/support/patience.py).

It needs the source of Rust's standard library (`rustup component add rust-src`, Debian: rust-src), the
sanitizers' runtimes (rustup's toolchains have them; otherwise clang's, Debian: clang libclang-rt-dev),
llvm-symbolizer (Debian: llvm), and a CPython with a libpython to link.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from house.counts import Counts, count_cargo, count_words, judge_ignored, judge_pytest
from house.process import end_all_with_this_process
from house.pythons import Python, libpython, pythons
from house.settings import ARGS, EXTENSION, LOCKED, REPORTS, ROOT
from house.steps import Run

HERE = Path(__file__).resolve().parent
FOUND = REPORTS / "sanitize"

OPTIONS = {
    # A forked child may start threads; exit codes are the programs' own.
    "thread": f"suppressions={HERE / 'thread.supp'}:die_after_fork=0:exitcode=0:history_size=4",
    # What Python keeps until its end is no leak.
    "address": "detect_leaks=0:halt_on_error=1:abort_on_error=1",
}

# How much slower than elsewhere the tests may be.
PATIENCE = {"thread": "20", "address": "6"}

# ThreadSanitizer has room for 65,536 nested calls of a thread, and writes over what is behind it when there
# are more. CPython 3.14 lets deallocators nest as deep as the stack allows: in 8 MiB that is too deep.
STACK = 2 * 2**20

# The tests that cannot pass.
BUT = [
    # They build Rust themselves.
    "--ignore=tests/docs/test_rust_main.py",
    "--ignore=tests/docs/test_rust_library.py",
    "--ignore=tests/bridge/test_one_wheel.py",  # one is built for all, by `make build`
    "--ignore=tests/tasks/test_scale.py",  # time and memory
    "--ignore=tests/docs/test_examples.py",  # time
    "--ignore=tests/docs/test_integrations.py",  # time: servers in processes of their own
    # Several processes each, or another library's threads.
    "--ignore=tests/ecosystem/test_with_distributed.py",
    "--ignore=tests/ecosystem/test_with_grpc.py",
    "--deselect=tests/ecosystem/test_with_uvicorn.py::test_several_workers_share_a_socket",
    # Memory: of CPython's own blocks AddressSanitizer leaves none, and it keeps what is freed.
    "--deselect=tests/package/test_references.py::test_a_reference_that_is_left_behind_is_seen",
    "--deselect=tests/loop/test_timers.py::test_cancelled_timers_do_not_pile_up",
    "--deselect=tests/loop/test_timers.py::test_timeouts_that_never_happen_do_not_pile_up",
    # A sanitizer ends a process that runs out of memory.
    "--deselect=tests/loop/test_exhaustion.py::test_memory_that_a_file_would_need_is_a_memory_error",
    "--deselect=tests/io/test_sockets_methods.py::test_a_size_that_no_memory_has_is_a_memory_error",
    # They count threads; ThreadSanitizer has one of its own.
    "--deselect=tests/bridge/test_ends.py::test_the_programs_own_exit_functions_have_the_runtime",
    "--deselect=tests/bridge/test_ends.py::test_futures_of_an_extension_need_its_runtime_alone",
    "--deselect=tests/loop/test_exit_inside.py::test_a_thread_that_has_left_native_code_ends_as_any",
    # Its batch has to end within a millisecond.
    "--deselect=tests/io/test_transports_batches.py::test_what_busy_connections_write_leaves_when_the_batch_ends",
    # ThreadSanitizer holds a signal back until the next system call, and there is none.
    "--deselect=tests/loop/test_signals_ctrl_c.py::test_ctrl_c_reaches_a_callback",
]


@dataclass(frozen=True)
class Sanitized(Python):
    """A CPython whose extension modules are built for a sanitizer."""

    kind: str
    flags: str
    plain: bool

    @property
    def target(self) -> Path:
        return super().target.parent / f"sanitize-{self.kind}"

    @property
    def venv(self) -> Path:
        return self.target / "venv"

    @property
    def launcher(self) -> Path:
        return self.venv / "bin" / "python-sanitized"

    def env(self, **extra: str) -> dict[str, str]:
        """RUSTC_BOOTSTRAP: a stable toolchain takes `-Z`, too."""
        more = {"RUSTC_BOOTSTRAP": "1", "RUSTFLAGS": self.flags, "CARGO_TARGET_DIR": str(self.target)}
        more["CARGO_PROFILE_DEV_DEBUG"] = "line-tables-only"  # which is what a report shows
        name = f"{self.kind[0].upper()}SAN_OPTIONS"
        options = f"{OPTIONS[self.kind]}:log_path={FOUND / self.kind}"
        options += f":external_symbolizer_path={HERE / 'llvm-symbolizer'}"
        # A debug build's backtraces take seconds.
        more |= {name: options, "RUST_BACKTRACE": "0", "PYLOOP_TEST_PATIENCE": PATIENCE[self.kind]}
        if self.plain:
            more["PYLOOP_ACCEL"] = "none"
        library = libpython(self)
        return super().env(**more, LD_LIBRARY_PATH=library, **extra)


def _rustc(*args: str) -> str:
    return subprocess.run(["rustc", *args], check=True, capture_output=True, text=True).stdout.strip()


def _flags(kind: str) -> str:
    flags = f"-Zsanitizer={kind} -Cunsafe-allow-abi-mismatch=sanitizer"
    libraries = Path(_rustc("--print", "target-libdir"))
    if not list(libraries.glob(f"librustc*rt.{kind[0]}san.a")):
        if not shutil.which("clang"):
            sys.exit(f"missing: the {kind} sanitizer's runtime (rustup's toolchains have it, or clang)")
        flags += f" -Zexternal-clangrt -Clinker=clang -Clink-arg=-fsanitize={kind}"
    return flags


def sanitize(run: Run, py: Sanitized, args: list[str]) -> None:
    name, host = py.kind, re.search(r"host: (\S+)", _rustc("-vV"))
    assert host
    build = ["-Zbuild-std", "--target", host[1], *LOCKED]
    made = py.target / host[1] / "debug"
    if not py.prepare(run, ["test"]):
        return
    for old in FOUND.glob(f"{name}.*"):
        old.unlink()
    if not args:
        features = ["--features", "pyo3-async-runtimes"]
        tests: list[object] = ["cargo", "test", *build, "--lib", "--tests", *features]
        _watched(run, py, f"{name} cargo test", tests, count_cargo, judge_ignored)
    module = {"PYO3_BUILD_EXTENSION_MODULE": "1"}
    for what, crate in (
        ("pyloop", ["-p", "pyloop-native"]),
        ("extension", ["--manifest-path", EXTENSION / "Cargo.toml"]),
    ):
        if not run.step(f"{name} build {what}", ["cargo", "build", *build, *crate], py.env(**module)):
            return
    version = f"-lpython{py.version}"
    # The runtime looks for C++'s functions when the program starts: other modules throw exceptions.
    cpp = [f"-Clink-arg={arg}" for arg in ("-Wl,--no-as-needed", "-lstdc++")]
    link = ["-L", libpython(py), f"-Clink-arg={version}", "-Clink-arg=-rdynamic", *cpp, "-o", py.launcher]
    command = ["rustc", "--edition", "2024", *py.flags.split(), HERE / "launcher.rs", *link]
    if not run.step(f"{name} launcher", command, py.env()):
        return
    packages = next((py.venv / "lib").glob("python3.*/site-packages"))
    shutil.copytree(ROOT / "python" / "pyloop", packages / "pyloop", dirs_exist_ok=True)
    for old in (packages / "pyloop").glob("_native*.so"):
        old.unlink()
    shutil.copy(made / "lib_native.so", packages / "pyloop" / "_native.so")
    shutil.copy(made / "libpyloop_extension.so", packages / "pyloop_extension.so")
    paths = [arg for arg in args if arg.startswith("tests/")]
    pytest: list[object] = [py.launcher, "-m", "pytest", "-q", "-p", "no:cacheprovider", *BUT]
    pytest += [arg for arg in args if arg not in paths]
    for path in paths or _folders():
        what = path.removeprefix("tests/").replace("/", " ")
        _watched(run, py, f"{name} {what}", [*pytest, path], count_words, judge_pytest)


def _folders() -> list[str]:
    return [f"tests/{name}" for name in sorted({file.parent.name for file in ROOT.glob("tests/*/test_*.py")})]


def _watched(
    run: Run,
    py: Sanitized,
    name: str,
    command: list[object],
    count: Callable[[str], Counts | None],
    judge: Callable[[str], str],
) -> None:
    """A step, which also fails on what is reported meanwhile, by whichever process."""
    before = set(FOUND.iterdir())
    with _stack(STACK if py.kind == "thread" else None):
        run.step(name, command, py.env(), count, judge, minutes=60)
    found = sorted(set(FOUND.iterdir()) - before)
    for report in found:
        print(report.read_text(errors="replace")[:20_000])
    if found:
        run.missed([f"{name} reports"], f"{len(found)} in {FOUND}: {', '.join(each.name for each in found)}")


@contextmanager
def _stack(size: int | None) -> Iterator[None]:
    """Of the programs that are started meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_STACK)
    if size is not None:
        resource.setrlimit(resource.RLIMIT_STACK, (size, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_STACK, before)


def main() -> int:
    run = Run()
    kinds = [arg for arg in ARGS if arg in OPTIONS] or list(OPTIONS)
    plain = "plain" in ARGS
    args = [arg for arg in ARGS if arg not in (*OPTIONS, "plain")]
    library = Path(_rustc("--print", "sysroot")) / "lib" / "rustlib" / "src" / "rust" / "library"
    if not library.exists():
        sys.exit("missing: the source of Rust's standard library: rustup component add rust-src")
    if not shutil.which("llvm-symbolizer"):
        sys.exit("missing: llvm-symbolizer, by whose names the known false alarms are known (Debian: llvm)")
    found = [py for py in pythons() if libpython(py)]
    if not found:
        sys.exit("missing: a CPython with a libpython to link")
    FOUND.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        sanitize(run, Sanitized(found[0].version, found[0].path, kind, _flags(kind), plain), args)
    return run.summary()


if __name__ == "__main__":
    end_all_with_this_process()
    sys.exit(main())
