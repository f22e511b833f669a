"""Shapes that differ in what lies beside the weights, and adapters."""

from tests.shapes.shape import Shape, names, of_architecture
from tests.shapes.weights import SINGLE

_ADAPTER = {"adapter_config.json": {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"]}}
_ST = "sentence_transformers.models."
_TRANSFORMER = {"idx": 0, "path": "", "type": f"{_ST}Transformer"}
_POOLING = {"idx": 1, "path": "1_Pooling", "type": f"{_ST}Pooling"}
_DENSE = {"in_features": 1, "out_features": 1, "bias": False}

TEXTS: dict[str, Shape] = {
    "multimodal": Shape(
        files=SINGLE
        | names("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
        | names("chat_template.json", "assets/example.wav"),
        weights=SINGLE,
        more=names("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
        | names("chat_template.json"),
        documents={
            "preprocessor_config.json": {"image_processor_type": "Qwen2VLImageProcessor", "patch_size": 14},
            "processor_config.json": {"processor_class": "Qwen2_5_VLProcessor"},
            "video_preprocessor_config.json": {"video_processor_type": "Qwen2VLVideoProcessor"},
        },
    ),
    "chat templates": Shape(
        files=SINGLE
        | names("chat_template.jinja", "additional_chat_templates/tool_use.jinja", "chat_templates/other.jinja"),
        weights=SINGLE,
        more=names("chat_template.jinja", "additional_chat_templates/tool_use.jinja"),
    ),
    "tokenizers of every kind": Shape(
        files=SINGLE
        | names("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "source.spm")
        | names("qwen.tiktoken", "tiktoken.model", "bpe.codes", "vocab.bpe", "spm.vocab", "tekken.json")
        | names("special_tokens_map.json", "added_tokens.json"),
        weights=SINGLE,
        more=names("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "source.spm")
        | names("qwen.tiktoken", "tiktoken.model", "bpe.codes", "vocab.bpe", "spm.vocab", "tekken.json")
        | names("special_tokens_map.json", "added_tokens.json"),
    ),
    "own code": Shape(
        files=SINGLE | {"configuration_x.py", "helper.py", "inference/generate.py"},
        weights=SINGLE,
        more=names("configuration_x.py", "helper.py"),
        documents={"config.json": {"model_type": "x", "auto_map": {"AutoConfig": "configuration_x.XConfig"}}},
    ),
    "own code in a folder": Shape(
        files=SINGLE | {"code/configuration_x.py", "code/helper.py", "inference/generate.py"},
        weights=SINGLE,
        more=names("code/configuration_x.py", "code/helper.py"),
        documents={"config.json": {"model_type": "x", "auto_map": {"AutoConfig": "code/configuration_x.XConfig"}}},
    ),
    "cross-encoder": Shape(
        files=SINGLE | {"vocab.txt", "CEBinaryClassificationEvaluator_results.csv", "onnx/model_O3.onnx"},
        weights=SINGLE,
        more=names("vocab.txt"),
        documents={"config.json": of_architecture("BertForSequenceClassification", num_labels=1)},
    ),
    "sentence-transformers": Shape(
        files=SINGLE
        | names("modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "vocab.txt")
        | names("config_sentence_transformers.json"),
        weights=SINGLE,
        more=names("modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "vocab.txt")
        | names("config_sentence_transformers.json"),
        documents={
            "modules.json": [_TRANSFORMER, _POOLING, {"idx": 2, "path": "2_Normalize", "type": f"{_ST}Normalize"}],
            "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
            "sentence_bert_config.json": {"max_seq_length": 256},
            "config_sentence_transformers.json": {"prompts": {"query": "query: "}},
        },
    ),
    "sentence-transformers with Dense": Shape(
        files=SINGLE
        | names("modules.json", "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors")
        | names("2_Dense/pytorch_model.bin", "3_Dense/config.json", "3_Dense/pytorch_model.bin"),
        weights=SINGLE,
        more=names("modules.json", "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors")
        | names("3_Dense/config.json", "3_Dense/pytorch_model.bin"),
        documents={
            "modules.json": [
                *(_TRANSFORMER, _POOLING),
                {"idx": 2, "path": "2_Dense", "type": f"{_ST}Dense"},
                {"idx": 3, "path": "3_Dense", "type": f"{_ST}Dense"},
            ],
            "1_Pooling/config.json": {"pooling_mode": "cls"},
            "2_Dense/config.json": _DENSE,
            "3_Dense/config.json": _DENSE,
        },
    ),
    "ColBERT with Dense": Shape(
        files=SINGLE | {"modules.json", "1_Dense/config.json", "1_Dense/model.safetensors"},
        weights=SINGLE,
        more=names("modules.json", "1_Dense/config.json", "1_Dense/model.safetensors"),
        documents={
            "modules.json": [_TRANSFORMER, {"idx": 1, "path": "1_Dense", "type": "pylate.models.Dense.Dense"}],
            "1_Dense/config.json": _DENSE,
        },
    ),
    "sentence-transformers with its weights in a folder": Shape(
        files=names("modules.json", "0_Transformer/model.safetensors", "0_Transformer/config.json"),
        more=names("modules.json", "0_Transformer/model.safetensors", "0_Transformer/config.json"),
        documents={"modules.json": [{"idx": 0, "path": "0_Transformer", "type": f"{_ST}Transformer"}]},
        format=None,
        kind="unservable",
        whole="RuntimeError",
        refused="RuntimeError",
        why="vLLM looks for weights at the root alone",
    ),
}

ADAPTERS: dict[str, Shape] = {
    "adapter": Shape(
        files=names("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"),
        weights=names("adapter_model.safetensors"),
        more=names("adapter_config.json"),
        lacks=names("config.json"),
        documents=_ADAPTER,
        kind="lora",
    ),
    "adapter as pickle": Shape(
        files=names("adapter_config.json", "adapter_model.bin", "adapter_model.pt"),
        weights=names("adapter_model.bin"),
        more=names("adapter_config.json"),
        documents=_ADAPTER,
        format="pickle",
        kind="lora",
    ),
    "adapter as pt": Shape(
        files=names("adapter_config.json", "adapter_model.pt", "adapter_model.gguf"),
        weights=names("adapter_model.pt"),
        more=names("adapter_config.json"),
        documents=_ADAPTER,
        format="pickle",
        kind="lora",
    ),
    "adapter with the state of its training": Shape(
        files=names("adapter_config.json", "adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")
        | names("training_args.bin", "checkpoint-10/adapter_model.safetensors", "checkpoint-10/adapter_config.json"),
        weights=names("adapter_model.safetensors"),
        more=names("adapter_config.json"),
        documents=_ADAPTER,
        kind="lora",
    ),
    "adapter of LLaVA": Shape(
        files=names("adapter_config.json", "adapter_model.bin", "non_lora_trainables.bin"),
        weights=names("adapter_model.bin"),
        more=names("adapter_config.json"),
        documents=_ADAPTER,
        format="pickle",
        kind="lora",
    ),
    "adapter with a head of values": Shape(
        files=names("adapter_config.json", "adapter_model.safetensors", "value_head.safetensors"),
        weights=names("adapter_model.safetensors"),
        more=names("adapter_config.json"),
        documents=_ADAPTER,
        kind="lora",
    ),
    "adapter beside a base model": Shape(
        files=SINGLE | {"adapter_config.json", "adapter_model.safetensors"},
        weights=SINGLE,
        more=names("adapter_config.json"),
        documents=_ADAPTER,
        whole=SINGLE | {"adapter_model.safetensors"},
        why="vLLM would load the adapter as a part of the model, and fail at its names",
    ),
    "adapter beside a base model in bin": Shape(
        files=names("pytorch_model.bin", "adapter_config.json", "adapter_model.safetensors"),
        weights=names("pytorch_model.bin"),
        more=names("adapter_config.json"),
        documents=_ADAPTER,
        format="pickle",
        whole=names("adapter_model.safetensors"),
        why="vLLM would load the adapter for the model, and fail at its names",
    ),
    "adapter without its configuration": Shape(
        files=names("adapter_model.safetensors"),
        format=None,
        kind="unservable",
        whole=names("adapter_model.safetensors"),
        refused="RuntimeError",
        why="vLLM would load it as a model; as an adapter it has no rank",
    ),
    "adapters in folders": Shape(
        files=names("en/adapter_config.json", "en/adapter_model.safetensors", "de/adapter_config.json")
        | names("de/adapter_model.safetensors"),
        format=None,
        kind="unservable",
        whole="RuntimeError",
        refused="RuntimeError",
        why="vLLM takes one adapter, from the root",
    ),
}
