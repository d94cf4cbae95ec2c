"""What `make` does: builds, tests, checks, and one summary at the end that says what passed and what did not.

Run by the Makefile under the newest usable CPython, needs nothing but the standard library. Each step is one
command: its output goes to the terminal and to reports/<step>.log, a failing step does not stop the others,
and the run ends with a table and the line `N passed, N failed`. The pytest runs use one core each, so they go
side by side, as many as there are cores; of those that pass only the end is shown.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports"
REQUIREMENTS = ROOT / "scripts" / "requirements"
EXTENSION = ROOT / "tests" / "extension"
EXTENSION_TARGET = ROOT / "target" / "extension"
ARGS = shlex.split(os.environ.get("ARGS", ""))
CI = bool(os.environ.get("CI"))
# Cargo.lock is used in any case; in CI it must also be up to date, at home a new dependency may update it.
LOCKED = ["--locked"] if CI else []
CORES = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
# So many failed tests get a second try, as CPython's own regrtest gives them with --rerun.
SECOND_TRIES = 3
# Tests that build Rust programs, which are the same for each Python: with the first one, not in debug mode.
ONCE = ["--ignore=tests/test_rust_main.py", "--ignore=tests/test_rust_library.py"]
BENCH_START, BENCH_END = "<!-- bench:start -->", "<!-- bench:end -->"

# What a developer's shell may say and a test must not hear.
UNWANTED = {
    *("PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS", "PYTEST_ADDOPTS"),
    *("VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__", "PYO3_PYTHON", "PYO3_CONFIG_FILE"),
    *("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARGS", "PYTHON"),
}


@dataclass(frozen=True)
class Counts:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


@dataclass
class Result:
    step: str
    ok: bool
    seconds: float = 0.0
    counts: Counts | None = None
    note: str = ""
    failures: list[str] = field(default_factory=list)  # pytest's lines of what failed


@dataclass
class Run:
    """The steps of one `make` and what came of them."""

    results: list[Result] = field(default_factory=list)

    def step(
        self,
        name: str,
        command: Iterable[object],
        env: dict[str, str] | None = None,
        count: Callable[[str], Counts | None] = lambda _output: None,
        judge: Callable[[str], str] = lambda _output: "",
        minutes: float = 20,
        log: bool = True,
        show: bool = True,
    ) -> bool:
        """Runs one command. `count` reads the tests out of its output; what `judge` says fails the step."""
        words = [str(word) for word in command]
        print(f"\n=== {name}: {' '.join(_short(w) for w in words)}", flush=True)
        began = time.monotonic()
        file = REPORTS / f"{name}.log" if log else None
        code, output = _tee(words, _environment(env or {}), file, minutes, show)
        note = judge(output)
        if code is None:
            note = f"stopped after {minutes:g} minutes"
        elif code and not note:
            note = f"exit code {code}"
        if not show:
            lines = output.splitlines()
            print(f"\n=== {name}, {'all' if note else 'the end'} of its output:")
            print("\n".join(lines if note else lines[-5:]), flush=True)
        failures = re.findall(r"^(?:FAILED|ERROR) tests/.*", output, re.M)
        self.results.append(
            Result(name, code == 0 and not note, time.monotonic() - began, count(output), note, failures)
        )
        if note:
            print(f"=== {name}: FAILED: {note}", flush=True)
        return self.results[-1].ok

    def together(self, steps: list[Callable[[], None]]) -> None:
        """Runs steps side by side, as many as there are cores."""
        with ThreadPoolExecutor(max_workers=CORES) as pool:
            for done in [pool.submit(step) for step in steps]:
                done.result()

    def missed(self, names: Iterable[str], why: str) -> None:
        self.results += [Result(name, ok=False, note=why) for name in names]

    def summary(self) -> int:
        """Prints what happened; the exit code."""
        width = max(len(r.step) for r in self.results)
        print("\n" + "=" * 78)
        for r in self.results:
            what = str(r.counts) if r.counts else ("ok" if r.ok else "")
            note = f"  {r.note}" if r.note else ""
            print(f"{'ok  ' if r.ok else 'FAIL'}  {r.step:<{width}}  {r.seconds:7.1f} s  {what}{note}")
        bad = [r for r in self.results if not r.ok]
        if bad:
            print(
                "\nFailed: " + ", ".join(r.step for r in bad) + f"  (full output: {REPORTS.name}/<step>.log)"
            )
        for r in self.results:
            print("".join(f"\n{r.step}: {line}" for line in r.failures), end="")
        passed = sum(r.counts.passed for r in self.results if r.counts)
        # A step that failed without saying how many of its tests did counts as one.
        failed = sum(max(r.counts.failed if r.counts else 0, 0 if r.ok else 1) for r in self.results)
        if passed or failed:
            print(f"\n{passed} passed, {failed} failed")
        else:
            print("\nAll well.")
        return 1 if bad else 0


def _short(word: str) -> str:
    return shlex.quote(word.replace(f"{ROOT}/", ""))


def _environment(extra: dict[str, str]) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if k not in UNWANTED}
    env.setdefault("CARGO_TERM_COLOR", "never" if CI else "auto")
    env |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore", "PYTHONUNBUFFERED": "1"}
    return env | extra


_children = set[subprocess.Popen[str]]()


def _tee(
    words: list[str], env: dict[str, str], log: Path | None, minutes: float, show: bool
) -> tuple[int | None, str]:
    """The exit code (None: it took too long) and what the command printed, which is shown as it comes."""
    try:
        child = subprocess.Popen(
            words,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        print(error)
        return 127, str(error)
    _children.add(child)
    late = threading.Event()

    def stop() -> None:
        late.set()
        _end(child)

    timer = threading.Timer(minutes * 60, stop)
    timer.start()
    lines = []
    if log:
        log.parent.mkdir(exist_ok=True)
    file = log.open("w", buffering=1) if log else contextlib.nullcontext(None)
    try:
        with file as kept:
            assert child.stdout is not None
            for line in child.stdout:
                lines.append(line)
                if kept:
                    kept.write(line)
                if show:
                    sys.stdout.write(line)
                    sys.stdout.flush()
        code = child.wait()
    finally:
        timer.cancel()
        _end(child)
        _children.discard(child)
    return (None if late.is_set() else code), "".join(lines)


def _end(child: subprocess.Popen[str]) -> None:
    """Ends the command with all its children: it leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


