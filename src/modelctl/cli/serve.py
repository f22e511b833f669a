"""`modelctl serve`: a model of this project behind vLLM's API, in the foreground or on its own."""

import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelctl import project as projects
from modelctl import ref as refs
from modelctl.cli import completion, options, quantities, serve_plan
from modelctl.cli import output as show
from modelctl.errors import ModelctlError, NotFoundError, NotWholeError, UsageError

if TYPE_CHECKING:
    from modelctl.cli.preparing import Wishes
    from modelctl.engine.command import Settings
    from modelctl.engine.discovery import Engine
    from modelctl.engine.profile import Profiles
    from modelctl.engine.servers import ServerRecord
    from modelctl.engine.service import ServePlan
    from modelctl.project import Project
    from modelctl.store.choice import Choice
    from modelctl.store.model import Facts

EPILOG = """\b
Examples:
  modelctl serve
  modelctl serve Qwen/Qwen3-0.6B --port 8001
  modelctl serve qwen3-0.6b --max-model-len 8k
  modelctl serve acme/tiny --pull
  modelctl serve acme/tiny --detach --ttl 30m
  modelctl serve acme/tiny --lora sql=acme/tiny-sql --api-key-file key.txt
  modelctl serve acme/tiny --image vllm/vllm-openai:v0.33.0
  modelctl serve acme/tiny -- --enforce-eager --dtype float16
  modelctl serve acme/tiny --dry-run

Exit codes: 0 stopped by SIGTERM or SIGHUP, 130 by Ctrl-C, 5 no room for it, 1 any other failure of vLLM.
"""


