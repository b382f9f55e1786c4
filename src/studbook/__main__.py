"""``python -m studbook``: the command line."""

from studbook.cli.main import main

if __name__ == "__main__":
    main()
