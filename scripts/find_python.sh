#!/bin/sh
# Finds the CPythons that pyloop can be built for, and says what a machine lacks.
#
#   find_python.sh            one line for each usable minor version, the best first: "3.13<TAB>/path/to/python"
#   find_python.sh --first    only the path of the best one (the newest that is not a pre-release)
#   find_python.sh --check    the same list for people, with everything that was looked at and refused
#
# Every form also checks for cargo and a C compiler, and ends with 1 when something needed is missing.
# PYTHON="3.13 /opt/py312/bin/python" overrides the search: those and no others, each must be usable. A version, or
# the bare name python3.13, is taken from the search; anything else is a command or a path.
# Looked at: python3.N and python3 on PATH, pyenv ($PYENV_ROOT or ~/.pyenv), uv's own, the usual bin folders.
set -u

OLDEST=12   # 3.12: the first with eager tasks and asyncio.run(loop_factory=)
NEWEST=15   # the newest that the pyo3 in Cargo.lock knows
RUST_MINOR=$(sed -n 's/^rust-version = "1\.\([0-9]*\).*/\1/p' "$(dirname "$0")/../Cargo.toml" 2>/dev/null)
: "${RUST_MINOR:=85}" # edition 2024

mode=${1:-list}
missing=0
tab=$(printf '\t')

say() { printf '%s\n' "$*" >&2; }
lack() { missing=1; say "pyloop: missing: $1"; shift; for line in "$@"; do say "    $line"; done; }

# Prints "minor final headers micro path" for a usable interpreter, or "no reason path".
# The code has to run on any Python, so that the reason and not a SyntaxError comes out.
probe() {
    "$1" -c '
import sys, os
v = sys.version_info
name = "%d.%d.%d" % v[:3]
def no(why):
    print("no\t%s %s\t%s" % (name, why, sys.executable)); sys.exit(0)
if v < (3, '"$OLDEST"'): no("is older than 3.'"$OLDEST"', the oldest that pyloop knows")
if sys.implementation.name != "cpython": no("is " + sys.implementation.name + ", not CPython")
if v[1] > '"$NEWEST"': no("is newer than 3.'"$NEWEST"', the newest that pyloop knows")
import sysconfig, importlib.util
if sysconfig.get_config_var("Py_GIL_DISABLED"): no("is a free-threaded build, not supported yet")
exe = getattr(sys, "_base_executable", None) if sys.prefix != sys.base_prefix else None
exe = exe or sys.executable
for m in ("venv", "ensurepip", "ssl"):
    if importlib.util.find_spec(m) is None:
        no("has no module %s (Debian: apt install python3.%d-venv)" % (m, v[1]))
inc = sysconfig.get_path("include") or ""
hdr = os.path.exists(os.path.join(inc, "Python.h"))
print("%d\t%d\t%d\t%d\t%s" % (v[1], v[3] == "final", hdr, v[2], exe))
' 2>/dev/null
}

search() {
    n=$NEWEST
    while [ "$n" -ge "$OLDEST" ]; do command -v "python3.$n"; n=$((n - 1)); done
    command -v python3
    command -v python
    for p in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python; do [ -x "$p" ] && printf '%s\n' "$p"; done
    if command -v uv >/dev/null; then
        n=$NEWEST
        while [ "$n" -ge "$OLDEST" ]; do uv python find --no-python-downloads "3.$n" 2>/dev/null; n=$((n - 1)); done
    fi
    for p in "${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/uv/python}"/cpython-3.*/bin/python3 \
        "$HOME"/.local/bin/python3.1[0-9] /usr/bin/python3.1[0-9] /usr/local/bin/python3.1[0-9] \
        /opt/homebrew/bin/python3.1[0-9]; do
        [ -x "$p" ] && printf '%s\n' "$p"
    done
}

probe_each() {
    awk '!had[$0]++' | while IFS= read -r p; do probe "$p"; done | awk '!had[$0]++'
}

if [ -z "${PYTHON:-}" ]; then
    seen=$(search | probe_each)
