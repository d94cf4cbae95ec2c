"""The entry: `python scripts/house TARGET`, or `python -m house TARGET` in scripts/."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from house.process import end_all_with_this_process
from house.targets import main

if __name__ == "__main__":
    end_all_with_this_process()
    sys.exit(main(sys.argv[1] if len(sys.argv) == 2 else ""))
