"""Shapes that differ in the safetensors at the root."""

from tests.shapes.shape import Shape, index, names

SHARDS = names("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"
INDEXED = {INDEX: index(*sorted(SHARDS))}
SHARDED = SHARDS | {INDEX}
BIN_SHARDS = names("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
BIN_INDEX = "pytorch_model.bin.index.json"
CONSOLIDATED = names("consolidated-00001-of-00002.safetensors", "consolidated-00002-of-00002.safetensors")
MISTRAL_INDEX = "consolidated.safetensors.index.json"
PARAMS = {"dim": 8, "n_layers": 1, "n_heads": 1, "head_dim": 8, "hidden_dim": 8, "norm_eps": 1e-5, "vocab_size": 8}
MISTRAL = {"params.json": {**PARAMS, "n_kv_heads": 1, "rope_theta": 1e4, "max_seq_len": 64}}
SINGLE = names("model.safetensors")

_TWICE = "vLLM loads the same tensors twice, the last file wins; transformers reads `model.safetensors` alone"

SAFETENSORS: dict[str, Shape] = {
    "single": Shape(files=SINGLE, weights=SINGLE),
    "both formats": Shape(files=SINGLE | {"pytorch_model.bin"}, weights=SINGLE),
    "sharded": Shape(files=SHARDED, weights=SHARDS, more=names(INDEX), documents=INDEXED),
    "sharded beside bin shards": Shape(
        files=SHARDED | BIN_SHARDS | {BIN_INDEX}, weights=SHARDS, more=names(INDEX), documents=INDEXED
    ),
    "sharded beside a variant": Shape(
        files=SHARDED | {"model.fp16.safetensors"}, weights=SHARDS, more=names(INDEX), documents=INDEXED
    ),
    "sharded beside a stray single": Shape(
        files=SHARDED | SINGLE, weights=SHARDS, more=names(INDEX), documents=INDEXED
    ),
    "sharded beside weights that the index does not name": Shape(
        files=SHARDED | {"mtp.safetensors"}, weights=SHARDS, more=names(INDEX), documents=INDEXED
    ),
    "a single file with an index": Shape(
        files=SINGLE | {INDEX}, weights=SINGLE, more=names(INDEX), documents={INDEX: index("model.safetensors")}
    ),
    "shards without an index": Shape(files=SHARDS, weights=SHARDS),
    "shards beside a single, without an index": Shape(
        files=SHARDS | SINGLE, weights=SINGLE, whole=SHARDS | SINGLE, why=_TWICE
    ),
    "an index that cannot be read": Shape(
        files=SHARDED,
        weights=SHARDS,
        more=names(INDEX),
        documents={INDEX: None},
        whole="JSONDecodeError",
        refused="JSONDecodeError",
        why="the index may be good and only not here yet, so it stays; vLLM reads it and fails",
    ),
    "an index that names nothing": Shape(
        files=SHARDED,
        weights=SHARDS,
        documents={INDEX: {"metadata": {}, "weight_map": {}}},
        whole="RuntimeError",
        why="vLLM would keep the files that the index names, which are none",
    ),
    "an index of which a shard is not there": Shape(
        files=SHARDED - {"model-00002-of-00002.safetensors"},
        weights=names("model-00001-of-00002.safetensors"),
        more=names(INDEX),
        missing=names("model-00002-of-00002.safetensors"),
        documents=INDEXED,
        whole="FileNotFoundError",
        refused="FileNotFoundError",
        why="the repository is not whole, and the selection says what is missing",
    ),
    "an index left over from other weights": Shape(
        files=SINGLE | {INDEX},
        more=names(INDEX),
        missing=SHARDS,
        documents=INDEXED,
        whole="FileNotFoundError",
        refused="RuntimeError",
        why="vLLM follows the index and nothing else, and the selection says what is missing",
    ),
    "an index that leads into folders": Shape(
        files=names("text/model.safetensors", "vision/model.safetensors", INDEX),
        documents={INDEX: index("text/model.safetensors", "vision/model.safetensors")},
        format=None,
        kind="unservable",
        whole="RuntimeError",
        refused="RuntimeError",
        why="vLLM's loader looks at the root alone, though its download follows the index",
    ),
    "an index that leads into a folder too": Shape(
        files=SINGLE | {"vision/model.safetensors", INDEX},
        weights=SINGLE | {"vision/model.safetensors"},
        more=names(INDEX),
        documents={INDEX: index("model.safetensors", "vision/model.safetensors")},
        whole="FileNotFoundError",
        refused="FileNotFoundError",
        why="vLLM's loader looks at the root alone, though its download follows the index",
    ),
    "variant beside": Shape(
        files=SINGLE | {"model.fp16.safetensors"},
        weights=SINGLE,
        whole=SINGLE | {"model.fp16.safetensors"},
        why=_TWICE,
    ),
    "Whisper, in every precision and format": Shape(
        files=SINGLE
        | names("model.fp32-00001-of-00002.safetensors", "model.fp32-00002-of-00002.safetensors")
        | names("model.safetensors.index.fp32.json", "pytorch_model.bin", "pytorch_model.bin.index.fp32.json")
        | names("pytorch_model.fp32-00001-of-00002.bin", "pytorch_model.fp32-00002-of-00002.bin"),
        weights=SINGLE,
        whole=SINGLE | names("model.fp32-00001-of-00002.safetensors", "model.fp32-00002-of-00002.safetensors"),
        why=_TWICE,
    ),
    "only a variant": Shape(files=names("model.fp16.safetensors"), weights=names("model.fp16.safetensors")),
    "another name": Shape(files=names("weights.safetensors"), weights=names("weights.safetensors")),
    "heads of its own beside": Shape(
        files=SINGLE | {"mtp.safetensors", "model.visual.safetensors"},
        weights=SINGLE | {"mtp.safetensors", "model.visual.safetensors"},
    ),
    "shadows that a Mac left": Shape(files=SINGLE | {"._model.safetensors", "._config.json"}, weights=SINGLE),
    "training beside": Shape(
        files=SINGLE
        | names("checkpoint-100/model.safetensors", "checkpoint-100/optimizer.pt", "checkpoint-100/config.json")
        | names("optimizer.bin", "training_args.bin", "rng_state.pth", "scheduler.pt"),
        weights=SINGLE,
    ),
    "another precision in a folder": Shape(
        files=SINGLE | {"fp8/model.safetensors", "fp8/config.json", "int4/model.safetensors"}, weights=SINGLE
    ),
    "GPTQ with its configuration": Shape(
        files=names("gptq_model-4bit-128g.safetensors", "quantize_config.json"),
        weights=names("gptq_model-4bit-128g.safetensors"),
        more=names("quantize_config.json"),
        documents={"quantize_config.json": {"bits": 4, "group_size": 128, "desc_act": False}},
    ),
    "ModelOpt with its configuration": Shape(
        files=SHARDED | {"hf_quant_config.json"},
        weights=SHARDS,
        more=names(INDEX, "hf_quant_config.json"),
        documents={
            **INDEXED,
            "hf_quant_config.json": {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}},
        },
    ),
    "Medusa heads": Shape(
        files=names("medusa_lm_head.safetensors"),
        weights=names("medusa_lm_head.safetensors"),
        documents={"config.json": {"model_type": "medusa"}},
    ),
}

CONSOLIDATIONS: dict[str, Shape] = {
    "consolidated with params": Shape(
        files=SHARDED | {"consolidated.safetensors", "params.json", "tekken.json"},
        weights=names("consolidated.safetensors"),
        more=names("params.json", "tekken.json"),
        documents={**INDEXED, **MISTRAL},
    ),
    "consolidated with params and an older tokenizer": Shape(
        files=SHARDED | {"consolidated.safetensors", "params.json", "tokenizer.model", "tokenizer.model.v3"},
        weights=names("consolidated.safetensors"),
        more=names("params.json", "tokenizer.model", "tokenizer.model.v3"),
        documents={**INDEXED, **MISTRAL},
    ),
    "consolidated shards with an index": Shape(
        files=CONSOLIDATED | {MISTRAL_INDEX, "params.json", "tekken.json"},
        weights=CONSOLIDATED,
        more=names("params.json", MISTRAL_INDEX, "tekken.json"),
        lacks=names("config.json", "tokenizer.json", "tokenizer_config.json"),
        documents={MISTRAL_INDEX: index(*sorted(CONSOLIDATED)), **MISTRAL},
    ),
    "consolidated without params": Shape(
        files=SHARDED | {"consolidated.safetensors"},
        weights=SHARDS,
        more=names(INDEX),
        documents=INDEXED,
        whole=names("consolidated.safetensors"),
        why="Mistral's names for the tensors, and no configuration that knows them",
    ),
    "only consolidated, without params": Shape(
        files=names("consolidated.safetensors"), weights=names("consolidated.safetensors")
    ),
    "consolidated beside bin, without params": Shape(
        files=names("consolidated.safetensors", "pytorch_model.bin"), weights=names("consolidated.safetensors")
    ),
    "original beside": Shape(
        files=SHARDED | {"original/consolidated.00.pth", "original/consolidated.safetensors", "original/params.json"},
        weights=SHARDS,
        more=names(INDEX),
        documents=INDEXED,
        whole="RuntimeError",
        why="a name in any folder makes vLLM look for `consolidated*` at the root, where there is none",
    ),
    "original as pth beside": Shape(
        files=SHARDED | {"consolidated.00.pth", "params.json", "original/consolidated.00.pth"},
        weights=SHARDS,
        more=names(INDEX),
        documents={**INDEXED, **MISTRAL},
    ),
}
