"""Values to try, computed from the numbers that an error line of vLLM holds (pure).

Each takes the words of a line by their names, and returns more of them.
"""

import math
import re
from collections.abc import Mapping

Words = Mapping[str, str]
# What vLLM's kernels for adapters are built for.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def nothing(_: Words) -> Words:
    """No more words."""
    return {}


def cache_that_fits(words: Words) -> Words:
    """Of the memory that is free what leaves some for all else, in MiB as vLLM reads them."""
    return {"fits": f"{max(1, math.floor(float(words['free']) * 0.9 * 1024))}M"}


def cache_that_is_needed(words: Words) -> Words:
    """It is told in GiB with two places, rounded."""
    return {"bytes": f"{math.ceil((float(words['needed']) + 0.01) * 1024)}M"}


def share_that_is_free(words: Words) -> Words:
    """The share of a device's memory that nobody else has; of a device without any there is none."""
    total = float(words["total"])
    share = math.floor(float(words["free"]) / total * 100) / 100 if total else 0.0
    return {"share": f"{max(share, 0.01):.2f}"}


def cache_or_share_that_fits(words: Words) -> Words:
    """On the CPU, where the machine itself needs some of what is free."""
    return {**cache_that_fits(words), **share_that_is_free({**words, "free": str(float(words["free"]) * 0.9)})}


def shared_memory(words: Words) -> Words:
    """Twice what is needed, in whole GiB."""
    return {"size": f"{math.ceil(int(words['needed']) * 2 / 1024)}g"}


def divisors(words: Words) -> Words:
    """Among how many devices so many heads can be divided."""
    heads, size = int(words["heads"]), int(words["size"])
    sizes = [count for count in range(1, heads + 1) if heads % count == 0]
    return {
        "fits": str(max((count for count in sizes if count <= size), default=1)),
        "sizes": ", ".join(str(count) for count in sizes if 1 < count <= 64) or "1",
    }


def power_of_two(words: Words) -> Words:
    """As many of the GPUs as most models can be divided among."""
    gpus = int(words["gpus"])
    return {"fits": str(1 << max(gpus.bit_length() - 1, 0))}


def nodes(words: Words) -> Words:
    """How many NUMA nodes there are."""
    return {"fits": str(max(1, len(re.findall(r"\d+", words["nodes"]))))}


def rank(words: Words) -> Words:
    """The next rank that vLLM's kernels are built for."""
    rank = int(words["rank"])
    return {"fits": str(next((size for size in _RANKS if size >= rank), rank))}


def first_module(words: Words) -> Words:
    """The first of many names, which a long line may not hold all."""
    names = [*dict.fromkeys(re.findall(r"'([^']+)'", words["modules"]))]
    first = f"`{names[0]}`" if names else "modules"
    more = f"at least {len(names) - 1}" if words["modules"].endswith("...") else f"{len(names) - 1}"
    return {"modules": f"{first} and {more} more" if len(names) > 1 else first}


def capability(words: Words) -> Words:
    """As NVIDIA writes compute capabilities."""
    return {name: f"{words[name][:-1]}.{words[name][-1]}" for name in ("needed", "there")}


def first_dtype(words: Words) -> Words:
    """The first of several types, as the flag has it."""
    return {"fits": next(iter(re.findall(r"torch\.(\w+)", words["dtypes"])), "auto")}
