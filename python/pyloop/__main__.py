"""`python -m pyloop`: a program on pyloop's loop."""

from pyloop._command import main

main()
