"""The subschemas of a JSON Schema: where each is, and what refers to it.

Source: JSON Schema Core, draft 2020-12, section 8.2.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urljoin

from ingest.schema_words import SchemaError, escaped, line, shown

if TYPE_CHECKING:
    from collections.abc import Iterator


DIALECT = "https://json-schema.org/draft/2020-12/schema"
BASE = "http://schema.invalid/"
"""Where a schema without ``$id`` is thought to be (RFC 6761: that host can never exist)."""
_SCHEMAS_BY_NAME = ("$defs", "definitions", "properties", "patternProperties", "dependentSchemas")
_SCHEMA_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SCHEMAS = (
    *("items", "contains", "additionalProperties", "propertyNames", "not", "if", "then", "else"),
    *("unevaluatedItems", "unevaluatedProperties", "contentSchema"),
)
REFERENCES = ("$ref", "$dynamicRef")
_IN_PLACE = {"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"}


class Places:
    """Every subschema of a schema, by its JSON Pointer in the document ("" is the whole).

    Args:
        document: the parsed schema.

    Raises:
        SchemaError: for another dialect, and for a reference that leaves the document.
    """

    def __init__(self, document: Any) -> None:
        self.nodes: dict[str, Any] = {}
        self.names: set[str] = set()
        """The names of properties that the schema declares anywhere."""
        self._bases: dict[str, str] = {}
        self._targets: dict[str, str] = {}
        self._visit(document)
        for pointer, node in self.nodes.items():
            for reference in references(node):
                self._check_local(reference, self._bases[pointer])

    def resolve(self, pointer: str, reference: str) -> str | None:
        """The place that a reference of the subschema at ``pointer`` leads to, if it is known."""
        resource, fragment = urldefrag(_join(self._bases[pointer], reference))
        if fragment and not fragment.startswith("/"):
            return self._targets.get(f"{resource}#{fragment}")
        root = self._targets.get(resource)
        target = None if root is None else root + unquote(fragment)
        return target if target in self.nodes else None

    def patterns(self) -> Iterator[str]:
        """Every regular expression of the schema."""
        for _, node in self._objects():
            yield from (node[each] for each in ("pattern",) if each in node)
            yield from node.get("patternProperties", ())

    def refuse_loops(self) -> None:
        """Refuse a schema that needs itself to decide about the same value.

        Raises:
            SchemaError: there is one (Core, section 9.4.1 leaves open what that would mean).
        """
        graph = {pointer: set(self._in_place(pointer, node)) for pointer, node in self._objects()}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            place = error.args[1][0] or "the schema"
            raise SchemaError(f"{line(place)}: refers to itself without end") from None

    def _objects(self) -> Iterator[tuple[str, dict[str, Any]]]:
        return ((place, node) for place, node in self.nodes.items() if isinstance(node, dict))

    def _in_place(self, pointer: str, node: dict[str, Any]) -> Iterator[str]:
        for suffix, _, keyword in _children(node):
            if keyword in _IN_PLACE:
                yield pointer + suffix
        for reference in references(node):
            target = self.resolve(pointer, reference)
            if target is not None:
                yield target

    def _visit(self, document: Any) -> None:
        pending = [("", document, BASE)]
        while pending:
            pointer, node, base = pending.pop()
            self.nodes[pointer] = node
            if isinstance(node, dict):
                base = self._enter(pointer, node, base)
                pending += [(pointer + suffix, each, base) for suffix, each, _ in _children(node)]
            self._bases[pointer] = base
        self.base = self._bases[""]

    def _enter(self, pointer: str, node: dict[str, Any], base: str) -> str:
        """Note what the subschema declares; the base of its references."""
        dialect = node.get("$schema", DIALECT)
        if not isinstance(dialect, str) or dialect.removesuffix("#") != DIALECT:
            raise SchemaError(f"$schema is {shown(dialect)}: only {DIALECT} is supported")
        identifier = node.get("$id")
        if isinstance(identifier, str):
            base = urldefrag(_join(base, identifier)).url
        if isinstance(identifier, str) or not pointer:
            self._targets[base] = pointer
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(node.get(keyword), str):
                self._targets[f"{base}#{node[keyword]}"] = pointer
        self.names.update(_declared(node))
        return base

    def _check_local(self, reference: str, base: str) -> None:
        if urldefrag(_join(base, reference)).url not in self._targets:
            text = "leads out of the schema: only references inside of it are allowed"
            raise SchemaError(f"the reference {shown(reference)} {text}")


def _children(node: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Pointer below the node, and keyword, of each subschema directly inside of it."""
    for keyword, argument in node.items():
        if keyword in _SCHEMAS:
            yield f"/{keyword}", argument, keyword
        elif keyword in _SCHEMA_LISTS and isinstance(argument, list):
            yield from ((f"/{keyword}/{at}", each, keyword) for at, each in enumerate(argument))
        elif keyword in _SCHEMAS_BY_NAME and isinstance(argument, dict):
            for name, each in argument.items():
                yield f"/{keyword}/{escaped(name)}", each, keyword


def references(node: Any) -> list[str]:
    """The references of a subschema."""
    found = [node.get(keyword) for keyword in REFERENCES] if isinstance(node, dict) else []
    return [each for each in found if isinstance(each, str)]


def _declared(node: dict[str, Any]) -> Iterator[str]:
    """Names of properties in one subschema."""
    for keyword in ("properties", "dependentSchemas", "dependentRequired"):
        if isinstance(node.get(keyword), dict):
            yield from node[keyword]
    dependent = node.get("dependentRequired")
    required = list(dependent.values()) if isinstance(dependent, dict) else []
    for names in (node.get("required"), *required):
        if isinstance(names, list):
            yield from (each for each in names if isinstance(each, str))


def _join(base: str, reference: str) -> str:
    """RFC 3986, section 5.2; a fragment also under bases such as ``urn:``."""
    try:
        return base + reference if reference.startswith("#") else urljoin(base, reference)
    except ValueError as error:
        raise SchemaError(f"the reference {shown(reference)} is no URI: {line(error)}") from None
