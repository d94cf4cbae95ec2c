"""Where things are, and what the caller asked for."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
REPORTS = ROOT / "reports"
REQUIREMENTS = ROOT / "scripts" / "requirements"
EXTENSION = ROOT / "tests" / "extension"
EXTENSION_TARGET = ROOT / "target" / "extension"

ARGS = shlex.split(os.environ.get("ARGS", ""))
CI = bool(os.environ.get("CI"))
# Cargo.lock is used in any case; in CI it must also be up to date, at home a new dependency may update it.
LOCKED = ["--locked"] if CI else []
CORES = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
