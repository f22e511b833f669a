"""Shapes of single architectures, which load more than the root's weights, or others."""

from tests.shapes.shape import Ask, Shape, index, names, of_architecture
from tests.shapes.weights import INDEX, INDEXED, SHARDED, SHARDS, SINGLE

_TASKS = tuple(f"adapters/{task}/" for task in ("retrieval", "text-matching"))

ARCHITECTURES: dict[str, Shape] = {
    "BGE-M3": Shape(
        files=names("pytorch_model.bin", "sparse_linear.pt", "colbert_linear.pt", "sentencepiece.bpe.model"),
        weights=names("pytorch_model.bin"),
        more=names("sparse_linear.pt", "colbert_linear.pt", "sentencepiece.bpe.model"),
        format="pickle",
        asks=(
            Ask(module="roberta", literal='"sparse_linear."', pattern="sparse_linear.pt"),
            Ask(module="roberta", literal='"colbert_linear."', pattern="colbert_linear.pt"),
        ),
    ),
    "Kimi-Audio": Shape(
        files=SHARDED
        | names("whisper-large-v3/model.safetensors", "whisper-large-v3/config.json", "audio_detokenizer/model.pt")
        | names("whisper-large-v3/pytorch_model.bin", "whisper-large-v3/flax_model.msgpack", "vocoder/model.pt"),
        weights=SHARDS,
        more=names(INDEX, "whisper-large-v3/model.safetensors", "whisper-large-v3/config.json"),
        documents={**INDEXED, "config.json": of_architecture("MoonshotKimiaForCausalLM")},
        asks=(Ask(module="kimi_audio", literal='"whisper-large-v3"', subfolder="whisper-large-v3"),),
    ),
    "the same folder of another model": Shape(files=SINGLE | {"whisper-large-v3/model.safetensors"}, weights=SINGLE),
    "Fun-Audio-Chat": Shape(
        files=SINGLE | {"speech_tokenizer/tokenizer.json", "speech_tokenizer/tokenizer_config.json"},
        weights=SINGLE,
        more=names("speech_tokenizer/tokenizer.json", "speech_tokenizer/tokenizer_config.json"),
        documents={"config.json": of_architecture("FunAudioChatForConditionalGeneration")},
        asks=(Ask(module="funaudiochat", literal='"speech_tokenizer"', file="speech_tokenizer/tokenizer.json"),),
    ),
    "MiMo-V2-Omni": Shape(
        files=SINGLE
        | names(
            "audio_tokenizer/config.json", "audio_tokenizer/model.safetensors", "audio_tokenizer/pytorch_model.bin"
        ),
        weights=SINGLE,
        more=names("audio_tokenizer/config.json", "audio_tokenizer/model.safetensors"),
        documents={"config.json": of_architecture("MiMoV2OmniForCausalLM")},
        asks=(
            Ask(module="mimo_audio", literal='"audio_tokenizer"', file="audio_tokenizer/model.safetensors"),
            Ask(module="mimo_audio", literal='"config.json"', file="audio_tokenizer/config.json"),
        ),
    ),
    "Jina v5 with an adapter for each task": Shape(
        files=SINGLE
        | {task + name for task in _TASKS for name in ("adapter_config.json", "adapter_model.safetensors")},
        weights=SINGLE,
        more=frozenset(task + name for task in _TASKS for name in ("adapter_config.json", "adapter_model.safetensors")),
        documents={"config.json": of_architecture("JinaEmbeddingsV5Model")},
        asks=tuple(
            Ask(module="jina", literal=f'f"adapters/{{task}}/{name}"', file=task + name)
            for task in _TASKS
            for name in ("adapter_config.json", "adapter_model.safetensors")
        ),
    ),
    "Clef-Omni": Shape(
        files=SHARDED | {"joint_head.safetensors", "joint_head_config.json"},
        weights=SHARDS,
        more=names(INDEX, "joint_head.safetensors", "joint_head_config.json"),
        documents={**INDEXED, "config.json": of_architecture("Qwen3OmniMoeForConditionalGeneration")},
        asks=(Ask(module="clef_omni", literal='"joint_head.safetensors"', pattern="joint_head.safetensors"),),
    ),
    "DFlash": Shape(
        files=SINGLE | {"mask_embedding.pt"},
        weights=SINGLE,
        more=names("mask_embedding.pt"),
        documents={"config.json": of_architecture("DFlashDraftModel")},
        asks=(Ask(module="qwen3_dflash", literal='"mask_embedding.pt"', file="mask_embedding.pt"),),
    ),
    "Cosmos 3 Edge": Shape(
        files=names("transformer/model.safetensors", "transformer/config.json", "vae/model.safetensors"),
        weights=names("transformer/model.safetensors"),
        more=names("transformer/config.json"),
        documents={"config.json": of_architecture("Cosmos3EdgeForConditionalGeneration")},
        asks=(
            Ask(
                module="cosmos3_edge",
                literal='["[tv]*er/*.safetensors"]',
                pattern="[tv]*er/*.safetensors",
                instead=True,
            ),
        ),
    ),
    "Cosmos 3": Shape(
        files=names("model_index.json", "vae/diffusion_pytorch_model.safetensors", "sound_tokenizer/x.safetensors")
        | names("transformer/a.safetensors", "transformer/config.json", "transformer/a.safetensors.index.json")
        | names("vision_encoder/model.safetensors", "vision_encoder/config.json", "scheduler/config.json"),
        weights=names("transformer/a.safetensors", "vision_encoder/model.safetensors"),
        more=names("model_index.json", "transformer/config.json", "vision_encoder/config.json"),
        documents={
            "config.json": of_architecture("Cosmos3ForConditionalGeneration"),
            "transformer/a.safetensors.index.json": index("a.safetensors"),
        },
        asks=(
            Ask(module="cosmos3", literal='["[tv]*er/*.safetensors"]', pattern="[tv]*er/*.safetensors", instead=True),
        ),
    ),
}
