"""The app: every command by its name, and the one place where errors become exit codes."""

import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from modelctl import __version__
from modelctl import project as projects
from modelctl.cli import output as show
from modelctl.cli import streams
from modelctl.cli.here import Here
from modelctl.cli.interruption import CTRL_C, Interruption
from modelctl.errors import InterruptedByUserError, ModelctlError

# A usage error of the command line parser; Typer exports one of its subclasses, not the class itself.
_ParserError: type[Exception] = typer.BadParameter.__mro__[2]

# Commands whose `--json` is one object a line, ended by `done` or `error`.
LINE_COMMANDS = {
    "pull",
    "rm",
    "migrate",
    "import",
    "export",
    "verify",
    "prune",
    "serve",
    "stop",
    "logs",
    "demo",
    "engine install",
    "engine remove",
}
EPILOG = """\b
Examples:
  modelctl pull Qwen/Qwen3-0.6B
  modelctl list
  modelctl serve Qwen/Qwen3-0.6B
"""

# Where each command is: its module here, and its function there; a group is its module's `app`. In the help's order.
COMMANDS = {
    "list": "list:list_models",
    "ls": "list:list_models",
    "show": "show:show_model",
    "status": "status:status",
    "pull": "pull:pull",
    "engine": "engine:app",
    "verify": "verify:verify",
    "rm": "rm:rm",
    "prune": "prune:prune",
    "migrate": "migrate:migrate",
    "import": "importing:import_model",
    "export": "exporting:export",
    "export-config": "exporting_config:export_config",
    "use": "use:use",
    "serve": "serve:serve",
    "ps": "ps:ps",
    "logs": "logs:logs",
    "stop": "stop:stop",
    "demo": "demo:demo",
}
_ALIASES = {"ls"}


class _CtrlCError(BaseException):
    """Ctrl-C, past the parser: that would make an exit code of it which a command may also have chosen itself."""


class _ReaderGoneError(BaseException):
    """Nobody reads stdout any more, past the parser too: that would end with 1 and without a word."""


