"""One TOML file -> its tables."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from ingest.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def parse(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: is not UTF-8"]) from None
    except (ValueError, RecursionError) as error:  # also: endless numbers and nesting
        raise ConfigError([f"{path}: is not valid TOML: {error}"]) from None
