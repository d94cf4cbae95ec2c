# Shared by the scripts beside it. Each moves one published project from pyo3-async-runtimes to pyloop, from its sdist, and runs
# its tests and a few of its operations before and after: docs/moving-from-pyo3-async-runtimes.md has what came out.
#
# They need bash, cargo, patch, a CPython >= 3.12 with pip, and the registries of Python and of Rust; each says what it needs
# besides (a server, say). By the environment:
#
#   PYTHON    the CPython (python3)
#   PLACE     where everything is made; it stays there, and is used again (a new folder of the temporary ones)
#   PYLOOP    what pip installs as the loop: the checkout, or a wheel that has been built of it
#   PROFILE   `theirs`: the project's own release profile. Else both sides are built without LTO and in 16 parts, which takes
#             a fraction of the time
#   ROUNDS    how often each operation is measured (5)

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
HERE=$ROOT/scripts/moved
PYTHON=${PYTHON:-python3}
NAME=$(basename "$0" .sh)
PLACE=${PLACE:-$(mktemp -d)}
mkdir -p "$PLACE"
PLACE=$(cd "$PLACE" && pwd)
if [[ ${PROFILE:-} != theirs ]]; then
  export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '\n== %s\n' "$*"; }

# needs COMMAND PACKAGE: end here where there is no such command. Debian's package of that name has it.
needs() {
  command -v "$1" >/dev/null || { echo "$NAME needs $1 (apt install $2)" >&2; exit 1; }
}

# environments REQUIREMENT...: before/ and after/, with these, the tests' tools, and the loops.
environments() {
  local side
  for side in before after; do
    [[ -e $PLACE/$side/ready ]] && continue
    say "$side: a virtual environment"
    "$PYTHON" -m venv "$PLACE/$side"
    "$PLACE/$side/bin/python" -m pip install -q "$@" $(grep -hE '^(anyio|maturin|pytest|pytest-asyncio|uvloop)==' \
      "$ROOT"/scripts/requirements/*.txt | sort -u) "${PYLOOP:-$ROOT}"
    touch "$PLACE/$side/ready"
  done
}

# sdist VERSION SHA256: the project's, unpacked as it is into before.src/ and after.src/.
sdist() {
  local folder=${NAME//-/_}-$1 side
  say "the sdist of $NAME $1"
  # pip asks what builds an sdist for its name, even to download it. What answers here needs no compiler.
  mkdir -p "$PLACE/answers/maturin"
  cat >"$PLACE/answers/maturin/__init__.py" <<END
import pathlib

def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(directory, config_settings=None):
    folder = pathlib.Path(directory, "$folder.dist-info")
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: $NAME\nVersion: $1\n")
    return folder.name
END
  echo "$NAME==$1 --hash=sha256:$2" >"$PLACE/sdist.txt"
  PYTHONPATH=$PLACE/answers "$PLACE/before/bin/python" -m pip download -q --no-deps --no-build-isolation --no-binary "$NAME" \
    --require-hashes -r "$PLACE/sdist.txt" -d "$PLACE"
  for side in before after; do
    rm -rf "$PLACE/$side.src"
    mkdir "$PLACE/$side.src"
    tar xzf "$PLACE/$folder.tar.gz" -C "$PLACE/$side.src" --strip-components 1
  done
}

# changed SIDE PATCH: apply it there; @PYLOOP@ in it is the checkout.
changed() {
  sed "s|@PYLOOP@|$ROOT|" "$HERE/$2" | patch -s -p1 -d "$PLACE/$1.src"
}

# size PATCH: how many lines in how many files, what it adds and what it takes away.
size() {
  local files added removed
  files=$(grep -c '^+++ ' "$HERE/$1")
  added=$(grep -cE '^\+([^+]|$)' "$HERE/$1")
  removed=$(grep -cE '^-([^-]|$)' "$HERE/$1")
  say "$1: $added lines for $removed, in $files files"
}

# build SIDE OPTION...: a wheel by maturin, installed. What both have in common is compiled once.
build() {
  local side=$1
  shift
  say "$side: build"
  (cd "$PLACE/$side.src" && CARGO_TARGET_DIR=$PLACE/target "$PLACE/$side/bin/maturin" build -q --release \
    -i "$PLACE/$side/bin/python" -o "$PLACE/$side.wheel" "$@")
  "$PLACE/$side/bin/python" -m pip install -q --force-reinstall --no-deps "$PLACE/$side.wheel"/*.whl
}

# a_port: one that nobody listens at.
a_port() {
  "$PYTHON" -c 'import socket; listener = socket.create_server(("127.0.0.1", 0)); print(listener.getsockname()[1])'
}

# listens PORT: whether somebody does, on this machine.
listens() { (: >"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# served PORT COMMAND...: a server for the rest of the script. It has started when it listens.
served() {
  local port=$1 tries
  shift
  say "a server: $*"
  if listens "$port"; then echo "$NAME needs port $port, which another server has" >&2; exit 1; fi
  "$@" >"$PLACE/server.log" 2>&1 &
  trap "kill $! 2>/dev/null || true" EXIT
  for tries in {1..100}; do
    listens "$port" && return
    kill -0 $! || break
    sleep 0.1
  done
  echo "it does not start: $PLACE/server.log" >&2
  exit 1
}

# tested SIDE FOLDER ARGUMENT...: pytest in that folder of the side's, on asyncio's loop and on pyloop's.
tested() {
  local side=$1 folder=$2 loop
  shift 2
  for loop in asyncio pyloop; do
    say "$side: tests, on $loop"
    (cd "$folder" && "$PLACE/$side/bin/python" -P -m pytest -q -p no:cacheprovider -W ignore \
      $([[ $loop == pyloop ]] && echo -p pyloop.pytest_plugin) "$@" | tail -n 12) || true
  done
}

# figures: the operations of NAME.py on each loop, before and after.
figures() {
  say "operations"
  "$PYTHON" -P "$HERE/measure.py" "$NAME" --before "$PLACE/before/bin/python" --after "$PLACE/after/bin/python" \
    --rounds "${ROUNDS:-5}"
}
