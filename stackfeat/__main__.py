"""``python -m stackfeat``."""

from stackfeat.cli import main

if __name__ == "__main__":
    main()
