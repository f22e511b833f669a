"""What `serve` is asked for, from the command line and `modelctl.toml`, and whether it can be done."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelctl import project as projects
from modelctl.cli import output as show
from modelctl.errors import ModelctlError, UsageError

if TYPE_CHECKING:
    from modelctl.cli.fitting import Asked
    from modelctl.engine.command import Lora, Settings
    from modelctl.engine.discovery import Engine
    from modelctl.engine.draft import Draft
    from modelctl.engine.preflight import Verdict
    from modelctl.engine.profile import Profile, Profiles
    from modelctl.project import Project
    from modelctl.store.choice import Choice
    from modelctl.store.model import Facts

HOST, PORT = "127.0.0.1", 8000


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What stands on the command line; what is `None` or empty there is for the file to say."""

    host: str | None
    port: int | None
    served_names: tuple[str, ...]
    max_model_len: str | None
    gpu_memory_utilization: float | None
    tensor_parallel_size: int | None
    python: Path | None
    image: str | None
    loras: tuple[str, ...]
    api_key_file: Path | None
    nnodes: int | None
    node_rank: int | None
    master_addr: str | None
    ray: bool
    extra: tuple[str, ...]

    @property
    def has_tokenizer(self) -> bool:
        """Whether the model needs no tokenizer of its own."""
        from modelctl.engine import flags

        return flags.mentions(self.extra, flags.TOKENIZER)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The settings of one start, and the project with the key that requests need in its environment.

    `image` is the container image that is to be run, where one is wanted; `draft` the model beside it that drafts.
    """

    project: "Project"
    settings: "Settings"
    image: str | None
    draft: "Draft | None"


def check(wishes: Wishes) -> None:
    """Refuse what cannot mean anything, before anything is read."""
    from modelctl.engine import command, flags, lora
    from modelctl.engine.command import Settings

    command.check(
        Settings(
            max_model_len=wishes.max_model_len,
            gpu_memory_utilization=wishes.gpu_memory_utilization,
            tensor_parallel_size=wishes.tensor_parallel_size,
            extra=wishes.extra,
        )
    )
    if wishes.python is not None and wishes.image is not None:
        raise UsageError("`--python` and `--image` contradict each other", hint="give one of them")
    lora.parsed(wishes.loras)
    if wishes.loras and flags.given(wishes.extra, "--lora-modules") is not None:
        raise UsageError("`--lora` and `--lora-modules` contradict each other", hint="give one of them")


def looking(project: "Project") -> "Asked":
    """Ask what the machine has, in a `with`, beside whatever else is read."""
    from modelctl.cli import fitting

    return fitting.asked(project)


def settle(project: "Project", wishes: Wishes, profiles: "Profiles", model_id: str) -> Prepared:
    """The settings: the command line over the model's table over the defaults of `modelctl.toml`."""
    from modelctl.engine import api_key, command, configured, draft, flags, lora
    from modelctl.engine.command import Settings

    mine = profiles.of(model_id)
    loras, max_rank = _loras(project, wishes, mine)
    settings = Settings(
        host=wishes.host if wishes.host is not None else mine.host or HOST,
        port=next((port for port in (wishes.port, mine.port) if port is not None), PORT),
        served_names=wishes.served_names or mine.served_names,
        max_model_len=wishes.max_model_len,
        gpu_memory_utilization=wishes.gpu_memory_utilization,
        tensor_parallel_size=wishes.tensor_parallel_size,
        loras=loras,
        nnodes=wishes.nnodes or (None if wishes.ray else mine.nnodes),
        node_rank=wishes.node_rank,
        master_addr=wishes.master_addr or (None if wishes.ray else mine.master_addr),
        ray=wishes.ray or (mine.ray and wishes.nnodes is None and flags.given(wishes.extra, command.EXECUTOR) is None),
        extra=(*mine.words(over=(*_named(wishes), *wishes.extra)), *wishes.extra),
    )
    if (told := flags.given(settings.extra, "--max-lora-rank")) is None:
        settings = replace(settings, max_lora_rank=max_rank)
    elif (most := flags.whole(told)) is not None:
        lora.check_rank(loras, most)
    settings = replace(settings, configured=configured.words(settings.extra))
    command.check(settings)
    beside = draft.of(project, settings.extra, target=model_id)
    if taken := {model_id, *settings.served_names} & {each.name for each in loras}:
        raise UsageError(f"an adapter cannot be called `{min(taken)}`", hint="that is the name of the model itself")
    key_file = wishes.api_key_file or (None if project.environ.get(api_key.VARIABLE) else mine.api_key_file)
    if key_file is not None:
        project = replace(project, environ={**project.environ, api_key.VARIABLE: api_key.read(key_file)})
        settings = replace(settings, api_key_file=key_file.absolute())
    # What names a vLLM in the environment stands over the file too.
    is_named = wishes.python or projects.vllm_python(project) or projects.vllm_image(project)
    image = wishes.image or (None if is_named else mine.image)
    return Prepared(project=project, settings=settings, image=image, draft=beside)