else
    all=
    seen=$(for p in $PYTHON; do
        case $p in
        3.[0-9] | 3.[0-9][0-9] | python3.[0-9] | python3.[0-9][0-9])
            # By version, not by PATH alone: a pyenv shim named python3.13 is there even when it does not run.
            [ -n "$all" ] || all=$(search | probe_each)
            minor=${p##*3.}
            if [ "$minor" -lt "$OLDEST" ]; then
                printf 'no\tis older than 3.%s, the oldest that pyloop knows\t%s\n' "$OLDEST" "$p"
            elif [ "$minor" -gt "$NEWEST" ]; then
                printf 'no\tis newer than 3.%s, the newest that pyloop knows\t%s\n' "$NEWEST" "$p"
            else
                # Those that are there and of no use say why.
                printf '%s\n' "$all" | grep "^$minor$tab" ||
                    printf '%s\n' "$all" | grep "^no${tab}3\.$minor\." ||
                    printf 'no\tis not found (make pythons shows what is)\t%s\n' "$p"
            fi
            ;;
        *)
            out=$(probe "$p")
            if [ -n "$out" ]; then printf '%s\n' "$out"; else printf 'no\tdoes not run\t%s\n' "$p"; fi
            ;;
        esac
    done)
fi

# Best first: final before pre-release, newer minor, with headers, newer micro; then one of each minor version.
usable=$(printf '%s\n' "$seen" | grep -v "^no$tab" | grep . |
    sort -t "$tab" -k2,2nr -k1,1nr -k3,3nr -k4,4nr | awk -F '\t' '!had[$1]++')
refused=$(printf '%s\n' "$seen" | grep "^no$tab")

if ! command -v cargo >/dev/null; then
    lack "cargo (Rust 1.$RUST_MINOR or newer)" \
        "get it from https://rustup.rs, then open a new shell or run:  . \"\$HOME/.cargo/env\""
else
    rust=$(cargo --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\)\..*/\1/p')
    if [ -z "$rust" ]; then
        lack "a cargo that runs (this one fails: $(cargo --version 2>&1 | head -n 1))" "try:  rustup default stable"
    elif [ "$rust" -lt "$RUST_MINOR" ]; then
        lack "a newer cargo: 1.$RUST_MINOR is needed, this is 1.$rust ($(command -v cargo))" \
            "rustup update stable  (a distribution's cargo is often older: use https://rustup.rs)"
    fi
fi
if ! command -v cc >/dev/null; then
    lack "a C compiler named cc (rustc links with it)" \
        "Debian, Ubuntu: apt install gcc libc6-dev     Fedora: dnf install gcc     macOS: xcode-select --install"
fi
if [ -n "${PYTHON:-}" ] && [ -n "$refused" ]; then
    lack "a usable Python: PYTHON=\"$PYTHON\" names one that is not" \
        "$(printf '%s\n' "$refused" | awk -F '\t' '{print $3 ": " $2}')"
elif [ -z "$usable" ]; then
    lack "a CPython from 3.$OLDEST to 3.$NEWEST" \
        "uv python install 3.13      (uv: pip install uv, or https://docs.astral.sh/uv)" \
        "pyenv install 3.13          Debian, Ubuntu: apt install python3 python3-venv python3-dev, if that is 3.$OLDEST or newer" \
        "one in a place of its own:  make demo PYTHON=/path/to/python3.13"
    [ -n "$refused" ] && say "    found, but not usable:" &&
        printf '%s\n' "$refused" | awk -F '\t' '{print "      " $3 ": " $2}' >&2
fi

case $mode in
--check)
    [ -n "$usable" ] && printf '%s\n' "$usable" | awk -F '\t' '{
        printf "3.%s.%s  %s%s%s\n", $1, $4, $5, $2 ? "" : "  (pre-release)",
            $3 ? "" : "  (no headers: pyloop builds, a test that compiles C does not; Debian: apt install python3." $1 "-dev)"}'
    [ -n "$refused" ] && printf '%s\n' "$refused" | awk -F '\t' '{print "not used: " $3 ": " $2}'
    ;;
--first) [ "$missing" = 0 ] && printf '%s\n' "$usable" | head -n 1 | cut -f5 ;;
list) [ "$missing" = 0 ] && printf '%s\n' "$usable" | awk -F '\t' '{print "3." $1 "\t" $5}' ;;
*) say "find_python.sh: unknown option $mode"; exit 2 ;;
esac
exit "$missing"
