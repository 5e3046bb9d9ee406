"""Logs: structured, to standard error, one line for each event.

Values are escaped, so that nothing a client sends can forge a line or drive a terminal. Payloads
and keys are never logged at all.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from structlog.typing import Processor, WrappedLogger

    from ingest.settings import ServiceSettings

SILENCED = ("aiokafka", "kafka", "aiohttp.server", "aiohttp.access")
"""Libraries that log every attempt against a dead broker, or what clients sent; what is worth
knowing of it is logged here once."""


def configure(settings: ServiceSettings, service: str) -> None:
    """Log as ``settings`` say, from now on, in this process."""
    level = getattr(logging, settings.log_level.upper())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _naming(service),
        structlog.processors.format_exc_info,
    ]
    render = _renderer(settings.log_format)
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    _take_over_the_standard_library(shared, render, level)


def _naming(service: str) -> Processor:
    def add(
        _logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event["service"] = service
        return event

    return add


def _renderer(log_format: str) -> Processor:
    as_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    if as_text:
        return structlog.processors.KeyValueRenderer(
            key_order=["timestamp", "level", "event"], drop_missing=True
        )
    return structlog.processors.JSONRenderer()


def _take_over_the_standard_library(shared: list[Processor], render: Processor, level: int) -> None:
    """What libraries log in the standard way looks the same, from warnings up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    for name in SILENCED:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
