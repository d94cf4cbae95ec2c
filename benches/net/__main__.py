"""The entry: `python benches/net`, or `python -m net` in benches/."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from net.cli import main

if __name__ == "__main__":
    main()
