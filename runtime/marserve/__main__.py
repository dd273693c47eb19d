"""`python -m marserve` is the command `marserve`."""

from marserve.cli import main

if __name__ == "__main__":
    main(prog_name="marserve")