# ---- how many tests ----------------------------------------------------------------------------------------


def count_words(output: str) -> Counts | None:
    """From the last line that counts tests: pytest's closing line, or `N passed, N failed, N skipped`."""
    for line in reversed(output.splitlines()):
        found = {
            word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|errors?|skipped|xfailed)\b", line)
        }
        if "passed" in found or "failed" in found or "error" in found or "errors" in found:
            failed = found.get("failed", 0) + found.get("error", 0) + found.get("errors", 0)
            return Counts(found.get("passed", 0), failed, found.get("skipped", 0) + found.get("xfailed", 0))
    return None


def judge_pytest(output: str) -> str:
    found = re.search(r"^\d+ unlisted skips$", output, re.M)  # scripts/pytest_skips.py says it
    return found[0] if found else ""


def count_cargo(output: str) -> Counts | None:
    found = re.findall(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", output, re.M)
    return Counts(*(sum(int(row[i]) for row in found) for i in range(3))) if found else None


def judge_ignored(output: str) -> str:
    """An ignored Rust test needs its line in tests/allowed_skips.txt too, as `rust:<path>`."""
    allowed = _allowed_skips()
    ignored = re.findall(r"^test (.+?) \.\.\. ignored", output, re.M)
    unlisted = [name for name in ignored if not allowed(f"rust:{name}")]
    return f"ignored without a reason in tests/allowed_skips.txt: {', '.join(unlisted)}" if unlisted else ""


def _allowed_skips() -> Callable[[str], bool]:
    patterns = [
        line.split()[0]
        for line in (ROOT / "tests" / "allowed_skips.txt").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    return lambda name: any(fnmatchcase(name, p.replace("[", "[[]")) for p in patterns)


# ---- one Python --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Python:
    version: str
    path: str

    @property
    def venv(self) -> Path:
        return ROOT / f".venv-{self.version}"

    @property
    def exe(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def target(self) -> Path:
        # A folder for each version: pyo3's build script bakes the version in, and one folder for all would
        # compile pyo3 and pyloop again at every change of Python. Two cost some 20 s, once.
        return ROOT / "target" / f"cpython-{self.version}"

    def env(self, **extra: str) -> dict[str, str]:
        """As in an activated virtualenv; PYO3_PYTHON for what builds Rust (a test does).

        PYLOOP_BASE_PYTHON is what `cargo test` is told: who builds for the same need not build all anew.
        """
        path = f"{self.venv / 'bin'}{os.pathsep}{os.environ['PATH']}"
        pythons = {"PYO3_PYTHON": str(self.exe), "PYLOOP_BASE_PYTHON": self.path}
        return {"VIRTUAL_ENV": str(self.venv), "PATH": path} | pythons | extra

    def prepare(self, run: Run, groups: Iterable[str]) -> bool:
        """The virtualenv with the pinned packages of these groups; quick when nothing has changed."""
        home = subprocess.run(
            [self.path, "-c", "import sys; print(sys.version)"], capture_output=True, text=True
        )
        for group in groups:
            files = [f for f in REQUIREMENTS.glob("*.txt") if f.stem in (group, "build")]
            want = hashlib.sha256(
                b"".join(f.read_bytes() for f in sorted(files)) + self.path.encode() + home.stdout.encode()
            ).hexdigest()
            stamp = self.venv / f".pyloop-{group}"
            if stamp.exists() and stamp.read_text() == want:
                continue
            if not self.exe.exists() or _version_of(self.exe) != home.stdout:
                shutil.rmtree(self.venv, ignore_errors=True)
                if not run.step(
                    f"{self.version} virtualenv", [self.path, "-m", "venv", self.venv], log=False
                ):
                    return False
            pip = [
                self.exe,
                "-m",
                "pip",
                "install",
                "-q",
                "--retries",
                "8",
                "-r",
                REQUIREMENTS / f"{group}.txt",
            ]
            if not run.step(f"{self.version} pip {group}", pip, log=False):
                return False
            stamp.write_text(want)
        return True

    def build(self, run: Run) -> bool:
        """A release wheel, installed in the virtualenv: what is tested is what a user gets."""
        return self._wheel(run, "", [], self.target)

    def build_extension(self, run: Run) -> bool:
        """The extension module of a stranger, for the tests."""
        # One folder for all versions: what takes long to compile there knows no Python.
        return self._wheel(run, " extension", ["-m", EXTENSION / "Cargo.toml"], EXTENSION_TARGET)

    def _wheel(self, run: Run, what: str, crate: list[object], target: Path) -> bool:
        wheels = self.target / f"wheels{what.replace(' ', '-')}"
        shutil.rmtree(wheels, ignore_errors=True)
        maturin = [self.venv / "bin" / "maturin", "build", *crate, "--release", *LOCKED]
        maturin += ["--auditwheel", "skip", "-i", self.exe, "--target-dir", target, "--out", wheels]
        if not run.step(f"{self.version} build{what}", maturin, self.env(), minutes=20):
            return False
        made = list(wheels.glob("*.whl"))
        install = [
            self.exe,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--no-index",
            "--force-reinstall",
            *made,
        ]
        return run.step(f"{self.version} install{what}", install, log=False)

    def ready(self, run: Run, *groups: str) -> bool:
        return (
            self.prepare(run, groups)
            and self.build(run)
            and ("test" not in groups or self.build_extension(run))
        )


def _version_of(exe: Path) -> str:
    try:
        return subprocess.run(
            [exe, "-c", "import sys; print(sys.version)"], capture_output=True, text=True
        ).stdout
    except OSError:
        return ""


def pythons() -> list[Python]:
    finder = subprocess.run(
        ["sh", ROOT / "scripts" / "find_python.sh"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    if finder.returncode:
        sys.exit(finder.returncode)
    return [Python(*line.split("\t")) for line in finder.stdout.splitlines()]


# ---- the targets -------------------------------------------------------------------------------------------


def pytest(run: Run, py: Python, args: list[str], show: bool, debug: bool, again: str = "") -> None:
    name = f"{py.version} pytest{'-debug' if debug else ''}"
    # asyncio's debug mode is switched on by the variable; -X dev brings the allocator's checks.
    dev, more = (["-X", "dev"], ONCE) if debug else ([], [])
    env = py.env(**({"PYTHONASYNCIODEBUG": "1"} if debug else {}))
    # What failed last is remembered for each run of its own: several go at a time.
    cache = ["-o", f"cache_dir={REPORTS.name}/cache/{name}"]
    command = [py.exe, *dev, "-m", "pytest", "-q", *cache, *more, *args]
    run.step(name + again, command, env, count_words, judge_pytest, show=show)


def second_try(run: Run, py: Python, args: list[str], debug: bool) -> None:
    """Runs a few failed tests again, with nothing beside them: a test of time fails when others are busy.

    What passes now counts as passed, and the summary names it.
    """
    name = f"{py.version} pytest{'-debug' if debug else ''}"
    first = next(r for r in run.results if r.step == name)
    if first.ok or first.note != "exit code 1" or not 0 < len(first.failures) <= SECOND_TRIES:
        return
    pytest(run, py, ["--last-failed", *args], True, debug, " again")
    second = run.results.pop()
    if second.ok and first.counts and second.counts and second.counts.passed == first.counts.failed:
        first.ok, first.note = True, "passed when run again: see below"
        first.counts = Counts(first.counts.passed + first.counts.failed, 0, first.counts.skipped)
        first.seconds += second.seconds


def conformance(run: Run, py: Python, args: list[str]) -> None:
    if subprocess.run([py.exe, "-c", "import test.test_asyncio"], capture_output=True).returncode:
        allowed = _allowed_skips()("conformance:no-test-package")
        why = f"skipped: no test package here (Debian: apt install libpython{py.version}-testsuite)"
        run.results.append(
            Result(f"{py.version} conformance", ok=allowed, counts=Counts(skipped=1), note=why)
        )
        return
    command = [py.exe, "-m", "tests.conformance", *args]
    run.step(f"{py.version} conformance", command, py.env(), count_words, minutes=25)


def rust_test(run: Run, py: Python, args: list[str]) -> None:
    env = _rust_env(py)
    which = ["--features", "pyo3-async-runtimes"] if "RUSTFLAGS" not in env else ["--lib"]
    command = ["cargo", "test", "--workspace", *LOCKED, *which, *args]
    run.step("cargo test", command, env, count_cargo, judge_ignored)
    if not args:
        # Every interleaving of the parts that threads share.
        loom = ["cargo", "test", "--release", *LOCKED, "--manifest-path", "tests/loom/Cargo.toml"]
        env = {"RUSTFLAGS": "--cfg loom", "CARGO_TARGET_DIR": str(ROOT / "target" / "loom")}
        run.step("loom", loom, env, count_cargo, judge_ignored)


def rust_lint(run: Run, py: Python) -> None:
    run.step("cargo fmt", ["cargo", "fmt", "--all", "--check"])
    example = ["--manifest-path", "examples/rust_main/Cargo.toml"]
    run.step("cargo fmt example", ["cargo", "fmt", *example, "--check"])
    env, deny = _rust_env(py), ["--", "-D", "warnings"]
    every = ["--workspace", *LOCKED, "--features", "pyo3-async-runtimes"]
    run.step("cargo clippy", ["cargo", "clippy", *every, "--all-targets", *deny], env)
    example += ["--target-dir", env.get("CARGO_TARGET_DIR", "target"), *LOCKED]
    run.step("cargo clippy example", ["cargo", "clippy", *example, *deny], env)
    env["RUSTDOCFLAGS"] = f"{env.get('RUSTDOCFLAGS', '')} -D warnings".strip()
    run.step("cargo doc", ["cargo", "doc", *every, "--no-deps"], env)
    # A crate of its own, built as `build_extension` does: what clippy need not check is built once.
    extension = ["--manifest-path", str(EXTENSION / "Cargo.toml")]
    run.step("cargo fmt extension", ["cargo", "fmt", *extension, "--check"])
    clippy = ["cargo", "clippy", "--release", *LOCKED, *extension, "--target-dir", str(EXTENSION_TARGET)]
    run.step("cargo clippy extension", [*clippy, "--", "-D", "warnings"], {"PYO3_PYTHON": py.path})


def python_lint(run: Run, py: Python) -> None:
    """ruff and mypy on the source, stubtest on what is installed."""
    run.step("ruff check", [py.exe, "-m", "ruff", "check"])
    run.step("ruff format", [py.exe, "-m", "ruff", "format", "--check", "--diff"])
    run.step("mypy", [py.exe, "-m", "mypy"], py.env())
    allowlist = ROOT / "scripts" / "stubtest_allowlist.txt"
    stubtest = [py.exe, "-m", "mypy.stubtest", "pyloop", "--allowlist", allowlist]
    stubtest += ["--mypy-config-file", ROOT / "pyproject.toml"]
    run.step("stubtest", stubtest, py.env())


_LIBPYTHON = """
import os, sys, sysconfig
folder = sysconfig.get_config_var("LIBDIR") or ""
name = "libpython%d.%d" % sys.version_info[:2]
ends = (".so", ".dylib", ".a")
print(folder if any(os.path.exists(os.path.join(folder, name + end)) for end in ends) else "")
"""


def libpython(py: Python) -> str:
    """The folder with its libpython, which many a Python does not come with: then it is empty."""
    return subprocess.run([py.path, "-c", _LIBPYTHON], capture_output=True, text=True).stdout.strip()


def _rust_env(py: Python) -> dict[str, str]:
    """For clippy and the unit tests. The tests link libpython."""
    if libdir := libpython(py):
        name = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
        return {"PYO3_PYTHON": py.path, name: os.pathsep.join(filter(None, [libdir, os.environ.get(name)]))}
    # The tests are of the parts that know no Python, so its symbols may stay open: only a call looks one up.
    print(f"{py.path} has no libpython to link: a Rust test that needs Python will fail", flush=True)
    if sys.platform == "darwin":
        flags = "-Clink-arg=-undefined -Clink-arg=dynamic_lookup"
    else:
        flags = "-Crelro-level=partial -Clink-arg=-Wl,--unresolved-symbols=ignore-all -Clink-arg=-Wl,-z,lazy"
    return {
        "PYO3_PYTHON": py.path,
        "PYO3_BUILD_EXTENSION_MODULE": "1",
        "RUSTFLAGS": flags,
        "RUSTDOCFLAGS": flags,
        "CARGO_TARGET_DIR": str(ROOT / "target" / "no-libpython"),
    }


def demo(run: Run, py: Python) -> int:
    if not py.ready(run, "build"):
        return run.summary()
    command = [str(py.exe), str(ROOT / "examples" / "demo.py"), *ARGS]
    print(f"\n=== demo, on CPython {py.version}\n", flush=True)
    return subprocess.run(command, env=_environment(py.env()), cwd=ROOT).returncode


def bench(run: Run, py: Python) -> int:
    """Runs benches/compare.py; without ARGS its table goes between the two marks of README.md."""
    if not py.ready(run, "build", "bench"):
        return run.summary()
    REPORTS.mkdir(exist_ok=True)
    command = [py.exe, ROOT / "benches" / "compare.py", "--markdown", "--json", REPORTS / "bench.json", *ARGS]
    if not run.step("bench", command, py.env(), minutes=90):
        return run.summary()
    # What was compared, an empty line, the table.
    lines = (REPORTS / "bench.log").read_text().strip().splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith("|")), None)
    table = "\n".join(lines[max(0, first - 2) :]) if first is not None else ""
    readme = ROOT / "README.md"
    text = readme.read_text()
    if table and not ARGS:
        head, rest = text.split(BENCH_START)
        tail = rest.split(BENCH_END)[1]
        readme.write_text(f"{head}{BENCH_START}\n{table}\n{BENCH_END}{tail}")
        print("\nREADME.md has the new table.")
    return 0


def main(target: str) -> int:
    run = Run()
    found = pythons()
    first = found[0]
    print("CPython " + ", ".join(f"{py.version} ({py.path})" for py in found), flush=True)
    if target == "demo":
        return demo(run, first)
    if target == "bench":
        return bench(run, first)
    if target == "rust-test":
        rust_test(run, first, ARGS)
        return run.summary()
    if target == "build":
        for py in found:
            py.ready(run, "test")
        return run.summary()
    if target == "lint":
        if first.ready(run, "test"):
            python_lint(run, first)
        rust_lint(run, first)
        return run.summary()
    if target == "test":
        rust_lint(run, first)
        rust_test(run, first, [])
    built = []
    for py in found:
        if not py.ready(run, "test"):
            run.missed([f"{py.version} tests"], "not run: no build")
            continue
        built.append(py)
        if target == "test" and py is first:
            python_lint(run, py)
    args = [] if target == "test" else ARGS
    suites = {"py-test": [False], "py-test-debug": [True], "conformance": []}
    chosen = suites.get(target, [False, True])  # in debug mode, or not
    pairs = [(debug, py) for debug in chosen for py in built]
    show = len(pairs) == 1
    others = {py: [] if py is first else ONCE for py in built}
    run.together([partial(pytest, run, py, others[py] + args, show, debug) for debug, py in pairs])
    if target == "test":
        for debug, py in pairs:
            second_try(run, py, others[py], debug)
    if target in ("test", "conformance"):
        for py in built:
            conformance(run, py, args)
    return run.summary()


def _stop(*_: object) -> None:
    for child in list(_children):
        _end(child)
    os._exit(130)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)  # a step's processes are in groups of their own: nothing else ends them
    sys.exit(main(sys.argv[1]))
