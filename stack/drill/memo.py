"""What was before a drill, kept in a file until it is so again: a drill that is killed is put right by the next one."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from core.errors import StackError


@dataclass(frozen=True)
class Memo:
    """What a drill has to put back.

    Args:
        use_case: whose.
        aliases: alias -> version, as they were.
        tags: of the registered model, as they were.
        moved: versions that the drill makes champion; if another one is, a person moved the alias meanwhile.
        made: versions that the drill registered.
        silenced: MLflow's webhooks that the drill disabled, by their ids.
    """

    use_case: str
    aliases: Mapping[str, str]
    tags: Mapping[str, str]
    moved: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    silenced: tuple[str, ...] = field(default=())

    def having(self, **changes: Any) -> Memo:
        """The same with changes."""
        return replace(self, **changes)


class MemoFile:
    """The memo on disk.

    Args:
        folder: the stack's ``run`` folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "drill.json"
        self._lock = folder / "drill.lock"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other drills out.

        Raises:
            StackError: if one is under way.
        """
        with self._lock.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StackError("Another drill is under way on this stack. Wait until it has ended.") from error
            yield

    def read(self) -> Memo | None:
        """What a drill that did not end left to be put back; None if nothing."""
        try:
            found = json.loads(self._path.read_text())
            lists = {name: tuple(found[name]) for name in ("moved", "made", "silenced")}
            return Memo(found["use_case"], found["aliases"], found["tags"], **lists)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StackError(
                f"{self._path} cannot be read ({error}). Compare aliases in MLflow, then delete it."
            ) from error

    def write(self, memo: Memo) -> None:
        """Keep it, at once or not at all."""
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(memo)))
        fresh.replace(self._path)

    def forget(self) -> None:
        """All is as it was."""
        self._path.unlink(missing_ok=True)
