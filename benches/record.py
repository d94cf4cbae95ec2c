"""What a benchmark has measured, as a file: where, when and with what, and every single round."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"


def processor() -> str:
    """What the machine says of itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")


def about(versions: Sequence[str], **how: object) -> dict[str, Any]:
    """The head of a report. `versions`: of what is compared; `how`: the options."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        },
        "python": sys.version.split()[0],
        "versions": list(versions),
        "how": how,
    }


def save(path: Path, head: dict[str, Any], rows: dict[str, Any]) -> None:
    """Into a file, a line for each list of numbers: a new one can be compared with the old."""
    lines = [f'{{"about": {json.dumps(head)},', '"rows": {']
    for number, (name, row) in enumerate(rows.items()):
        loops = row.pop("loops")
        lines.append(f'{json.dumps(name)}: {json.dumps(row)[:-1]}, "loops": {{')
        lines += [f" {json.dumps(loop)}: {json.dumps(told)}," for loop, told in loops.items()]
        lines[-1] = lines[-1].removesuffix(",")
        lines.append("}}" + "," * (number < len(rows) - 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, "}}", ""]))
