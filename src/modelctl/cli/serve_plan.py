"""How a plan to serve is told: what is served with what, where it will answer, and all of it as an object."""

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from modelctl.cli import output as show

if TYPE_CHECKING:
    from modelctl.engine.service import ServePlan
    from modelctl.store.choice import Choice


def say(out: show.Output, choice: "Choice", planned: "ServePlan") -> None:
    """Say what is about to be served, and warn where others will reach it, or its key."""
    engine, served = planned.engine, planned.served
    if not out.json:
        why = f", {choice.reason}" if choice.reason else ""
        out.say(f"serving {served.id} at {served.commit[:12]} from the {_place(choice)}{why}")
        if choice.model.location == "cache":
            out.say(f"`modelctl migrate --from-cache {served.id}` moves it into the project")
        out.say(f"vLLM {engine.version} for {engine.device or 'an unknown device'} ({engine.how})")
    warn(out, planned)


def warn(out: show.Output, planned: "ServePlan", *, dry_run: bool = False) -> None:
    """Warn where others will reach what is about to be served, or its key."""
    for warning in _warnings(planned):
        out.note(warning, is_warning=True, beside_object=dry_run)


def _warnings(planned: "ServePlan") -> Iterator[str]:
    from modelctl.engine import api_key, command

    settings = planned.settings
    if not command.is_loopback(settings.host) and not (planned.with_key or planned.with_foreign_key):
        yield (
            f"everyone who reaches this machine can use the model at `--host {settings.host}`; "
            "`--api-key-file` or `VLLM_API_KEY` asks for a key"
        )
    if settings.api_key_file is not None and api_key.is_public(settings.api_key_file):
        path = shlex.quote(str(settings.api_key_file))
        yield f"every user of this machine can read the key; `chmod 600 {path}` keeps it to you"


def _place(choice: "Choice") -> str:
    return {"project": "project", "cache": "user cache"}[choice.model.location]


def access(planned: "ServePlan", tasks: tuple[str, ...]) -> dict[str, Any]:
    """Where the server answers, and a request to try it with; nowhere, where it only computes for another machine."""
    if planned.settings.is_headless:
        return {"url": None, "base_url": None, "curl": None}
    from modelctl.engine import example

    known = tasks or ((planned.served.task,) if planned.served.task else ())
    name = planned.settings.served_names[0]
    return {
        "url": planned.url,
        "base_url": f"{planned.url}/v1",
        "curl": example.curl(planned.url, name, known, chats=planned.chats, key=_key(planned)),
    }


def _key(planned: "ServePlan") -> str | None:
    """What a shell has to put in for the key: the user's variable, or what the key file holds; for one, the user."""
    if planned.with_foreign_key:
        return "KEY"
    if (path := planned.settings.api_key_file) is not None:
        return f"$(cat {shlex.quote(str(path))})"
    return "$VLLM_API_KEY" if planned.with_key else None


def plan_object(planned: "ServePlan") -> dict[str, Any]:
    """The plan under `--json`."""
    from modelctl.engine import flags

    served, engine = planned.served, planned.engine
    return {
        "id": served.id,
        "commit": served.commit,
        "path": served.snapshot,
        "served_model_names": list(planned.settings.served_names),
        "url": None if planned.settings.is_headless else planned.url,
        "base_url": None if planned.settings.is_headless else f"{planned.url}/v1",
        "offline": planned.offline,
        "engine": {
            "python": engine.python,
            "version": engine.version,
            "device": engine.device,
            "how": engine.how,
            "image": engine.image and engine.image.name,
        },
        "loras": [
            {"name": lora.name, "id": lora.id, "commit": lora.commit, "path": lora.path}
            for lora in planned.settings.loras
        ],
        "argv": list(flags.shown(planned.command.argv)),
    }
