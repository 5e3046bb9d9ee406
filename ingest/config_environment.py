"""Environment variables that override single values of the configuration.

``INGEST_<SECTION>__<KEY>``; of sections with fixed keys only, and of single values only.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from ingest.config_problems import KeyPath, suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

PREFIX = "INGEST_"
_BOOLEANS = {"true": True, "false": False}


class Overlay:
    """The values that the environment sets, and what is wrong with it.

    Attributes:
        values: (section, key) -> value.
        names: path of the key -> variable.
        problems: (variable, text).

    Args:
        environ: the environment.
        sections: section -> its model, of this service.
        foreign: the sections of other services, whose keys are not looked at.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        sections: Mapping[str, type[BaseModel]],
        foreign: frozenset[str],
    ) -> None:
        self.values: dict[tuple[str, str], Any] = {}
        self.names: dict[KeyPath, str] = {}
        self.problems: list[tuple[str, str]] = []
        self._sections = sections
        self._known = {
            _variable(section, key): (section, key)
            for section, model in sections.items()
            for key in model.model_fields
        }
        self._foreign = tuple(_variable(section, "") for section in foreign)
        for name, text in sorted(environ.items()):
            if name.startswith(PREFIX) and not name.startswith(self._foreign):
                self._take(name, text)

    def field(self, section: str, key: str) -> FieldInfo:
        """The field that a value is for."""
        return self._sections[section].model_fields[key]

    def _take(self, name: str, text: str) -> None:
        place = self._known.get(name)
        if place is None:
            close = suggestion(name.upper(), self._known, PREFIX)
            self.problems.append((name, "unknown variable" + close))
            return
        try:
            self.values[place] = _parsed(text, self.field(*place).annotation)
            self.names[place] = name
        except ValueError as error:
            self.problems.append((name, str(error)))


def _variable(section: str, key: str) -> str:
    return f"{PREFIX}{section}__{key}".upper()


def _parsed(text: str, annotation: Any) -> Any:
    """``text`` as a value for a field of this type; what does not fit is left for validation."""
    kinds = _alternatives(annotation)
    if any(get_origin(kind) in {list, dict} or _is_table(kind) for kind in kinds):
        raise ValueError("only single values can be set by the environment")
    if bool in kinds and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    for number in (int, float):
        if number in kinds:
            try:
                return number(text)
            except ValueError:
                continue
    return text


def _alternatives(annotation: Any) -> set[Any]:
    if get_origin(annotation) in {Union, types.UnionType}:
        return {kind for each in get_args(annotation) for kind in _alternatives(each)}
    if get_origin(annotation) is Literal:
        return {str}
    if hasattr(annotation, "__metadata__"):
        return _alternatives(annotation.__origin__)
    return {annotation}


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
