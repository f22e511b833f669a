"""Run by the engine's interpreter: prints what Ray Serve LLM reads in a configuration, as JSON lines.

`ray_judge.py FOLDER FILE`: Ray lies in FOLDER, whose packages come after the engine's own.
"""

import dataclasses
import json
import sys
from pathlib import Path

sys.path.append(sys.argv[1])

import yaml  # type: ignore[import-untyped]
from ray.serve.llm import LLMConfig  # type: ignore[import-not-found, unused-ignore]
from ray.serve.schema import ServeDeploySchema  # type: ignore[import-not-found, unused-ignore]
from vllm.engine.arg_utils import AsyncEngineArgs


def main() -> None:
    known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    document = yaml.safe_load(Path(sys.argv[2]).read_text(encoding="utf-8"))
    for application in ServeDeploySchema.model_validate(document).applications:
        for values in application.args["llm_configs"]:
            config = LLMConfig(**values)
            engine = config.get_engine_config()
            told = {
                "model_id": config.model_id,
                "model": engine.hf_model_id,
                "engine_kwargs": engine.engine_kwargs,
                "frontend_kwargs": engine.frontend_kwargs,
                "unknown": sorted(engine.engine_kwargs.keys() - known),
                "import_path": application.import_path,
            }
            sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
