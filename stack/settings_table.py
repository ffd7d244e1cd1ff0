"""The table of settings in ``docs/settings.md``: ``python -m stack.settings_table`` writes it anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from core.settings import Settings
from stack.environment import PROJECT_ROOT

DOCUMENT = PROJECT_ROOT / "docs" / "settings.md"
_TITLES = {"mlflow": "MLflow", "torchserve": "TorchServe", "host": "Model host", "github": "GitHub"}
_HEAD = """# Settings

Every setting is an environment variable, read once per process.
This page is written by `python -m stack.settings_table`.
"""


def settings_page() -> str:
    """The page as Markdown: a table per group."""
    parts = [_HEAD, _table("General", Settings, "EVERGREEN_")]
    for name, info in Settings.model_fields.items():
        group = _group(info)
        if group is not None:
            title = f"{_TITLES.get(name, name.capitalize())}: {(group.__doc__ or '').strip().rstrip('.')}"
            parts.append(_table(title, group, f"EVERGREEN_{name.upper()}__"))
    return "\n".join(parts)


def main(path: Path = DOCUMENT) -> None:
    """Write the page."""
    path.write_text(settings_page())


def _table(title: str, group: type[BaseModel], prefix: str) -> str:
    rows = "".join(_rows(group, prefix))
    return f"## {title}\n\n| variable | type | default | meaning |\n| --- | --- | --- | --- |\n{rows}"


def _rows(group: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, info in group.model_fields.items():
        if _group(info) is None:
            yield f"| `{prefix}{name.upper()}` | {_kind(info)} | {_default(info)} | {info.description} |\n"


def _group(info: FieldInfo) -> type[BaseModel] | None:
    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _kind(info: FieldInfo) -> str:
    kind = info.annotation
    if get_origin(kind) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) is dict:
        return "JSON object"
    names = {
        str: "text",
        int: "whole number",
        float: "number",
        Path: "path",
        bool: "true or false",
        SecretStr: "secret",
    }
    return names.get(kind, str(kind)) if isinstance(kind, type) else str(kind)


def _default(info: FieldInfo) -> str:
    value = info.default
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    return f"`{text}`" if text else "empty"


if __name__ == "__main__":
    main()
