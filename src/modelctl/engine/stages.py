"""How far the start of a vLLM is, by what its log says (pure).

The lines are those of vLLM 0.11 to 0.33. What a model says may stand in them: numbers have an end.
"""

import re
from dataclasses import dataclass, replace

from modelctl import units
from modelctl.engine.symptom import NUMBER


@dataclass(frozen=True, slots=True)
class Stage:
    """How far a start is. `order` only grows; `text` is for people, `name` for programs.

    While weights are read, `done` of `total` bytes are, at `rate` bytes a second; the KV cache holds `kv_tokens`, which
    are `kv_requests` requests of full length. What nothing tells is `None`. `sums_up` is said of one that tells what a
    stage came to, `silence` are the seconds in which nothing new was said.
    """

    order: int
    name: str
    text: str
    done: int | None = None
    total: int | None = None
    rate: float | None = None
    kv_tokens: int | None = None
    kv_requests: float | None = None
    sums_up: bool = False
    silence: float = 0.0


STARTING = Stage(0, "imports", "importing vLLM")
READY = Stage(99, "ready", "ready")
STOPPING = Stage(100, "stopping", "stopping")

# The order of what is told of the weights.
_WEIGHTS = 40
_ENDED_WEIGHTS = re.compile(rf"Loading weights took (?P<seconds>{NUMBER}) seconds")
_SHARDS = re.compile(r"Loading \S+ checkpoint shards:\s+\d+% Completed \| (?P<done>\d{1,9})/(?P<total>\d{1,9})\b")
# One line of vLLM 0.32, two of those before.
_TOKENS = re.compile(r"KV cache size: (?P<tokens>\d[\d,]{0,15}) tokens")
_REQUESTS = re.compile(
    rf"Maximum concurrency for (?P<length>\d[\d,]{{0,15}}) tokens per request: (?P<requests>{NUMBER})x"
)
_TASKS = re.compile(r"Supported tasks: \[((?:'[^']*'(?:, )?)*)\]")
_STAGES = tuple(
    (Stage(order, name, text), re.compile(pattern))
    for order, name, text, pattern in (
        (10, "arguments", "reading the arguments", r"\bversion \d+\.\d+|non-default args:"),
        (
            20,
            "config",
            "reading the model's configuration",
            r"Resolved architecture: (?P<detail>\w+)|Using max model len",
        ),
        (30, "engine", "starting the engine", r"Initializing a V1 LLM engine"),
        (_WEIGHTS, "weights", "loading the weights", r"Starting to load model"),
        (
            50,
            "compile",
            "compiling the model",
            r"Warming up model for the compilation|for vLLM's torch\.compile|Dynamo bytecode transform|"
            r"Compiling a graph|torch\.compile takes",
        ),
        (60, "kv_cache", "setting up the KV cache", r"Auto-fit max_model_len"),
        (
            70,
            "graphs",
            "capturing CUDA graphs",
            r"Capturing CUDA graphs?(?:.*\| (?P<detail>\d+/\d+) \[)?|Graph capturing",
        ),
        (80, "warmup", "warming up", r"init engine \(profile, create kv cache, warmup model\) took"),
        (90, "server", "starting the server", r"Starting vLLM (?:API )?server|Application startup complete"),
    )
)
# Below this a rate says how long it takes to say so.
_TELLING = 0.2


class Course:
    """The course of one start, line by line; `weights` are the bytes that the model's take, where that is known."""

    def __init__(self, *, weights: int | None = None) -> None:
        self.stage = STARTING
        self.tasks: tuple[str, ...] = ()
        self._weights = weights
        self._first_shard_at: float | None = None

    @property
    def has_loaded(self) -> bool:
        """Whether the weights are all there, which is all that a log tells of one that only computes."""
        return self.stage.order > _WEIGHTS or (self.stage.order == _WEIGHTS and self.stage.sums_up)

    def heard(self, line: str, *, at: float) -> bool:
        """Take note of a line that came `at` a time in seconds; whether the start got further by it."""
        self.tasks = tasks(line) or self.tasks
        reached = self._reached(line, at)
        if reached is None or reached.order < self.stage.order or reached == self.stage:
            return False
        if reached.name == self.stage.name == "weights" and self.stage.sums_up:
            # Another process of the engine, each of which loads its part.
            return False
        self.stage = reached
        return True

    def _reached(self, line: str, at: float) -> Stage | None:
        if match := _SHARDS.search(line):
            return self._shards(int(match["done"]), int(match["total"]), at)
        if match := _ENDED_WEIGHTS.search(line):
            return self._loaded(float(match["seconds"]))
        if tokens := _TOKENS.search(line):
            return _cache(tokens, _REQUESTS.search(line), Stage(60, "kv_cache", ""))
        if requests := _REQUESTS.search(line):
            return _cache(None, requests, self.stage)
        return stage(line)

    def _shards(self, done: int, total: int, at: float) -> Stage:
        if self._first_shard_at is None:
            self._first_shard_at = at
        loaded = Stage(_WEIGHTS, "weights", f"loading the weights ({done}/{total})")
        if not self._weights or not total:
            return loaded
        read = self._weights * min(done, total) // total
        seconds = at - self._first_shard_at
        rate = read / seconds if done and seconds >= _TELLING else None
        speed = f", {units.size(rate)}/s" if rate else ""
        text = f"loading the weights ({done}/{total}, {units.size(read)} of {units.size(self._weights)}{speed})"
        return replace(loaded, text=text, done=read, total=self._weights, rate=rate)

    def _loaded(self, seconds: float) -> Stage:
        if not self._weights:
            return Stage(_WEIGHTS, "weights", "loaded the weights", sums_up=True)
        rate = self._weights / seconds if seconds >= _TELLING else None
        speed = f" at {units.size(rate)}/s" if rate else ""
        text = f"loaded the weights ({units.size(self._weights)}{speed})"
        return Stage(_WEIGHTS, "weights", text, done=self._weights, total=self._weights, rate=rate, sums_up=True)


def silent(before: Stage, seconds: float) -> Stage:
    """The stage of a start that has said nothing for so long."""
    return replace(before, text=f"{before.text}, nothing new for {seconds:.0f} s", silence=seconds, sums_up=False)


def stage(line: str) -> Stage | None:
    """The stage that a log line by itself tells of."""
    for known, pattern in _STAGES:
        if match := pattern.search(line):
            detail = match.groupdict().get("detail")
            return replace(known, text=f"{known.text} ({detail})") if detail else known
    return None


def tasks(line: str) -> tuple[str, ...] | None:
    """What the server can be asked for (`generate`, `embed`, ...), where a line tells."""
    match = _TASKS.search(line)
    return tuple(re.findall(r"'([^']+)'", match[1])) if match else None


def _cache(tokens: re.Match[str] | None, requests: re.Match[str] | None, before: Stage) -> Stage | None:
    """The KV cache, from one line or, after what stood `before`, from the second of two."""
    count = int(tokens["tokens"].replace(",", "")) if tokens else before.kv_tokens
    if count is None or before.name != "kv_cache":
        return None
    words = f"{count:,} tokens"
    times = None
    if requests:
        times = float(requests["requests"])
        words += f", {times:g} requests of {requests['length']}"
    text = f"setting up the KV cache ({words})"
    return Stage(60, "kv_cache", text, kv_tokens=count, kv_requests=times, sums_up=True)
