"""The schemas of sources, moved into an OpenAPI document, where each of their parts has a name.

Source: JSON Schema 2020-12, sections 8.2 (identifiers, references) and 9.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin

from ingest.sources import pointer_tokens

Json = dict[str, Any]
Tokens = tuple[str, ...]

if TYPE_CHECKING:
    from ingest_http.openapi_names import Names

_DEFINITIONS = frozenset({"$defs", "definitions"})
_NAMED = frozenset({"dependencies", "dependentSchemas", "patternProperties", "properties"})
"""Keywords whose value is an object of schemas, as it is with definitions."""
_SPELT_OUT = frozenset(
    {"allOf", "anyOf", "contains", "contentSchema", "else", "if", "items", "not", "oneOf"}
    | {"prefixItems", "propertyNames", "then"}
)
"""Keywords whose value is a schema or several; a boolean among them becomes an object."""
_REST = frozenset({"additionalProperties", "unevaluatedItems", "unevaluatedProperties"})
"""The same, but here every tool knows what a boolean says."""
_DATA = frozenset(
    {"const", "default", "dependentRequired", "enum", "example", "examples", "required", "type"}
)
"""Keywords whose value is data, whatever it looks like. What others hold may be anything, schemas
that something refers to as well, and is left out."""
_LEFT_OUT = {
    *("$anchor", "$dynamicAnchor", "$dynamicRef", "$id", "$ref", "$schema", "$vocabulary"),
    *("discriminator", "externalDocs", "xml"),  # OpenAPI's words: in a JSON Schema they say nothing
}
_ROOT = "http://root.invalid/"
"""The base of a schema without an ``$id``: what is relative to it is found all the same."""


class _NoPlace(Exception):  # noqa: N818 - a verdict
    """A reference leads to no place, or a dynamic one to several."""


def component_schemas(name: str, schema: Any, names: Names) -> Json:
    """A JSON Schema as components that accept the same values.

    One is made for the schema and one for whatever is referred to: many generators know no other
    references. Identifiers are left out, because two sources may have the same. A schema whose
    dynamic references lead here or there becomes any object.

    Args:
        name: of the component for the schema itself.
        schema: JSON Schema 2020-12; references lead to places in it.
        names: gives the other components theirs.
    """
    if not isinstance(schema, dict):
        return {name: _spelt_out(schema)}
    try:
        return _Move(name, schema, names).components()
    except _NoPlace:
        text = "Its schema has dynamic references: see GET on the path of the source."
        return {name: {"type": "object", "description": text}}


class _Move:
    """Moves one schema document.

    Args:
        name: of the component for its root.
        schema: the document.
        names: gives the other components theirs.
    """

    def __init__(self, name: str, schema: Json, names: Names) -> None:
        self._schema = schema
        self._unique = names.unique
        self._names: dict[Tokens, str] = {(): name}  # place -> its component
        self._waiting: list[Tokens] = [()]
        self._places: dict[str, Tokens] = {_ROOT: ()}  # URI of a resource or anchor -> where it is
        self._dynamic: dict[str, list[str]] = {}  # dynamic anchor -> its URIs
        self._learn(schema, (), _ROOT)

    def components(self) -> Json:
        """The components by name."""
        moved = {}
        while self._waiting:
            place = self._waiting.pop()
            schema, base = self._at(place)
            moved[self._names[place]] = self._moved(_spelt_out(schema), base)
        return moved

    def _at(self, place: Tokens) -> tuple[Any, str]:
        """The schema there, and the base URI around it."""
        schema: Any = self._schema
        base = _ROOT
        for token in place:
            if isinstance(schema, list):
                schema = schema[int(token)]
            else:
                base = _base(base, schema)
                schema = schema[token]
        return schema, base

    def _learn(self, schema: Any, place: Tokens, base: str) -> None:
        """Note which URIs lead to ``place`` and below."""
        if isinstance(schema, list):
            for index, each in enumerate(schema):
                self._learn(each, (*place, str(index)), base)
        elif isinstance(schema, dict):
            base = _base(base, schema)
            self._note(schema, place, base)
            for keyword, value in schema.items():
                if keyword in _NAMED | _DEFINITIONS:
                    for own, each in value.items():
                        self._learn(each, (*place, keyword, own), base)
                elif keyword in _SPELT_OUT | _REST:
                    self._learn(value, (*place, keyword), base)

    def _note(self, schema: Json, place: Tokens, base: str) -> None:
        self._places.setdefault(base, place)
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(anchor := schema.get(keyword), str):
                self._places[f"{base}#{anchor}"] = place
                if keyword == "$dynamicAnchor":
                    self._dynamic.setdefault(anchor, []).append(f"{base}#{anchor}")

    def _moved(self, schema: Any, base: str) -> Any:
        """A schema, or several, with references to components."""
        if isinstance(schema, list):
            return [self._moved(each, base) for each in schema]
        if not isinstance(schema, dict):
            return schema
        base = _base(base, schema)
        moved: Json = {}
        for keyword, value in schema.items():
            if keyword in _NAMED:
                moved[keyword] = {
                    own: self._moved(_spelt_out(each), base) for own, each in value.items()
                }
            elif keyword in _SPELT_OUT:
                moved[keyword] = self._moved(_spelt_out(value), base)
            elif keyword in _REST:
                moved[keyword] = self._moved(value, base)
            elif keyword in _DATA or not (keyword in _LEFT_OUT or isinstance(value, dict | list)):
                moved[keyword] = value
        references = self._references(schema, base)
        if len(references) > 1:
            return moved | {"allOf": [*moved.get("allOf", ()), *references]}
        return moved | references[0] if references else moved

    def _references(self, schema: Json, base: str) -> list[Json]:
        uris = []
        if isinstance(reference := schema.get("$ref"), str):
            uris.append(_absolute(base, reference))
        if isinstance(reference := schema.get("$dynamicRef"), str):
            uris.append(self._outermost(_absolute(base, reference)))
        return [{"$ref": self._moved_to(uri)} for uri in uris]

    def _moved_to(self, uri: str) -> str:
        """The component for what a reference leads to; it is still to be made, perhaps."""
        resource, _, fragment = uri.partition("#")
        tokens: Tokens = ()
        if fragment.startswith("/"):
            tokens, fragment = pointer_tokens(unquote(fragment)), ""
        start = self._places.get(f"{resource}#{fragment}" if fragment else resource)
        if start is None:
            raise _NoPlace
        place = (*start, *tokens)
        if place not in self._names:
            word = re.sub(r"[^A-Za-z0-9._-]+", "_", place[-1])
            self._names[place] = self._unique(f"{self._names[()]}.{word}")
            self._waiting.append(place)
        return f"#/components/schemas/{self._names[place]}"

    def _outermost(self, uri: str) -> str:
        """Where a dynamic reference leads (JSON Schema core, section 8.2.3.2).

        To the anchor of that name in the outermost resource on the way, which begins at the root.
        """
        anchor = uri.partition("#")[2]
        anchors = self._dynamic.get(anchor, [])
        if uri not in anchors:
            return uri  # as `$ref` does
        if (own := f"{_base(_ROOT, self._schema)}#{anchor}") in anchors:
            return own
        if len(anchors) > 1:
            raise _NoPlace
        return uri


def _spelt_out(schema: Any) -> Any:
    """A schema, or several, as objects: generators refuse a document with booleans among them."""
    if isinstance(schema, list):
        return [_spelt_out(each) for each in schema]
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    return schema


def _base(outer: str, schema: Json) -> str:
    """The base URI of a schema, without a fragment."""
    own = schema.get("$id")
    return _absolute(outer, own).partition("#")[0] if isinstance(own, str) else outer


def _absolute(base: str, reference: str) -> str:
    """`urljoin`, which knows no relative references to URNs."""
    return base + reference if reference.startswith("#") else urljoin(base, reference)
