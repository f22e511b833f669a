"""Shapes of other formats than safetensors: pickles, GGUF, what vLLM does not load."""

from tests.shapes.shape import NONE, Shape, names, of_architecture
from tests.shapes.weights import BIN_INDEX, BIN_SHARDS, MISTRAL, SINGLE

PICKLES: dict[str, Shape] = {
    "only bin": Shape(
        files=names("pytorch_model.bin", "training_args.bin", "optimizer.bin"),
        weights=names("pytorch_model.bin"),
        format="pickle",
    ),
    "bin shards": Shape(files=BIN_SHARDS | {BIN_INDEX}, weights=BIN_SHARDS, more=names(BIN_INDEX), format="pickle"),
    "bin beside its shards": Shape(
        files=BIN_SHARDS | {BIN_INDEX, "pytorch_model.bin"},
        weights=names("pytorch_model.bin"),
        more=names(BIN_INDEX),
        format="pickle",
        whole=BIN_SHARDS | {"pytorch_model.bin"},
        why="vLLM loads the same tensors twice; transformers reads `pytorch_model.bin` alone",
    ),
    "bin beside a variant": Shape(
        files=names("pytorch_model.bin", "pytorch_model.fp16.bin"),
        weights=names("pytorch_model.bin"),
        format="pickle",
        whole=names("pytorch_model.bin", "pytorch_model.fp16.bin"),
        why="vLLM loads the same tensors twice; transformers reads `pytorch_model.bin` alone",
    ),
    "bin beside what others load": Shape(
        files=BIN_SHARDS | {BIN_INDEX, "mm_projector.bin"},
        weights=BIN_SHARDS,
        more=names(BIN_INDEX),
        format="pickle",
        whole=BIN_SHARDS | {"mm_projector.bin"},
        why="vLLM loads every `*.bin`; transformers, and so whoever made the model, those of the known name",
    ),
    "bin of another name": Shape(
        files=names("weights.bin", "training_args.bin", "last_optimizer.bin"),
        weights=names("weights.bin"),
        format="pickle",
    ),
    "only pt": Shape(
        files=names("model.pt", "optimizer.pt", "scheduler.pt"), weights=names("model.pt"), format="pickle"
    ),
    "only pt, and the state of training": Shape(
        files=names("model.pt", "training_args.bin"),
        weights=names("model.pt"),
        format="pickle",
        whole="RuntimeError",
        why="the first `*.bin` keeps vLLM from looking for `*.pt`, also one that it then leaves out",
    ),
    "EAGLE head": Shape(
        files=names("pytorch_model.bin"),
        weights=names("pytorch_model.bin"),
        documents={"config.json": of_architecture("LlamaForCausalLMEagle3", draft_vocab_size=8)},
        format="pickle",
    ),
    "Medusa heads as pickle": Shape(
        files=names("medusa_lm_head.pt"),
        weights=names("medusa_lm_head.pt"),
        documents={"config.json": {"model_type": "medusa"}},
        format="pickle",
    ),
}

_WITHOUT = "there is nothing that vLLM loads"

UNSERVABLE: dict[str, Shape] = {
    "only other frameworks": Shape(
        files=NONE, format=None, kind="unservable", whole="RuntimeError", refused="RuntimeError", why=_WITHOUT
    ),
    "only pth": Shape(
        files=names("consolidated.00.pth", "params.json"),
        documents=MISTRAL,
        format=None,
        kind="unservable",
        whole="RuntimeError",
        refused="RuntimeError",
        why=_WITHOUT,
    ),
    "only folders": Shape(
        files=names("checkpoint-100/model.safetensors", "checkpoint-200/model.safetensors"),
        format=None,
        kind="unservable",
        whole="RuntimeError",
        refused="RuntimeError",
        why=_WITHOUT,
    ),
    "only OpenVINO": Shape(
        files=names("openvino_model.bin", "openvino_model.xml"),
        format=None,
        kind="unservable",
        whole=names("openvino_model.bin"),
        refused="RuntimeError",
        why="vLLM takes every `*.bin` for PyTorch's",
    ),
    "only GGML": Shape(
        files=names("ggml-model-q4_0.bin"),
        format=None,
        kind="unservable",
        whole=names("ggml-model-q4_0.bin"),
        refused="RuntimeError",
        why="vLLM takes every `*.bin` for PyTorch's",
    ),
    "diffusers": Shape(
        files=names("model_index.json", "unet/diffusion_pytorch_model.safetensors", "vae/config.json")
        | names("text_encoder/model.safetensors", "text_encoder/config.json", "text_encoder_2/model.safetensors"),
        more=names("model_index.json"),
        format=None,
        kind="unservable",
        whole="RuntimeError",
        refused="RuntimeError",
        why=_WITHOUT,
    ),
    "diffusers with a single file": Shape(
        files=names("model_index.json", "flux1-dev.safetensors", "ae.safetensors", "vae/config.json"),
        more=names("model_index.json"),
        lacks=names("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"),
        format=None,
        kind="unservable",
        whole=names("flux1-dev.safetensors", "ae.safetensors"),
        refused="RuntimeError",
        why="the loader finds files, but vLLM has no configuration to build a model from",
    ),
}

_PLUGIN = "GGUF is loaded by a plugin, which is not a part of the CPU build"

GGUF: dict[str, Shape] = {
    "one GGUF": Shape(
        files=names("model.Q4_K_M.gguf"),
        weights=names("model.Q4_K_M.gguf"),
        format="gguf",
        kind="gguf",
        unjudged=_PLUGIN,
    ),
    "one GGUF and its matrix": Shape(
        files=names("model.i1-IQ2_XXS.gguf", "model.imatrix.gguf", "imatrix_unsloth.dat"),
        weights=names("model.i1-IQ2_XXS.gguf"),
        format="gguf",
        kind="gguf",
        unjudged=_PLUGIN,
    ),
    "GGUF, none chosen": Shape(
        files=names("m-Q4_K_M.gguf", "m-Q8_0.gguf", "m-BF16.gguf"), format="gguf", kind="gguf", unjudged=_PLUGIN
    ),
    "GGUF, one chosen, in parts, with a projector": Shape(
        files=names("m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf", "m-Q8_0.gguf")
        | names("mmproj-BF16.gguf", "mmproj-F16.gguf", "mmproj-F32.gguf", "mmproj-audio-Q8_0.gguf"),
        weights=names("m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf"),
        more=names("mmproj-F16.gguf", "mmproj-audio-Q8_0.gguf"),
        format="gguf",
        kind="gguf",
        variant="q4_k_m",
        unjudged=_PLUGIN,
    ),
    "GGUF in folders, one chosen": Shape(
        files=names("BF16/m-BF16-00001-of-00002.gguf", "BF16/m-BF16-00002-of-00002.gguf", "m-Q8_0.gguf"),
        weights=names("BF16/m-BF16-00001-of-00002.gguf", "BF16/m-BF16-00002-of-00002.gguf"),
        format="gguf",
        kind="gguf",
        variant="BF16",
        unjudged=_PLUGIN,
    ),
    "GGUF, an unknown one asked for": Shape(
        files=names("m-Q4_K_M.gguf", "m-Q8_0.gguf"), format="gguf", kind="gguf", variant="Q2_K", unjudged=_PLUGIN
    ),
    "GGUF beside safetensors": Shape(files=SINGLE | {"m-Q4_K_M.gguf", "gguf/m-Q8_0.gguf"}, weights=SINGLE),
}
