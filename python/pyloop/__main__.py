"""`python -m pyloop`: a program on pyloop's loop."""

from pyloop._command import main

if __name__ == "__main__":
    main()
