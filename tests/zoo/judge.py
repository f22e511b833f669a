"""Makes small models and asks vLLM about each. The interpreter of vLLM runs it; it knows nothing of modelctl.

In: a JSON object of cases, each with the folder that it is to lie in. Out, into the file named first: what transformers
and vLLM say of each, what transformers presumes of some kinds of models, and the architectures that vLLM knows.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from vllm import LLM, ModelRegistry
from vllm.distributed import cleanup_dist_env_and_memory

Json = Any


def main(asked: Json) -> Json:
    """Answer for every case, and for the types of models whose presumptions are asked for."""
    for case in asked["cases"].values():
        case.update(make(case))
        if case["draft"]:
            make(case["draft"])
    return {
        "cases": {
            name: {**case, **(serve(case) if case["is_served"] else {})} for name, case in asked["cases"].items()
        },
        "presumed": {model_type: presumed(model_type, keys) for model_type, keys in asked["presumed"].items()},
        "architectures": sorted(ModelRegistry.get_supported_archs()),
    }


def make(case: Json) -> Json:
    """Write a model with random weights, and count them."""
    torch.manual_seed(0)
    dtype = getattr(torch, case["dtype"])
    config = transformers.AutoConfig.for_model(case["model_type"], **case["config"])
    config.dtype = dtype
    model = getattr(transformers, case["architecture"])(config).to(dtype)
    model.save_pretrained(case["folder"])
    return {"parameters": sum(parameter.numel() for parameter in model.parameters())}


def serve(case: Json) -> Json:
    """Load it as a server would, and say how large its cache came out."""
    drafting = None
    if case["draft"]:
        drafting = {"model": case["draft"]["folder"], "method": "draft_model", "num_speculative_tokens": 2}
    llm = LLM(
        case["folder"],
        enforce_eager=True,
        kv_cache_memory_bytes=case["cache"],
        distributed_executor_backend="uni",
        disable_log_stats=True,
        speculative_config=drafting,
    )
    config = llm.llm_engine.vllm_config
    answer = {
        "tokens": config.cache_config.kv_cache_size_tokens,
        "context": config.model_config.max_model_len,
        "runner": config.model_config.runner_type,
        "batch": config.scheduler_config.max_num_batched_tokens,
    }
    del llm
    cleanup_dist_env_and_memory()
    return answer


def presumed(model_type: str, keys: list[str]) -> Json:
    """What a configuration of this type says where nothing is said."""
    config = transformers.AutoConfig.for_model(model_type)
    return {key: getattr(config, key, None) for key in keys}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(main(json.load(sys.stdin))), encoding="utf-8")
