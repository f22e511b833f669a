"""The KV cache of a model as vLLM deals it out: in blocks, of one pool that all kinds of layers share (pure)."""

from collections.abc import Sequence
from typing import NamedTuple

from modelctl.engine.layers import Kind, Layers

GPU_BLOCK, CPU_BLOCK = 16, 128
# The sequences that vLLM computes in one step, before what they no longer look at is given back.
_TOGETHER: tuple[Kind, ...] = ("full", "latent")


class Group(NamedTuple):
    """Layers that are given blocks together: the tokens of a block, and how far back the layers look."""

    kind: Kind
    block: int
    reach: int | None


class Pool(NamedTuple):
    """A cache: bytes of a block on one device, whichever group it goes to."""

    bytes: int
    groups: tuple[Group, ...]

    @property
    def bytes_per_token(self) -> int:
        """What each token of a long request adds."""
        growing = [group for group in self.groups if group.kind in _TOGETHER]
        return sum(-(-self.bytes // group.block) for group in growing)

    def blocks(self, tokens: int, *, batch: int) -> int:
        """The blocks that one request of so many tokens holds, `batch` of them computed in one step."""
        return sum(_blocks(group, tokens, batch) for group in self.groups)

    def request(self, tokens: int, *, batch: int) -> int:
        """Bytes that one request of so many tokens needs, with the block that vLLM never gives to any."""
        return (self.blocks(tokens, batch=batch) + 1) * self.bytes if self.groups else 0

    def capacity(self, memory: int, *, context: int, batch: int) -> int | None:
        """The tokens of all requests of `context` tokens that have room, as vLLM reports them; `None`: any number."""
        needed = self.blocks(context, batch=batch)
        return memory // self.bytes * context // needed if needed and self.bytes else None

    def longest(self, memory: int, *, context: int, batch: int) -> int:
        """The longest request, of at most `context` tokens, that fits in `memory`; 0 where none does."""
        low, high = 0, context
        while low < high:
            middle = (low + high + 1) // 2
            if self.request(middle, batch=batch) <= memory:
                low = middle
            else:
                high = middle - 1
        return low


def pool(layers: Sequence[Layers], *, is_cpu: bool) -> Pool:
    """The pool for these layers, grouped as vLLM groups them."""
    block = CPU_BLOCK if is_cpu else GPU_BLOCK
    if is_cpu and any(one.kind == "latent" for one in layers):
        # The CPU's kernel for latent attention knows no other.
        block = GPU_BLOCK
    if not layers:
        return Pool(0, ())
    if len({(one.kind, one.reach) for one in layers}) == 1 or all(one.kind in _TOGETHER for one in layers):
        return _single(layers, block)
    return _mixed(layers, block)


def _single(layers: Sequence[Layers], block: int) -> Pool:
    """Layers that always need as many tokens: one group, though a token may take more in some of them."""
    one = layers[0]
    tokens = 1 if one.kind == "state" else block
    return Pool(sum(each.depth * each.bytes for each in layers) * tokens, (Group(one.kind, tokens, one.reach),))


def _mixed(layers: Sequence[Layers], block: int) -> Pool:
    """Layers of several kinds: pages of one size for all, in groups of as many layers as the rarest kind has."""
    widest = max((one.bytes for one in layers if one.kind != "state"), default=1)
    states = max((one.bytes for one in layers if one.kind == "state"), default=0)
    # The attention's page is made to hold a state.
    block *= max(1, -(-states // (widest * block)))
    page = widest * block
    fewest, most = min(one.depth for one in layers), max(one.depth for one in layers)
    together = most if most < fewest * 1.5 else fewest
    groups: list[Group] = []
    for one in layers:
        tokens = page // one.bytes if one.kind != "state" and page % one.bytes == 0 else block
        groups += [Group(one.kind, tokens, one.reach)] * -(-one.depth // together)
    return Pool(page * together, tuple(groups))


def _blocks(group: Group, tokens: int, batch: int) -> int:
    match group.kind:
        case "state":
            return group.reach or 1
        case "cross":
            return -(-(group.reach or 0) // group.block)
        case "window":
            # One more, for a window need not begin where a block does.
            return -(-min((group.reach or 1) - 1 + batch, tokens) // group.block) + 1
        case "chunk":
            return -(-min((group.reach or 0) + batch, tokens) // group.block)
        case _:
            return -(-tokens // group.block)
