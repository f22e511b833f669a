"""`python -m modelctl`, which is what the command `modelctl` runs."""

import sys


def main() -> None:
    """Load the command line and run it; a Ctrl-C before or after that ends it as one meanwhile would."""
    try:
        from modelctl.cli import app

        app.main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
