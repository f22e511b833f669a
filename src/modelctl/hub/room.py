"""Whether what is to be pulled fits: needed beside what other pulls still need, on the file system that it goes to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelctl.errors import NoRoomError
from modelctl.hub.plan import PullPlan
from modelctl.store import disk, scan

# What folders, links and journals need beside the blobs.
_MARGIN = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes on one file system: `needed` by some models, `claimed` by pulls of others that run, and `free`."""

    ids: tuple[str, ...]
    folder: Path
    needed: int
    claimed: int
    free: int

    @property
    def is_enough(self) -> bool:
        """Whether all of it fits."""
        return self.needed + self.claimed <= self.free


def look(plans: Sequence[PullPlan]) -> tuple[Room, ...]:
    """The room for some models, one value a file system; models that need none are left out."""
    rooms: dict[int, list[PullPlan]] = {}
    for planned in plans:
        if planned.needed:
            # The model's own folder may be a link to another disk.
            rooms.setdefault(disk.device(planned.paths.folder), []).append(planned)
    return tuple(_room(device, together) for device, together in rooms.items())


def check(plans: Sequence[PullPlan]) -> None:
    """`NoRoomError` with the numbers, before the first byte, where the models do not fit together."""
    for room in look(plans):
        if not room.is_enough:
            models = " and ".join(f"`{model_id}`" for model_id in room.ids)
            verb = "needs" if len(room.ids) == 1 else "need"
            claimed = f", of which pulls that run still need {room.claimed:,}" if room.claimed else ""
            raise NoRoomError(
                f"{models} {verb} {room.needed:,} bytes, and the file system of `{room.folder}` has"
                f" {room.free:,} free{claimed}",
                hint="make room with `modelctl rm`, or name another folder with `--models-dir`",
                needed=room.needed,
                free=room.free,
                claimed=room.claimed,
            )


def _room(device: int, plans: Sequence[PullPlan]) -> Room:
    ids = tuple(planned.id for planned in plans)
    hub = plans[0].paths.hub
    others = [
        each for each in scan.downloads(hub) if each.active and each.id not in ids and disk.device(each.path) == device
    ]
    claimed = sum(each.total - each.done for each in others)
    return Room(ids, hub, sum(planned.needed for planned in plans) + _MARGIN, claimed, disk.free(plans[0].paths.folder))
