"""A route: which records it takes, and what it makes of them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ingest.envelope import BadKey, record_key
from ingest.errors import Rejected
from ingest_forward.condition import Condition, compile_condition
from ingest_forward.connect_schema import ConnectSchema, compile_schema
from ingest_forward.document import BAD_JSON, ENCODER, Tokens, find, text_of
from ingest_forward.step import Step, Work, compile_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.config_problems import KeyPath
    from ingest_forward.event import Event
    from ingest_forward.problems import Problems
    from ingest_forward.settings import RouteSettings

BAD_DATA = "the data are no JSON (UTF-8, RFC 8259)"
TRACER = "ingest.tracer"
"""The record header of tracers."""


class Output(NamedTuple):
    """What a route makes of a record.

    Attributes:
        key: of the record to write; None is null.
        value: of the record to write; None is null.
    """

    key: bytes | None
    value: bytes | None


class Route:
    """A route that can be run.

    Attributes:
        name: as in the configuration.
        to: the topic that it writes to.
        format: cloudevents, plain or connect-envelope.
        where: the condition on what it takes; None: it takes everything.
        steps: in their order.
        schema: what the data must be like; None: anything.
        key: the pointer to the record key in the result; None: the record's own key.
        stops: at a record that can never be forwarded, instead of writing a dead letter.
        tracers: whether it takes them.
        passes_bytes: what it takes is passed on without a look into it.
        opens: it looks into the data of all that it takes.
        attributes: the CloudEvents attributes that it reads beyond the required ones.
    """

    def __init__(
        self,
        settings: RouteSettings,
        where: Condition | None,
        steps: Sequence[Step],
        key: Tokens | None,
        schema: ConnectSchema | None,
    ) -> None:
        self.name = settings.name
        self.to = settings.to
        self.format = settings.format
        self.where = where
        self.steps = tuple(steps)
        self._apply = tuple(step.apply for step in steps)
        self.schema = schema
        self.key = key
        self.stops = settings.on_error == "stop"
        self.tracers = settings.tracers == "include"
        self.passes_bytes = self.format == "cloudevents" and not steps and key is None
        self.opens = bool(steps or key is not None or schema is not None)
        self._encodes = self.format == "plain" and schema is None
        self.attributes = frozenset(name for step in steps for name in step.attributes)

    def excludes(self, event: Event) -> bool:
        """Whether ``event`` is left out because it is a tracer."""
        return not self.tracers and event.header(TRACER) is not None

    def takes(self, event: Event) -> bool:
        """Whether the conditions hold for ``event``; tracers are another question.

        Raises:
            Rejected: its value is no event, and a condition looks into it.
        """
        where = self.where
        if where is None:
            return True
        if event.value is None and where.reads_value:
            return False
        try:
            return where.test(event)
        except BAD_JSON:
            raise Rejected("invalid_json", BAD_DATA) from None

    def run(self, event: Event) -> Output:
        """What it makes of an event that it takes.

        Raises:
            Rejected: this event can never be forwarded.
        """
        try:
            return Output(*self.make(event))
        except BAD_JSON:
            raise Rejected("invalid_json", BAD_DATA) from None

    def make(self, event: Event) -> tuple[bytes | None, bytes | None]:
        """`run` for those who make many: a tuple, and errors as they come.

        Raises:
            BAD_JSON: the data are no JSON.
            Rejected: this event can never be forwarded.
        """
        if self.passes_bytes or event.value is None:
            return event.key, event.value
        if not self.opens:
            return event.key, _as_sent(event)
        work, changed = Work(event), False
        for apply in self._apply:
            if apply(work):
                changed = True
        key = event.key if self.key is None else self.key_of(work)
        if changed and self._encodes:
            return key, ENCODER.encode(work.root)
        return key, self.value_of(work, changed=changed)

    def key_of(self, work: Work) -> bytes | None:
        """The record key.

        Raises:
            Rejected: ``bad_key``.
        """
        if self.key is None:
            return work.event.key
        node = find(work.root, self.key)
        found = None if node is None else record_key(text_of(node))
        if isinstance(found, BadKey):
            raise Rejected("bad_key", "the key is an object or an array")
        return found

    def value_of(self, work: Work, *, changed: bool) -> bytes | None:
        """The record value.

        Raises:
            Rejected: ``schema_mismatch``, or ``not_cloudevents`` where there are no data.
        """
        if self.schema is not None:
            payload = self.schema.checked(work.root)
            if self.format == "connect-envelope":
                return self.schema.enveloped(payload)
            return ENCODER.encode(payload)
        if self.format == "cloudevents":
            return work.event.with_data(work.root) if changed else work.event.value
        return ENCODER.encode(work.root) if changed else _as_sent(work.event)


def _as_sent(event: Event) -> bytes:
    data = event.raw_data
    if data is None:
        raise Rejected("not_cloudevents", "the event has no data")
    return data


def compile_route(
    settings: RouteSettings, path: KeyPath, problems: Problems, hash_key: bytes | None
) -> Route | None:
    """The route of its settings; None, and what is wrong in ``problems``.

    Args:
        settings: of the route.
        path: where they are in the file.
        problems: takes what is wrong.
        hash_key: for the step ``hash``; None: there is none.
    """
    before = len(problems.found)
    where = None
    if settings.where is not None:
        where = compile_condition(settings.where, (*path, "where"), problems)
    steps = [
        compile_step(each, (*path, "steps", at), problems, hash_key)
        for at, each in enumerate(settings.steps)
    ]
    key = None
    if settings.key is not None:
        key = problems.pointer(settings.key, (*path, "key"))
    schema = _schema(settings, (*path, "schema"), problems)
    if len(problems.found) > before:
        return None
    return Route(settings, where, [each for each in steps if each is not None], key, schema)


def _schema(settings: RouteSettings, path: KeyPath, problems: Problems) -> ConnectSchema | None:
    value: dict[str, Any] | None = settings.schema_
    if value is None:
        if settings.format == "connect-envelope":
            problems.add(path, 'is required for format "connect-envelope"')
        return None
    if settings.format == "cloudevents":
        problems.add(path, 'is for the formats "plain" and "connect-envelope"')
        return None
    return compile_schema(value, path, problems)
