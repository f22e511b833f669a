"""What vLLM's log tells of a failure: why it failed, and what to do (pure).

The lines are those of vLLM 0.11 to 0.33. What is not recognised is shown as it stands.
"""

import re
from collections.abc import Iterable, Sequence

from modelctl.engine import causes
from modelctl.engine.causes import Cause

# "(EngineCore pid=9240) ERROR 11-22 21:52:21 [core.py:1510] ValueError: ...": a process of the engine, its error.
_PREFIX = re.compile(r"^\((?P<process>\w+)(?:[^\w)][^)]*)?\)\s+")
_LOGGED = re.compile(r"^(?P<level>[A-Z]+) [\d-]+ [\d:]+ \[[^\]]*\] ?(?P<text>.*)$")
_EXCEPTION = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*(?P<name>[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning)|Exception|SystemExit)"
    r"(?:: (?P<text>.*))?$"
)
_PARSER_ERROR = re.compile(r"^\S+(?: \S+)?: error: (?P<text>.+)$")
_PYDANTIC = re.compile(r"^\s+(?:Value error, |Assertion failed, )?(?P<text>.+?)(?: \[type=.*)?$")
# What is said of a process that could not say why it ended.
_DEATH = re.compile(r"died unexpectedly|^Fatal Python error|^Bus error|^Illegal instruction")
_SHADOWS = (
    "Engine core initialization failed",
    "EngineCore encountered an issue",
    "See root cause above",
    "WorkerProc initialization failed",
    "Executor failed.",
)
# What Python, its threads, its loggers and asyncio say before they tell of an exception that did not end a program.
_GOES_ON = ("Exception ignored in", "Exception in thread ", "--- Logging error ---", "future: <", "handle: <")
_CHAINED = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)


def said(line: str) -> str:
    """A line without the name of the process that says it."""
    prefix = _PREFIX.match(line)
    return line[prefix.end() if prefix else 0 :].rstrip()


def begins_traceback(text: str) -> bool:
    """Whether Python itself begins to tell of an exception here, which nobody caught: a logger would say who it is."""
    return text == "Traceback (most recent call last):"


def goes_on(text: str) -> bool:
    """Whether it is said of the exception that follows that the main thread goes on."""
    return text.startswith(_GOES_ON)


def is_chained(text: str) -> bool:
    """Whether it is said of the exception that follows that it came of the one before."""
    return text in _CHAINED


def cause(lines: Sequence[str], *, model: str) -> Cause | None:
    """Why it failed: the first error of a process of the engine, else the last one of the server itself.

    Never the very last line: vLLM ends most failures with one that says to look above.
    """
    texts, shadows = _errors(lines)
    for text in (*texts, *shadows):
        if (cause := causes.known(text, model=model)) is not None:
            return cause
    if texts:
        return Cause("unknown", _shortened(texts[0]))
    return Cause("engine", "one of its processes ended without saying why") if shadows else None


def _errors(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """What the log tells of failures, the likeliest cause first, and what it says only in consequence of them."""
    engine: list[str] = []
    server: list[str] = []
    requests: list[str] = []
    deaths: list[str] = []
    shadows: list[str] = []
    for at, raw in enumerate(lines):
        prefix = _PREFIX.match(raw)
        text = raw[prefix.end() :] if prefix else raw
        logged = _LOGGED.match(text)
        if logged and logged["level"] not in {"ERROR", "CRITICAL"}:
            continue
        text = logged["text"] if logged else text
        if parser := _PARSER_ERROR.match(text):
            server.append(parser["text"])
        if _DEATH.search(text):
            deaths.append(text.strip())
        if (found := _EXCEPTION.match(text)) is None:
            continue
        sentence = _sentence(found, lines[at + 1 : at + 2])
        if any(shadow in sentence for shadow in _SHADOWS):
            shadows.append(sentence)
        elif logged and prefix and prefix["process"] != "APIServer":
            engine.append(sentence)
        elif logged:
            # The server tells of requests that failed, too, and goes on.
            requests.append(sentence)
        else:
            server.append(sentence)
    # An engine's first error is the cause of the others; of the server's own traceback the last exception is the one
    # that was raised at the end of a chain, and says most.
    return [*engine, *reversed(server), *deaths] or ([] if shadows else requests), shadows


def _sentence(found: re.Match[str], following: Iterable[str]) -> str:
    name, text = found["name"], found["text"] or ""
    # pydantic counts its errors in the first line and tells them in the next.
    if name == "ValidationError":
        for line in following:
            if inner := _PYDANTIC.match(line):
                return inner["text"]
    return f"{name}: {text}" if text else name


def _shortened(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else f"{text[:limit].rstrip()}..."
