"""What `make` does: builds, tests, checks, and one summary at the end that says what passed and what did not.

`python scripts/house TARGET`, run by the Makefile under the newest usable CPython; needs nothing but the
standard library. Each step is one command: its output goes to the terminal and to reports/<step>.log, a
failing step does not stop the others, and the run ends with a table and the line `N passed, N failed`. The
pytest runs use one core each, so they go side by side, as many as there are cores; of those that pass only
the end is shown.

| module     |                                                              |
|------------|--------------------------------------------------------------|
| `settings` | where things are, and what the caller asked for              |
| `process`  | one command: its environment, its output, its end            |
| `counts`   | how many tests an output speaks of; skips that need a reason |
| `steps`    | the steps of one `make` and what came of them                |
| `pythons`  | the CPythons: their virtualenvs and builds                   |
| `rust`     | the tests in Rust                                            |
| `suites`   | the tests in Python                                          |
| `lints`    | the lints of both                                            |
| `benches`  | the benchmarks                                               |
| `release`  | what a release is made of, all but the upload                |
| `targets`  | what each target of the Makefile is made of                  |
"""
