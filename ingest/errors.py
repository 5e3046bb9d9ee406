"""The three errors of the system.

    IngestError
    ├── Rejected      the same bytes will always fail: never send them again
    ├── Unavailable   our trouble or a limit: send the same bytes again later
    └── ConfigError   start-up and reload only

Sans-IO modules raise errors of their own; the I/O shell around them translates those into one of
these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class IngestError(Exception):
    """The root of all errors that this system raises on purpose."""


class Rejected(IngestError):  # noqa: N818 - a verdict of the contract, named as there
    """The same bytes will always fail.

    Args:
        code: a stable word of the contract, such as ``event_too_large``.
        detail: at most 200 characters for people; never values, class names or secrets.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail[:200]


class Unavailable(IngestError):  # noqa: N818 - a verdict of the contract, named as there
    """Nothing was taken; the same bytes may succeed later.

    Args:
        code: a stable word of the contract, such as ``overloaded``.
        detail: at most 200 characters for people.
        retry_after: seconds after which trying again makes sense.
    """

    def __init__(self, code: str, detail: str = "", retry_after: float = 1.0) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail[:200]
        self.retry_after = retry_after


class ConfigError(IngestError):
    """The configuration cannot be used.

    Args:
        problems: one line for each error, with file and key; never empty.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