class _Commands(TyperGroup):
    def make_context(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - the parser's own types are private
        try:
            return super().make_context(*args, **options)
        except BrokenPipeError as exc:
            raise _ReaderGoneError from exc

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - as above
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _CtrlCError from None
        except BrokenPipeError as exc:
            raise _ReaderGoneError from exc


def _version(value: bool) -> None:
    if value:
        show.Output().line(f"modelctl {__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Hold the options that stand before a command."""


def build(words: Sequence[str] = ()) -> typer.Typer:
    """The app, with the command that the words begin with, or with all where they begin with none.

    Only the typed command's module is loaded: all of them together cost `list` a fifth of its time.
    """
    app = typer.Typer(
        name="modelctl",
        cls=_Commands,
        rich_markup_mode=None,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="The model manager for vLLM: pull, keep, check and serve models in the project that uses them.",
        epilog=EPILOG,
    )
    app.callback()(root)
    for name in [*words[:1]] if COMMANDS.keys() & {*words[:1]} else COMMANDS:
        module, _, what = COMMANDS[name].partition(":")
        loaded = import_module(f"modelctl.cli.{module}")
        command = getattr(loaded, what)
        if isinstance(command, typer.Typer):
            app.add_typer(command)
        else:
            app.command(name, epilog=loaded.EPILOG, hidden=name in _ALIASES)(command)
    return app


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    streams.open_missing()
    interruption = Interruption()
    try:
        code = _run(sys.argv[1:])
    except KeyboardInterrupt:
        # Asked again while the first time was told.
        code = CTRL_C
    interruption.give_up()
    streams.finish()
    if code == CTRL_C:
        # Threads may hang in a system call; what they hold on disk is understood by the next command.
        os._exit(interruption.exit_code(code))
    # All that is left goes with the process: without this, the interpreter looks through every object before it ends,
    # which takes 8 ms.
    gc.freeze()
    sys.exit(code)


def _run(argv: list[str]) -> int:
    """Run the command line, show what it fails with, and return its exit code."""
    # What follows `--` in `serve` is vLLM's; the parser would take its first word for a model where none is named.
    at = argv.index("--") if argv[:1] == ["serve"] and "--" in argv else len(argv)
    show.Output.here = Here(_before_dashes(argv))
    try:
        code = build(argv or projects.completed_words())(
            args=argv[:at], obj=argv[at + 1 :], prog_name="modelctl", standalone_mode=False
        )
        return int(code or 0)
    except ModelctlError as error:
        return _tell(error, argv)
    except _ParserError as exc:
        return _help_instead(exc) or _tell(_usage_error(exc), argv)
    except (_CtrlCError, KeyboardInterrupt, typer.Abort):
        return _end_quietly(argv)
    except _ReaderGoneError as gone:
        words = _before_dashes(argv)
        if _prints_lines(words) and not {"-h", "--help"} & {*words} and isinstance(gone.__cause__, OSError):
            # Of work that was under way nobody knows how it ended.
            return _tell(streams.unwritable(gone.__cause__), argv)
        # `modelctl list | head -1`: the reader has what it wanted. The signal itself stays ignored, since a closed
        # network connection raises it too.
        os._exit(0)
    except OSError as exc:
        if not _is_of_help(exc):
            raise
        return _tell(streams.unwritable(exc), argv)


def _help_instead(exc: Exception) -> int:
    """Show the help where a command was left out, and return the exit code; 0 where something else is wrong."""
    if type(exc).__name__ != "NoArgsIsHelpError":
        return 0
    for line in str(exc).rstrip().splitlines():
        show.Output().say(line)
    return 2


def _is_of_help(exc: OSError) -> bool:
    """Whether it is the parser that could not write: it prints help by itself, and says so nowhere else."""
    at = exc.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return at is not None and at.tb_frame.f_code.co_name == "echo"


def _usage_error(exc: Exception) -> ModelctlError:
    import re

    from modelctl.errors import UsageError

    message = exc.format_message() if hasattr(exc, "format_message") else str(exc)
    # In the words of our other messages: one line, no capital, no full stop, backticks round what was typed.
    message = re.sub(r"\. Choose from:\s*", ", one of ", message, flags=re.DOTALL)
    message = re.sub(r",?\s*\n\s*", ", ", message)
    message = re.sub(r"(?<![`\w-])--?[a-zA-Z][\w-]*", r"`\g<0>`", message.rstrip(".").replace("'", "`"))
    context = getattr(exc, "ctx", None)
    command = context.command_path if context else "modelctl"
    hint = f"see `{command} --help`"
    if command == "modelctl serve" and message.startswith("No such option"):
        hint = f"flags of vLLM stand after `--`; {hint}"
    return UsageError(message[:1].lower() + message[1:], hint=hint)


def _end_quietly(argv: list[str]) -> int:
    """Ctrl-C where a command has nothing to say of it: a person knows, a program waits for its last line."""
    if "--json" in _before_dashes(argv):
        return _tell(InterruptedByUserError("interrupted", hint="run the same command again"), argv)
    return CTRL_C


def _before_dashes(argv: list[str]) -> list[str]:
    return argv[: argv.index("--")] if "--" in argv else argv


def _prints_lines(words: list[str]) -> bool:
    command = " ".join(words[: 2 if words[:1] == ["engine"] else 1])
    return command in LINE_COMMANDS and "--dry-run" not in words


def _tell(error: ModelctlError, argv: list[str]) -> int:
    """Show an error where its reader looks: on stderr, and as JSON on stdout where that was asked for."""
    words = _before_dashes(argv)
    out = show.Output()
    if "--json" in words and not isinstance(error, streams.UnwritableError):
        value = show.error_object(error)
        try:
            if _prints_lines(words):
                out.event("error", error=value)
            else:
                out.object({"error": value})
        except (streams.UnwritableError, BrokenPipeError):
            streams.throw_away()
        else:
            return error.exit_code
    out.say(f"error: {error.message}")
    if error.hint:
        out.say(f"hint: {error.hint}")
    return error.exit_code
