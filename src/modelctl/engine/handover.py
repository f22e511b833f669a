"""The configuration of other systems that run vLLM, from the same model and settings as `serve` (pure).

Nothing is orchestrated here: each of these documents says what the system has to know of the model, and leaves to it
how many there are and where they run.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

from modelctl.engine import memory, mounts, profile
from modelctl.engine.command import Lora
from modelctl.engine.profile import Value
from modelctl.engine.subject import Configuration, Subject

Format = Literal["vllm", "compose", "ray-serve", "production-stack", "kserve"]
FORMATS: tuple[Format, ...] = get_args(Format)
IMAGE = "vllm/vllm-openai"
_GIB = 2**30
_HUB = "/models/hub"
# What only the server itself has to do with, where another system has one of its own.
_OF_THE_SERVER = re.compile(
    r"ssl-|uvicorn-|allow-credentials|allowed-(origins|methods|headers)|root-path|shutdown-timeout|disable-fastapi"
    r"|disable-uvicorn"
)
# The numbers that vLLM's command line takes in words, beside the context.
_IN_WORDS = {"max-num-batched-tokens", "max-num-scheduled-tokens", "max-num-queued-tokens", "kv-cache-memory-bytes"}


def configuration(subject: Subject, kind: Format) -> Configuration:
    """The document of one system."""
    return _WRITERS[kind](subject)


def _vllm(subject: Subject) -> Configuration:
    document: dict[str, Any] = {"model": str(subject.snapshot), "served-model-name": [*subject.names]}
    document |= {"host": subject.host, "port": subject.port}
    # Its file cannot say a flag twice.
    gone = {key for key, value in subject.flags.items() if key in profile.REPEATED and isinstance(value, list)}
    flags = {key: value for key, value in subject.flags.items() if key not in gone}
    document |= dict(_entry(key, value) for key, value in {**flags, **subject.nodes}.items())
    if subject.loras:
        document |= {"enable-lora": True, "lora-modules": [_lora(one, str(one.path)) for one in subject.loras]}
        document |= {"max-lora-rank": subject.max_lora_rank} if subject.max_lora_rank else {}
    notes = [f"`{key}` is left out: the file can say it once only" for key in gone]
    usage = "HF_HUB_OFFLINE=1 vllm serve --config FILE"
    return Configuration(document=document, usage=usage, notes=(*notes, *_key_note(subject)))


def _compose(subject: Subject) -> Configuration:
    mounted: mounts.Mounts = {subject.hub: _HUB}
    loras = _lora_words(subject, [_lora(one, mounts.of_lora(one, mounted)) for one in subject.loras])
    files = {key: mounts.of_file(path, key, mounted) for key, path in subject.files.items()}
    inside = f"{_HUB}/{subject.snapshot.relative_to(subject.hub)}"
    command = [
        inside,
        "--served-model-name",
        *subject.names,
        "--port",
        "8000",
        *_words({**subject.flags, **files}),
        *loras,
    ]
    environment = {"HF_HOME": "/models", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if subject.with_key:
        environment["VLLM_API_KEY"] = "${VLLM_API_KEY:?the key that requests have to bring}"
    volumes: list[Any] = [
        {
            "type": "bind",
            "source": _plain(mounts.source(path, subject.folder)),
            "target": _plain(target),
            "read_only": True,
        }
        for path, target in mounted.items()
    ]
    service = {
        "image": _plain(subject.image or f"{IMAGE}:latest"),
        "command": [*map(_plain, command)],
        "environment": environment,
        "volumes": [*volumes, {"type": "volume", "source": "vllm-cache", "target": "/root/.cache"}],
        "ports": [_plain(f"{_bracketed(subject.host)}:{subject.port}:8000")],
        "ipc": "host",
        "deploy": {
            "resources": {
                "reservations": {"devices": [{"driver": "nvidia", "count": subject.gpus, "capabilities": ["gpu"]}]}
            }
        },
        "healthcheck": {
            "test": ["CMD", "curl", "-fsS", "http://127.0.0.1:8000/health"],
            "interval": "10s",
            "timeout": "5s",
            "retries": 3,
            "start_period": "30m",
        },
        "stop_grace_period": "45s",
        "restart": "unless-stopped",
    }
    return Configuration(
        document={"services": {subject.slug: service}, "volumes": {"vllm-cache": {}}},
        usage=f"docker compose -f FILE up -d, in `{subject.folder}`",
        notes=_left_out(subject, {**subject.nodes}),
    )


def _ray_serve(subject: Subject) -> Configuration:
    kept, gone = _without_server(subject.flags)
    model = {
        "model_loading_config": {"model_id": subject.names[0], "model_source": str(subject.snapshot)},
        "engine_kwargs": dict(_keyword(key, value) for key, value in kept.items()),
        "deployment_config": {"autoscaling_config": {"min_replicas": 1, "max_replicas": 1}},
    }
    application = {
        "name": subject.slug,
        "route_prefix": "/",
        "import_path": "ray.serve.llm:build_openai_app",
        "args": {"llm_configs": [model]},
    }
    gone |= {"served-model-name": True} if len(subject.names) > 1 else {}
    gone |= {"lora": True} if subject.loras else {}
    return Configuration(
        document={"http_options": {"host": subject.host, "port": subject.port}, "applications": [application]},
        usage="serve deploy FILE (or `serve run FILE`); the model has to lie at the same path on every node",
        notes=(
            *_left_out(subject, {**gone, **subject.nodes}),
            *(
                f"`{path}` has to lie at the same path on every node"
                for key, path in subject.files.items()
                if key in kept
            ),
            *_key_note(subject),
        ),
    )


def _production_stack(subject: Subject) -> Configuration:
    kept, gone = _without_server(_anywhere(subject))
    config: dict[str, Any] = {}
    known = {
        "tensor-parallel-size": "tensorParallelSize",
        "max-model-len": "maxModelLen",
        "dtype": "dtype",
        "gpu-memory-utilization": "gpuMemoryUtilization",
    }
    rest = {}
    for key, value in kept.items():
        number = _number(value) if key == "max-model-len" else value
        if key in known and number is not None:
            config[known[key]] = number
        else:
            rest[key] = value
    loras, local = _fetched(subject)
    repository, tag = _image(subject)
    extra = ["--revision", subject.commit, "--served-model-name", *subject.names, *_words(rest), *loras]
    model = {
        "name": subject.slug,
        "repository": repository,
        "tag": tag,
        "modelURL": subject.id,
        "replicaCount": 1,
        "requestCPU": 6,
        "requestMemory": f"{_memory(subject)}Gi",
        "requestGPU": subject.gpus,
        "pvcStorage": f"{_storage(subject)}Gi",
        "vllmConfig": {**config, "extraArgs": [*map(_plain, extra)]},
    }
    return Configuration(
        document={"servingEngineSpec": {"runtimeClassName": "", "modelSpec": [model]}},
        usage="helm install vllm vllm/vllm-stack -f FILE",
        notes=(*_left_out(subject, {**gone, **local, **subject.nodes}), *_of_the_hub(subject), *_key_note(subject)),
    )


def _image(subject: Subject) -> tuple[str, str]:
    """The image and its tag; a colon before a slash is that of a registry's port."""
    name, colon, tag = (subject.image or IMAGE).rpartition(":")
    return (name, tag) if colon and "/" not in tag else (subject.image or IMAGE, "latest")


