"""Which source a message belongs to: the first rule that matches it, else its listener's.

Host and app name are what the sender claims, so rules sort messages; they keep nobody out.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from ingest.config_problems import suggestion
from ingest.networks import Networks
from ingest.sources import name_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Test = Callable[[Any], object]

FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron"),
    *("authpriv", "ftp", "ntp", "audit", "console", "cron2"),
    *("local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"),
)
"""By number, as RFC 5427 names those of RFC 5424, table 1."""
SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
"""By number, the most severe first, as RFC 5427 names those of RFC 5424, table 2."""
SEVERITY_ALIASES = {
    "emergency": 0,
    "panic": 0,
    "critical": 2,
    "error": 3,
    "warn": 4,
    "informational": 6,
}
"""Other usual names."""
MAX_NAME_BYTES = 255
"""What is longer matches no glob: neither DNS names (RFC 1035, section 2.3.4) nor app names are."""
CACHED_VALUES = 65_536
"""How many values of a field are remembered."""


def facility_number(name: str | int) -> int:
    """The number of a facility that is given by its name or number.

    Raises:
        ValueError: there is none; with what there is, for people.
    """
    return _number("facility", name, FACILITIES, {})


def severity_number(name: str | int) -> int:
    """The number of a severity that is given by its name or number; 0 is the most severe.

    Raises:
        ValueError: there is none; with what there is, for people.
    """
    return _number("severity", name, SEVERITIES, SEVERITY_ALIASES)


def _number(what: str, name: str | int, names: Sequence[str], aliases: Mapping[str, int]) -> int:
    known = {each: number for number, each in enumerate(names)} | dict(aliases)
    numbers = {str(number): number for number in range(len(names))}
    text = str(name).lower()
    found = known.get(text, numbers.get(text))
    if found is None:
        close = suggestion(text, known)
        expected = close or f": expected {', '.join(names)}, or 0 to {len(names) - 1}"
        raise ValueError(f"unknown {what}{expected}")
    return found


class When(NamedTuple):
    """The conditions of a rule, all of which must hold; None is no condition.

    Of several values one is enough. What a message does not tell matches no condition.

    Attributes:
        facility: numbers; see `facility_number`.
        severity_at_least: a number; it and those that are more severe, which are lower.
        app_name: globs with ``*`` only; case counts.
        host: globs with ``*`` only; case does not count.
        peer: networks that the sender's address is in; ``unix`` is in none.
        listener: names.
    """

    facility: frozenset[int] | None = None
    severity_at_least: int | None = None
    app_name: tuple[str, ...] | None = None
    host: tuple[str, ...] | None = None
    peer: tuple[str, ...] | None = None
    listener: frozenset[str] | None = None


class Rules:
    """All rules, in order. A set of rules is a number here, whose bit n is rule n.

    For each value of a field the rules that it allows are remembered. So a message costs a look-up
    for each field that matters and not a pass over the rules, and memory grows with the values of
    the fields, not with their combinations.

    Args:
        rules: the conditions of each, and its source.

    Raises:
        ValueError: a network is none.
    """

    def __init__(self, rules: Sequence[tuple[When, str]]) -> None:
        whens = [when for when, _ in rules]
        self._whens = whens
        self._sources = [source for _, source in rules]
        self._pri = _by_pri(whens)
        self._app_name = _Memo([_glob(when.app_name) for when in whens])
        self._host = _Memo([_glob(when.host, re.IGNORECASE) for when in whens])
        self._peer = _Memo([None if w.peer is None else Networks(w.peer).covers for w in whens])

    def __bool__(self) -> bool:
        return bool(self._whens)

    def for_listener(self, listener: str, default: str) -> ListenerRules:
        """The rules that can match what ``listener`` takes.

        Args:
            listener: its name.
            default: its source.
        """
        whens = self._whens
        able = [when.listener is None or listener in when.listener for when in whens]

        def counts(*fields: str) -> bool:
            asked = zip(whens, able, strict=True)
            return any(
                can and getattr(w, field) is not None for w, can in asked for field in fields
            )

        return ListenerRules(
            able=_bits(able),
            sources=(default, *self._sources),
            pri=self._pri if counts("facility", "severity_at_least") else None,
            app_name=self._app_name if counts("app_name") else None,
            host=self._host if counts("host") else None,
            peer=self._peer if counts("peer") else None,
        )


class ListenerRules:
    """The rules of one listener; false where there are none, and every message has the default.

    Args:
        able: those of all rules that can match, as bits.
        sources: the default, and the source of each rule.
        pri, app_name, host, peer: value -> the rules that allow it; None where it does not matter.
    """

    __slots__ = ("_able", "_app_name", "_host", "_peer", "_pri", "_sources", "default")

    def __init__(
        self,
        *,
        able: int,
        sources: Sequence[str],
        pri: Mapping[bytes | int | None, int] | None,
        app_name: Mapping[bytes | str | None, int] | None,
        host: Mapping[bytes | str | None, int] | None,
        peer: Mapping[str, int] | None,
    ) -> None:
        self.default = sources[0]
        self._able = able
        self._sources = sources
        self._pri = pri
        self._app_name = app_name
        self._host = host
        self._peer = peer

    def __bool__(self) -> bool:
        return bool(self._able)

    def source(
        self,
        pri: bytes | int | None,
        app_name: bytes | str | None,
        host: bytes | str | None,
        peer: str,
    ) -> str:
        """The source of one message.

        Args:
            pri: the PRI (RFC 5424, section 6.2.1), as a number or its digits; None where it is
                unknown. What no PRI can be is unknown too.
            app_name: as the sender wrote it, or decoded from UTF-8; None where it did not.
            host: likewise.
            peer: the sender's IP address, or ``unix``.
        """
        bits = self._able
        if self._pri is not None:
            bits &= self._pri[pri]
        if self._app_name is not None:
            bits &= self._app_name[app_name]
        if self._host is not None:
            bits &= self._host[host]
        if self._peer is not None:
            bits &= self._peer[peer]
        return self._sources[(bits & -bits).bit_length()]  # the lowest bit: the first rule


class _Memo(dict[Any, int]):
    """Value of a field -> the rules that allow it. Values are hostile: as many as one likes.

    Args:
        tests: what each rule asks of the value; None where it asks nothing.
    """

    def __init__(self, tests: Sequence[Test | None]) -> None:
        super().__init__()
        self._tests = tests
        self._unasked = _bits(test is None for test in tests)

    def __missing__(self, value: Any) -> int:
        if value is None or len(value) > MAX_NAME_BYTES:
            return self._unasked
        if len(self) >= CACHED_VALUES:  # the older half goes
            for old in list(islice(self, CACHED_VALUES // 2)):
                del self[old]
        bits = self[value] = _bits(test is None or test(value) for test in self._tests)
        return bits


class _ByPri(dict[Any, int]):
    """PRI -> the rules that allow it.

    Args:
        unknown: those that allow any.
    """

    def __init__(self, unknown: int) -> None:
        super().__init__()
        self._unknown = unknown

    def __missing__(self, pri: Any) -> int:
        return self._unknown


def _by_pri(whens: Sequence[When]) -> _ByPri:
    asks_nothing = (w.facility is None and w.severity_at_least is None for w in whens)
    known = _ByPri(_bits(asks_nothing))
    for pri in range(len(FACILITIES) * len(SEVERITIES)):
        bits = _bits(_allows_pri(when, *divmod(pri, len(SEVERITIES))) for when in whens)
        known[pri] = known[b"%d" % pri] = bits
    return known


def _allows_pri(when: When, facility: int, severity: int) -> bool:
    least = when.severity_at_least
    return (when.facility is None or facility in when.facility) and (
        least is None or severity <= least
    )


def _glob(globs: tuple[str, ...] | None, flags: int = 0) -> Test | None:
    """Whether some glob matches, an empty one nothing; in bytes, only ASCII letters have a case."""
    if globs is None:
        return None
    text = name_pattern(each.encode().decode("latin-1") for each in globs if each).pattern
    matches = re.compile(text.encode("latin-1"), flags | re.DOTALL).fullmatch

    def test(name: bytes | str) -> bool:
        spelled = name.encode(errors="replace") if isinstance(name, str) else name
        return len(spelled) <= MAX_NAME_BYTES and matches(spelled) is not None

    return test


def _bits(allowed: Iterable[object]) -> int:
    return sum(1 << position for position, each in enumerate(allowed) if each)
