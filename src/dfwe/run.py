"""`python -m dfwe.run`: the command line."""

from dfwe.cli import main

if __name__ == "__main__":
    main()
