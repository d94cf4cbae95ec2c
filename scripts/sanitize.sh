#!/usr/bin/env bash
# The Rust tests, then the extension with Python on top, under AddressSanitizer. Needs a nightly toolchain
# (`rustup toolchain install nightly`), gcc's libasan and a virtualenv made by `make build`; takes some ten minutes.
#
#   scripts/sanitize.sh [3.13] [pytest arguments]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=${1:-3.13}
shift || true
venv=$PWD/.venv-$version
[[ -x $venv/bin/python ]] || { echo "no $venv: run make build PYTHON=$version" >&2; exit 1; }
cargo +nightly --version >/dev/null || { echo "no nightly toolchain: rustup toolchain install nightly" >&2; exit 1; }

host=$(rustc -vV | sed -n 's/^host: //p')
base=$("$venv/bin/python" -c 'import sys, os; print(os.path.realpath(sys.executable))')
libdir=$("$base" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')
export PYO3_PYTHON=$base CARGO_TARGET_DIR=$PWD/target/sanitize LD_LIBRARY_PATH=$libdir
# CPython's arenas hide what is freed inside of them, and an interpreter leaves things behind when it ends.
export PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=0

echo "=== cargo test"
RUSTFLAGS="-Zsanitizer=address" cargo +nightly test --locked --target "$host" --workspace \
  --features pyo3-async-runtimes

echo "=== pytest"
# A copy of the virtualenv would still load the plain modules: the sanitized ones come first on the path.
modules=$CARGO_TARGET_DIR/modules
rm -rf "$modules" && mkdir -p "$modules" && cp -r python/pyloop "$modules/"
export PYO3_BUILD_EXTENSION_MODULE=1 RUSTFLAGS="-Zsanitizer=address -Clink-arg=-Wl,-z,lazy -Crelro-level=partial"
suffix=$("$base" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
cargo +nightly build --locked --target "$host" -p pyloop-native
cp "$CARGO_TARGET_DIR/$host/debug/lib_native.so" "$modules/pyloop/_native$suffix"
cargo +nightly build --locked --target "$host" --manifest-path tests/extension/Cargo.toml
cp "$CARGO_TARGET_DIR/$host/debug/libpyloop_extension.so" "$modules/pyloop_extension$suffix"
unset RUSTFLAGS PYO3_BUILD_EXTENSION_MODULE
# What starts processes of its own would start them with the sanitizer's environment and fail for its reports' sake.
LD_PRELOAD=$(gcc -print-file-name=libasan.so) PYTHONPATH=$modules "$venv/bin/python" -m pytest -q -x \
  -p no:cacheprovider "${@:-tests/test_bridge.py}" 
