"""`python -m modelctl.share HUB_FOLDER...`: a Hub on loopback as a process of its own."""

import argparse
import signal
import sys
from pathlib import Path

from modelctl.share import app, server


def main() -> None:
    """Serve hub folders until SIGTERM; the URL is the one line on stdout."""
    parser = argparse.ArgumentParser(prog="python -m modelctl.share", description=__doc__)
    parser.add_argument("hub", nargs="+", type=Path, help="a hub folder, such as models/hub")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="the port, 0 for any free one (default: %(default)s)")
    parser.add_argument("--cdn-host", help="another name of this machine, for the redirects of large files")
    arguments = parser.parse_args()
    # Blocked here and in the server's thread: the wait below takes them, and the exit code stays 0.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    served = app.build(arguments.hub, cdn_host=arguments.cdn_host)
    with server.serving(served, host=arguments.host, port=arguments.port) as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        signal.sigwait(ends)


if __name__ == "__main__":
    main()
