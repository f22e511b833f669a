"""Run by the engine's interpreter: prints what vLLM's own `serve` reads in command lines, each a JSON list."""

import json
import sys
from typing import Any

from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.utils.argparse_utils import FlexibleArgumentParser


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever vLLM makes of it
    return getattr(value, "__dict__", str(value))


def main() -> None:
    parser = FlexibleArgumentParser()
    ServeSubcommand().subparser_init(parser.add_subparsers(dest="subparser"))
    for line in sys.argv[1:]:
        found = vars(parser.parse_args(json.loads(line)))
        sys.stdout.write(json.dumps(found, default=plain) + "\n")


if __name__ == "__main__":
    main()
