"""`python -m pyloop`: a program on pyloop's loop."""

from pyloop import _whole  # noqa: F401
from pyloop._command import main

if __name__ == "__main__":
    main()