def judged(prepared: Prepared, choice: "Choice", facts: "Facts", engine: "Engine", machine: "Asked") -> "Verdict":
    """Whether vLLM can serve it here, told from files and flags."""
    from modelctl.cli import fitting
    from modelctl.engine import machine as machines
    from modelctl.engine import preflight

    model = choice.model._replace(revisions=(choice.revision,), facts=facts)
    here = machines.without_gpu() if engine.device == "cpu" else machine.machine
    need, draft = fitting.need(model), prepared.draft
    if need is not None and draft is not None:
        need = replace(need, weights=need.weights + draft.weights, draft=draft.config)
    asked = preflight.Model(
        id=choice.model.id,
        need=need,
        architecture=None if facts.format == "gguf" else facts.architecture,
        context=facts.context_length,
    )
    return preflight.judge(asked, engine, prepared.settings, here, environ=prepared.project.environ)


def told(
    out: show.Output, verdict: "Verdict", *, unusable: ModelctlError | None, force: bool, dry_run: bool
) -> ModelctlError | None:
    """Say what is worth a line, and refuse what cannot work; a dry run only says that it would be refused.

    `unusable`: what is amiss with vLLM on this machine, which no force helps.
    """
    refusal = unusable or (None if force else verdict.refusal)
    if refusal is not None and not dry_run:
        raise refusal
    if verdict.note:
        out.note(verdict.note, beside_object=dry_run)
    if (problem := unusable or verdict.refusal) is not None:
        end = " (--force)" if refusal is None else ", and is refused"
        out.note(f"{problem.message}{end}", is_warning=True, beside_object=dry_run)
    return refusal


def _loras(project: "Project", wishes: Wishes, mine: "Profile") -> "tuple[tuple[Lora, ...], int | None]":
    """The adapters, and the rank that vLLM has to be prepared for."""
    if not wishes.loras and not mine.loras:
        return (), None
    from modelctl.engine import flags, lora

    if wishes.loras:
        found = lora.resolved(project, lora.parsed(wishes.loras), folder=Path.cwd())
    elif flags.given(wishes.extra, "--lora-modules") is not None:
        # Said by a flag of vLLM's: of two lists it would take the last.
        return (), None
    else:
        found = lora.resolved(project, mine.loras, folder=mine.folder)
    return found, lora.max_rank(found)


def _named(wishes: Wishes) -> list[str]:
    """The flags of vLLM that options of ours give."""
    options = {
        "--max-model-len": wishes.max_model_len,
        "--gpu-memory-utilization": wishes.gpu_memory_utilization,
        "--tensor-parallel-size": wishes.tensor_parallel_size,
        "--distributed-executor-backend": wishes.ray or None,
    }
    return [flag for flag, value in options.items() if value is not None]
