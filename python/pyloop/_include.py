"""Where the header of the C ABI is."""

from __future__ import annotations

import os


def get_include() -> str:
    """The folder of `pyloop.h`, for a C or C++ compiler's `-I`.

    Raises RuntimeError in a program that has the package compiled in: there is no file then.
    """
    file: str | None = globals().get("__file__")
    if file is None:
        raise RuntimeError(
            "this pyloop is compiled into its program: pyloop.h is in an installed package only"
        )
    return os.path.join(os.path.dirname(os.path.abspath(file)), "include")
