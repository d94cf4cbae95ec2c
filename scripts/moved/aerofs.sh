#!/usr/bin/env bash
# aerofs, moved (`scripts/moved/common.sh` says what it needs).
. "$(dirname "$0")/common.sh"

environments
sdist 4.0.7 4a12cc282cd7402a1219e30a11206d472bc2aa7264ef02eb98fe0bbb6cb1b059
# Both sides: from PyO3 0.27 to 0.30, which is no part of the move.
for side in before after; do changed $side aerofs.pyo3.patch; done
changed after aerofs.patch
size aerofs.patch
build before
build after
for side in before after; do tested $side "$PLACE/$side.src" tests; done
figures
