"""All shapes of repositories, by name."""

from tests.shapes import architectures, formats, parts, weights
from tests.shapes.shape import Shape

SHAPES: dict[str, Shape] = {
    **weights.SAFETENSORS,
    **weights.CONSOLIDATIONS,
    **formats.PICKLES,
    **formats.GGUF,
    **formats.UNSERVABLE,
    **parts.TEXTS,
    **parts.ADAPTERS,
    **architectures.ARCHITECTURES,
}
