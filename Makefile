# Everything runs through scripts/house under the newest usable CPython; scripts/find_python.sh finds it and says
# what a machine lacks. PYTHON="python3.13" (a name, a version or a path; several with spaces) overrides the search.
# ARGS="..." goes to pytest, the conformance suite, cargo test, the benchmarks or the demo.
.DEFAULT_GOAL := help
.PHONY: help demo test build lint rust-test py-test py-test-debug py-test-plain fuzz conformance bench bench-check release docs sanitize clean pythons

export PYTHON ARGS

help:
	@echo "make demo            build, then run examples/demo.py"
	@echo "make test            build, then every test and every check, on each CPython >= 3.12 of this machine"
	@echo
	@echo "make build           one release build and one virtualenv (.venv-3.13 ...) for each CPython"
	@echo "make lint            rustfmt, clippy, ruff, mypy --strict, stubtest"
	@echo "make rust-test       cargo test"
	@echo "make py-test         the Python tests                    ARGS=\"tests/tasks -k cancel\""
	@echo "make py-test-debug   the same with asyncio's debug mode on"
	@echo "make py-test-plain   the same without what makes use of CPython's insides: PYLOOP_ACCEL=none"
	@echo "make fuzz            random programs beside asyncio           ARGS=\"--start 100000 --count 500000\""
	@echo "make conformance     CPython's own asyncio tests on our loop"
	@echo "make bench           against asyncio and other loops     ARGS=\"net --rounds 1\" or ARGS=\"compare --only sleep0\""
	@echo "                                                         ARGS=--update writes the tables of README.md,"
	@echo "                                                         benches/results and its plots; ARGS=plots the plots alone"
	@echo "make bench-check     instructions for each operation beside a baseline; ARGS=--update writes it"
	@echo "make sanitize        the tests under ThreadSanitizer and AddressSanitizer    ARGS=\"thread tests/io\""
	@echo "make docs            the documents as a site, in target/site"
	@echo "make release         the packages of a version, each tried; uploads nothing (RELEASING.md)"
	@echo "make pythons         which CPythons there are, and what is missing"
	@echo "make clean           remove builds, virtualenvs and caches"
	@echo
	@echo "PYTHON=3.13 (or a path) picks the CPython."

demo test build lint rust-test py-test py-test-debug py-test-plain fuzz conformance bench bench-check release docs:
	@py=$$(sh scripts/find_python.sh --first) && exec "$$py" scripts/house $@

sanitize:
	@py=$$(sh scripts/find_python.sh --first) && exec "$$py" scripts/sanitize

pythons:
	@sh scripts/find_python.sh --check

clean:
	rm -rf target examples/rust_main/target tests/extension/target .venv-3.* reports dist .pytest_cache .mypy_cache .ruff_cache
	rm -f python/pyloop/*.so
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
