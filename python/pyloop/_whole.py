"""Whether this package is whole.

PyPI has another project whose package is called `pyloop`, too. Installed over this one it leaves its own
`__init__.py` among our files, uninstalled it takes `__init__.py` away. `import pyloop` runs no code of ours
then; each other way in looks here first.
"""

from __future__ import annotations

import sys

REPAIR = (
    "another project that is called pyloop on PyPI has a package of the same name, and pip has put its files "
    "among those of pyloop-rs. To repair: pip uninstall pyloop pyloop-rs, then install pyloop-rs again"
)


def check() -> None:
    """Raise ImportError when `pyloop` is another's package, or none at all."""
    package = sys.modules["pyloop"]
    if getattr(getattr(package, "new_event_loop", None), "__module__", None) != "pyloop._loop":
        file = getattr(package, "__file__", None)
        what = f"{file} is not pyloop-rs's" if file else f"{next(iter(package.__path__))} has no __init__.py"
        raise ImportError(f"{what}: {REPAIR}", name="pyloop", path=file)


check()