def serve(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[REPO[@REV]]", help="A model here (default: the project's own).", autocompletion=completion.models
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", "-p", metavar="PORT", min=0, max=65535, help="0: a free one (default: 8000)."),
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", metavar="HOST", help="The address to listen at (default: 127.0.0.1).")
    ] = None,
    served_model_name: Annotated[
        list[str] | None,
        typer.Option("--served-model-name", metavar="NAME", help="Its name in requests (default: its id); repeatable."),
    ] = None,
    python: Annotated[
        Path | None, typer.Option("--python", metavar="PATH", help="An interpreter or environment that has vLLM.")
    ] = None,
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="IMAGE", help="A container image that has vLLM, for docker or podman."),
    ] = None,
    pull: Annotated[bool, typer.Option("--pull", help="Pull the model first where it is not here.")] = False,
    max_model_len: Annotated[
        str | None, typer.Option("--max-model-len", metavar="TOKENS", help="The context: 8192, 8k or auto.")
    ] = None,
    gpu_memory_utilization: Annotated[
        float | None,
        typer.Option("--gpu-memory-utilization", metavar="SHARE", min=0.01, max=1.0, help="Of each GPU's memory."),
    ] = None,
    tensor_parallel_size: Annotated[
        int | None, typer.Option("--tensor-parallel-size", metavar="N", min=1, help="GPUs to divide the model among.")
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option("--lora", metavar="NAME=REPO|PATH", help="Serve an adapter beside the model; repeatable."),
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", metavar="FILE", help="Ask requests for the key in this file.")
    ] = None,
    nnodes: Annotated[
        int | None, typer.Option("--nnodes", metavar="N", min=1, help="Machines to divide the model among.")
    ] = None,
    node_rank: Annotated[
        int | None, typer.Option("--node-rank", metavar="R", min=0, help="Which of them this one is; 0 answers.")
    ] = None,
    master_addr: Annotated[
        str | None, typer.Option("--master-addr", metavar="ADDRESS", help="Where the others reach the one of rank 0.")
    ] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Divide the model among the machines of a Ray cluster.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Start also what is bound to fail.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Give up when it is not ready by then."),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when it is ready; `stop` ends it, `ps` shows it.")
    ] = False,
    ttl: Annotated[
        str | None, typer.Option("--ttl", metavar="TIME", help="End it after so long without a request, as in 30m.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show vLLM's log too, as it comes.")] = False,
    models_dir: options.ModelsDir = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Serve a model with vLLM until Ctrl-C. What follows -- goes to vLLM.

    modelctl.toml beside models/ holds defaults for it and for single models.
    """
    from modelctl.cli import dry_running, preparing
    from modelctl.engine import discovery, settings_file

    if timeout is not None and not math.isfinite(timeout):
        raise UsageError(
            f"`--timeout` is no number of seconds: `{timeout}`", hint="leave it out to wait without a limit"
        )
    idle = None if ttl is None else quantities.seconds(ttl, option="--ttl")
    wishes = preparing.Wishes(
        host=host,
        port=port,
        served_names=tuple(served_model_name or ()),
        max_model_len=max_model_len,
        gpu_memory_utilization=gpu_memory_utilization,
        tensor_parallel_size=tensor_parallel_size,
        python=python,
        image=image,
        loras=tuple(lora or ()),
        api_key_file=api_key_file,
        nnodes=nnodes,
        node_rank=node_rank,
        master_addr=master_addr,
        ray=ray,
        extra=tuple(context.obj or ()),
    )
    preparing.check(wishes)
    project, out = projects.locate(models_dir), show.Output(json=json)
    profiles = settings_file.read(project)
    with preparing.looking(project) as machine:
        choice, facts = _chosen(project, out, name, wishes, profiles, pull=pull, dry_run=dry_run)
        prepared = preparing.settle(project, wishes, profiles, choice.model.id)
        engine = discovery.required(project, python=python, image=prepared.image)
        unusable = discovery.unusable(engine)
        if unusable is not None and not dry_run:
            raise unusable
        verdict = preparing.judged(prepared, choice, facts, engine, machine)
    refusal = preparing.told(out, verdict, unusable=unusable, force=force, dry_run=dry_run)
    planned = _plan(prepared.project, choice, facts, engine=engine, settings=verdict.settings)
    if idle is not None:
        _check_counted(planned.settings)
    if dry_run:
        serve_plan.warn(out, planned, dry_run=True)
        dry_running.show(out, project, planned, told=serve_plan.plan_object(planned), refusal=refusal)
        return
    _run(out, choice, planned, timeout=timeout, ttl=idle, detach=detach, verbose=verbose)


def _check_counted(settings: "Settings") -> None:
    """Refuse a time without requests where nobody knows of any."""
    from modelctl.engine import flags

    if settings.is_headless:
        raise UsageError("`--ttl` counts requests, and this machine gets none", hint="give it to that of rank 0")
    if flags.given(settings.words, "--disable-log-stats") is not None:
        raise UsageError("`--ttl` counts requests, and with `--disable-log-stats` vLLM does not", hint="leave one away")


def _chosen(
    project: "Project",
    out: show.Output,
    name: str | None,
    wishes: "Wishes",
    profiles: "Profiles",
    *,
    pull: bool,
    dry_run: bool,
) -> tuple["Choice", "Facts"]:
    """The model to serve, whole: what is not here is pulled where the user said so."""
    from modelctl.store import choice as choosing

    def choose() -> tuple["Choice", "Facts"]:
        choice = choosing.choose(project, name)
        has_tokenizer = wishes.has_tokenizer or profiles.of(choice.model.id).has_tokenizer
        return choice, choosing.check_servable(choice, has_tokenizer=has_tokenizer)

    try:
        return choose()
    except (NotFoundError, NotWholeError) as error:
        wanted = name or (projects.default_model(project) or ("",))[0]
        if not pull or dry_run or not wanted:
            raise
        try:
            ref = refs.parse(wanted)
        except ModelctlError:
            raise error from None
    _pull(project, out, ref)
    return choose()


def _pull(project: "Project", out: show.Output, ref: refs.ModelRef) -> None:
    from modelctl.cli import pulling
    from modelctl.hub import plan as planning
    from modelctl.hub.workers import Limits

    limits = Limits()
    hub = pulling.connect(project, None, patience=pulling.patience(out, limits))
    with pulling.choices_named():
        planned = planning.plan(hub, project.hub, ref, choice=planning.Choice(), offline=projects.is_offline(project))
    if not out.json:
        pulling.say_plan(out, planned)
    pulling.execute(out, planned, hub, limits)


def _plan(
    project: "Project", choice: "Choice", facts: "Facts", *, engine: "Engine", settings: "Settings"
) -> "ServePlan":
    from dataclasses import replace

    from modelctl.engine import command, ports, service
    from modelctl.engine.service import Served

    names = command.served_names(choice.model.id, command.typed_name(choice.ref, choice.typed), settings.served_names)
    # One that only computes takes no port; it must not be in the way of who answers.
    port = 0 if settings.is_headless else settings.port
    settings = replace(settings, served_names=names, port=port or ports.choose(settings.host))
    served = Served(
        id=choice.model.id,
        commit=choice.revision.commit,
        snapshot=choice.revision.path,
        context=facts.context_length,
        task=facts.task,
        weights=facts.weights,
    )
    return service.plan(project, served, engine, settings)


def _run(
    out: show.Output,
    choice: "Choice",
    planned: "ServePlan",
    *,
    timeout: float | None,
    ttl: float | None,
    detach: bool,
    verbose: bool,
) -> None:
    from modelctl.cli import echo, ending, loading
    from modelctl.engine import background, logs, servers, service

    model = planned.served.id
    before = logs.last_start(servers.logs_folder(), model)
    serve_plan.say(out, choice, planned)
    begun: list[ServerRecord] = []

    def announce(record: "ServerRecord") -> None:
        begun.append(record)
        if out.json:
            told = serve_plan.plan_object(planned)
            out.event("plan", **told, log=record.log, server=record.id, detached=detach, ttl=ttl, last_start=before)
        else:
            out.say(f"log: {record.log}")
        if verbose:
            screen.enter_context(echo.of(record, out))

    watcher = loading.watcher(
        out,
        model=model,
        ready=lambda tasks: serve_plan.access(planned, tasks),
        how="it runs on" if detach else "Ctrl-C stops it",
        before=before,
        verbose=verbose,
    )
    with watcher, contextlib.ExitStack() as screen:
        if detach:
            result = background.start(planned, watcher, timeout=timeout, ttl=ttl, announce=announce)
        else:
            result = service.execute(planned, watcher, timeout=timeout, ttl=ttl, announce=announce)
    if isinstance(result, service.Result):
        ending.finish(out, planned, result, timeout=timeout, ttl=ttl, detached=detach)
    else:
        ending.leave(out, begun[-1], hangup=result is not None)
