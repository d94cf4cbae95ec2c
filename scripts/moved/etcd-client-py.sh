#!/usr/bin/env bash
# etcd-client-py, moved (`scripts/moved/common.sh` says what it needs; besides that etcd, and protoc to build it).
. "$(dirname "$0")/common.sh"

needs etcd etcd-server
needs protoc protobuf-compiler
environments trafaret
sdist 0.5.1 7809b1adfa58c0e84cbaac166c7e76ce5987558426acaa8651075dd2315a9212
for side in before after; do
  # Both sides: from PyO3 0.27 to 0.30, which is no part of the move; and a server on this machine, not one in a container.
  changed $side etcd-client-py.pyo3.patch
  changed $side etcd-client-py.server.patch
done
changed after etcd-client-py.patch
rm -r "$PLACE/after.src/vendor" # its copy of pyo3-async-runtimes
size etcd-client-py.patch
build before
build after
export ETCD_PORT
ETCD_PORT=$(a_port)
url=http://127.0.0.1:$ETCD_PORT
rm -rf "$PLACE/store"
served "$ETCD_PORT" etcd --data-dir "$PLACE/store" --listen-client-urls "$url" --advertise-client-urls "$url" \
  --listen-peer-urls "http://127.0.0.1:$(a_port)"
for side in before after; do tested $side "$PLACE/$side.src" tests; done
figures
