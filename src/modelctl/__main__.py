"""`python -m modelctl`, which is what the command `modelctl` runs."""

import sys


def main() -> None:
    """Load the command line and run it; a Ctrl-C while it is still loading ends it as one later would."""
    try:
        from modelctl.cli import app
    except KeyboardInterrupt:
        sys.exit(130)
    app.main()


if __name__ == "__main__":
    main()
