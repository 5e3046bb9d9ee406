"""The schema of a route: what Kafka Connect's JsonConverter is told of its values, and their check.

JsonConverter itself makes a value of another type 0 or null without a word, and leaves out what is
not in the schema. Here the first is an error. Pure.

Source: ``org.apache.kafka.connect.json.JsonSchema`` and ``JsonConverter``; KIP-1054.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Raw

from ingest.errors import Rejected
from ingest.sources import pointer
from ingest_forward.cast import CHECKS
from ingest_forward.document import ENCODER, Node, opened, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.config_problems import KeyPath
    from ingest_forward.problems import Problems

NAMES = {"float32": "float", "float64": "double"}
"""Our type -> JsonSchema's word for it, where that is another one."""
TYPES = (*CHECKS, "array", "struct")
_OWN_KEYS = {"array": "items", "struct": "fields"}
"""Type -> the key that says what is in it."""
_KEYS = ("type", "optional", "items", "fields")
_NULL = b"null"


class Mismatch(ValueError):  # noqa: N818 - a verdict
    """A value that is not of its type.

    Args:
        at: the pointer to it, from the place that was checked.
        text: what is wrong.
    """

    def __init__(self, at: str, text: str) -> None:
        super().__init__(at, text)
        self.at = at
        self.text = text


class Kind(NamedTuple):
    """The type of a value.

    Attributes:
        schema: as JsonConverter has it.
        optional: whether null will do.
        checked: gives the node to write for one that is there and not null; raises `Mismatch`.
    """

    schema: dict[str, Any]
    optional: bool
    checked: Callable[[Node], Node]


class ConnectSchema:
    """The schema of the values of a route.

    Args:
        fields: name -> type.

    Attributes:
        text: the schema as JSON: the member ``schema`` of each record, or ``schema.content``.
    """

    def __init__(self, fields: dict[str, Kind]) -> None:
        self._fields = fields
        schema = {"type": "struct", "optional": False, "fields": _named(fields)}
        self.text = json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode()
        self._start = b'{"schema":' + self.text + b',"payload":'

    def checked(self, root: Node) -> dict[str, Node]:
        """The fields of the schema, in its order.

        Raises:
            Rejected: ``schema_mismatch``.
        """
        if type(root) is not dict:
            raise Rejected("schema_mismatch", "the data are no object")
        try:
            return _struct(root, self._fields)
        except Mismatch as error:
            raise Rejected("schema_mismatch", f"{error.at}: {error.text}") from None

    def enveloped(self, payload: dict[str, Node]) -> bytes:
        """A record value with the schema next to ``payload``, for ``schemas.enable=true``."""
        return self._start + ENCODER.encode(payload) + b"}"


def _named(fields: dict[str, Kind]) -> list[dict[str, Any]]:
    return [
        {"field": name, **kind.schema, "optional": kind.optional} for name, kind in fields.items()
    ]


def _struct(members: dict[str, Node], fields: dict[str, Kind]) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for name, (_, optional, checked) in fields.items():
        node = members.get(name)
        is_null = type(node) is Raw and bytes(node) == _NULL
        if (node is None or is_null) and not optional:
            missing = "is null" if is_null else "is missing"
            raise Mismatch(pointer([name]), f"{missing}, and not optional")
        if node is None:
            continue
        try:
            found[name] = node if is_null else checked(node)
        except Mismatch as error:
            raise Mismatch(pointer([name]) + error.at, error.text) from None
    return found


# From the configuration.


def compile_schema(value: Any, path: KeyPath, problems: Problems) -> ConnectSchema | None:
    """The schema of a table; None, and what is wrong in ``problems``.

    Args:
        value: the table: name -> type, or a table with ``type`` and ``optional``.
        path: where it is in the file.
        problems: takes what is wrong.
    """
    before = len(problems.found)
    fields = _fields(value, path, problems)
    return ConnectSchema(fields) if len(problems.found) == before else None


def _fields(value: Any, path: KeyPath, problems: Problems) -> dict[str, Kind]:
    table = problems.table(value, path)
    found = {name: _kind(each, (*path, name), problems) for name, each in table.items()}
    return {name: kind for name, kind in found.items() if kind is not None}


def _kind(value: Any, path: KeyPath, problems: Problems) -> Kind | None:
    if isinstance(value, str):
        value = {"type": value}
    table = problems.table(value, path)
    if not table:
        return None
    optional = table.get("optional", False)
    if not isinstance(optional, bool):
        problems.add((*path, "optional"), "expected true or false")
    name = problems.one_of(table.get("type"), TYPES, (*path, "type"))
    if name is None:
        return None
    own = _OWN_KEYS.get(name, "")
    for key in table:
        if key not in _KEYS:
            problems.unknown((*path, key), _KEYS)
        elif key not in {"type", "optional", own}:
            problems.add((*path, key), f'means nothing for type "{name}"')
    if own and own not in table:
        problems.add((*path, own), f'is required for type "{name}"')
        return None
    return _made(name, table.get(own), (*path, own), problems, optional=bool(optional))


def _made(
    name: str, inner: Any, path: KeyPath, problems: Problems, *, optional: bool
) -> Kind | None:
    if name == "array":
        return _array(_kind(inner, path, problems), optional=optional)
    if name == "struct":
        return _nested(_fields(inner, path, problems), optional=optional)
    return _scalar(name, optional=optional)


def _scalar(name: str, *, optional: bool) -> Kind:
    check, failure = CHECKS[name], f"is no {name}"

    def checked(node: Node) -> Node:
        if type(node) is not Raw or not check(bytes(node)):
            raise Mismatch("", failure)
        return node

    return Kind({"type": NAMES.get(name, name)}, optional, checked)


def _array(items: Kind | None, *, optional: bool) -> Kind | None:
    if items is None:
        return None

    def element(at: int, node: Node) -> Node:
        if text_of(node) == _NULL:
            if items.optional:
                return node
            raise Mismatch(f"/{at}", "is null, and not optional")
        try:
            return items.checked(node)
        except Mismatch as error:
            raise Mismatch(f"/{at}{error.at}", error.text) from None

    def checked(node: Node) -> Node:
        elements = opened(node)
        if type(elements) is not list:
            raise Mismatch("", "is no array")
        return [element(at, each) for at, each in enumerate(elements)]

    schema = {"type": "array", "items": {**items.schema, "optional": items.optional}}
    return Kind(schema, optional, checked)


def _nested(fields: dict[str, Kind], *, optional: bool) -> Kind:
    def checked(node: Node) -> Node:
        members = opened(node)
        if type(members) is not dict:
            raise Mismatch("", "is no object")
        return _struct(members, fields)

    return Kind({"type": "struct", "fields": _named(fields)}, optional, checked)
