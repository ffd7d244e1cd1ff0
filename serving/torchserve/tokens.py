"""The tokens that TorchServe asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.errors import DependencyDown


class Tokens:
    """Reads TorchServe's tokens, which change whenever it starts.

    They are issued for a century (see ``configuration``), so nothing renews them.

    Args:
        path: the key file TorchServe writes.

    Example:
        >>> Tokens(Path("/nowhere/key_file.json")).inference()
        Traceback (most recent call last):
        ...
        core.errors.DependencyDown: TorchServe does not answer: it has not written /nowhere/key_file.json yet
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._keys: dict[str, str] = {}

    def inference(self) -> str:
        """The token of the inference API.

        Raises:
            DependencyDown: if TorchServe has not started yet.
        """
        return self._read("inference")

    def management(self) -> str:
        """The token of the management API.

        Raises:
            DependencyDown: if TorchServe has not started yet.
        """
        return self._read("management")

    def _read(self, kind: str) -> str:
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if stamp != self._stamp:
                content: dict[str, Any] = json.loads(self._path.read_bytes())
                self._keys = {name: entry["key"] for name, entry in content.items()}
                self._stamp = stamp
            return self._keys[kind]
        except FileNotFoundError as error:
            raise DependencyDown("TorchServe", f"it has not written {self._path} yet") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DependencyDown("TorchServe", f"its key file {self._path} cannot be read ({error})") from error