def _kserve(subject: Subject) -> Configuration:
    kept, gone = _without_server(_anywhere(subject))
    loras, local = _fetched(subject)
    gone |= {"served-model-name": True} if len(subject.names) > 1 else {}
    size = {"cpu": "6", "memory": f"{_memory(subject)}Gi", "nvidia.com/gpu": str(subject.gpus)}
    model = {
        "modelFormat": {"name": "huggingface"},
        "storageUri": f"hf://{subject.id}:{subject.commit}",
        "args": [*map(_plain, [f"--model_name={subject.names[0]}", *_words(kept), *loras])],
        "resources": {"requests": size, "limits": dict(size)},
    }
    notes = [*_of_the_hub(subject), *_key_note(subject)]
    if subject.on_hub and "/" not in subject.id:
        copy = f"OWNER/{subject.id}"
        notes.append(
            f"KServe fetches no model without an owner: `modelctl pull {copy}` a copy that has one, and export that"
        )
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": subject.slug},
        "spec": {"predictor": {"model": model}},
    }
    return Configuration(
        document=document,
        usage="kubectl apply -f FILE",
        notes=(*_left_out(subject, {**gone, **local, **subject.nodes}), *notes),
    )


_WRITERS: dict[Format, Callable[[Subject], Configuration]] = {
    "vllm": _vllm,
    "compose": _compose,
    "ray-serve": _ray_serve,
    "production-stack": _production_stack,
    "kserve": _kserve,
}


