"""`python -m hardgnn` is `hardgnn`."""

from hardgnn.cli import main

if __name__ == "__main__":
    main()