def _plain(word: str) -> str:
    """A word in which compose and Kubernetes see no variable: two dollar signs are one there."""
    return word.replace("$", "$$")


def _words(flags: Mapping[str, Value]) -> Iterator[str]:
    for key, value in flags.items():
        yield from profile.flag_words(key, value)


def _number(value: Value) -> int | None:
    """A number of tokens or devices, as written for a command line: `8k` is 8000."""
    return memory.context_length(str(value))


def _keyword(key: str, value: Value) -> tuple[str, Value]:
    """A flag as an argument of vLLM's engine, which takes numbers and no words for them."""
    if key == "max-model-len":
        value = _number(value) or -1
    if key in _IN_WORDS:
        value = _number(value) or value
    if key.startswith("no-") and value is True:
        key, value = key.removeprefix("no-"), False
    return key.replace("-", "_"), value


def _entry(key: str, value: Value) -> tuple[str, Value]:
    """A flag in vLLM's own file, which passes over what is false."""
    return (f"no-{key}", True) if value is False and key not in profile.ONLY_ON else (key, _listed(key, value))


def _listed(key: str, value: Value) -> Value:
    """A value of vLLM's own file, which reads the items of a list as texts."""
    if not isinstance(value, list):
        return value
    if key in profile.AS_JSON:
        return json.dumps(value)
    return [item if isinstance(item, str) else json.dumps(item) for item in value]


def _lora(lora: Lora, path: str) -> str:
    return json.dumps({"name": lora.name, "path": path}, ensure_ascii=False)


def _fetched(subject: Subject) -> tuple[list[str], dict[str, Value]]:
    """The flags of the adapters that can be fetched from the Hub, and those that cannot."""
    there = [_lora(one, one.id) for one in subject.loras if one.id is not None]
    local: dict[str, Value] = {f"lora.{one.name}": True for one in subject.loras if one.id is None}
    return _lora_words(subject, there), local


def _lora_words(subject: Subject, modules: Sequence[str]) -> list[str]:
    rank = ["--max-lora-rank", str(subject.max_lora_rank)] if subject.max_lora_rank else []
    return ["--enable-lora", *rank, "--lora-modules", *modules] if modules else []


def _without_server(flags: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    gone = {key: value for key, value in flags.items() if _OF_THE_SERVER.match(key)}
    return {key: value for key, value in flags.items() if key not in gone}, gone


def _anywhere(subject: Subject) -> dict[str, Value]:
    """The flags but those that name a file of this machine."""
    return {key: value for key, value in subject.flags.items() if key not in subject.files}


def _left_out(subject: Subject, keys: Mapping[str, Value]) -> tuple[str, ...]:
    return tuple(f"`{key}` of `{subject.id}` is left out: the system has a way of its own for it" for key in keys)


def _of_the_hub(subject: Subject) -> tuple[str, ...]:
    """What a pod cannot have, since it takes all from the Hub."""
    notes = [f"`{key}` is left out: `{path}` is here only" for key, path in subject.files.items()]
    if not subject.on_hub:
        notes.append(f"`{subject.id}` was imported: the pods find it on no Hub unless you put it there")
    return tuple(notes)


def _key_note(subject: Subject) -> tuple[str, ...]:
    return ("the key is no part of it: set `VLLM_API_KEY` where vLLM runs",) if subject.with_key else ()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else {"localhost": "127.0.0.1", "": "0.0.0.0"}.get(host, host)  # noqa: S104 - no bind


def _memory(subject: Subject) -> int:
    """GiB of RAM for the processes, and for the weights on their way to the GPU."""
    return 8 + -(-subject.size // _GIB)


def _storage(subject: Subject) -> int:
    return 5 + -(-subject.size * 12 // (10 * _GIB))
