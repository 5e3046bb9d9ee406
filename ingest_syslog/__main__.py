"""``ingest-syslog``: the syslog front door. Its composition root and its command line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ingest import command
from ingest.config_change import change
from ingest.endpoint import Endpoint
from ingest.service import Service
from ingest_syslog.config import RELOADABLE, SyslogConfig
from ingest_syslog.front import make
from ingest_syslog.kernel_drops import KernelDrops
from ingest_syslog.publish import SERVICE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ingest_syslog.settings import ListenerSettings

DESCRIPTION = "Syslog front door of the data highway: UDP, TCP, TLS and RELP into Kafka."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status of the contract."""
    options = command.parser(SERVICE, DESCRIPTION).parse_args(arguments)
    return command.run(options, SyslogConfig, lambda c: _service(c, options.config).run())


def _endpoint(listener: ListenerSettings) -> Endpoint:
    is_udp = listener.protocol == "udp"
    return Endpoint(listener.listen, listener.receive_buffer_bytes if is_udp else 0)


def _about(config: SyslogConfig) -> dict[str, Any]:
    """What ``/status`` says of the configuration."""
    used = sorted(config.used_sources())
    return {
        "sources": {name: {"topic": config.sources[name].topic or name} for name in used},
        "spool": {"mode": config.spool.mode},
    }


def _service(config: SyslogConfig, path: Path | None) -> Service:
    return Service(
        SERVICE,
        settings=config.service,
        config=config,
        make=make,
        listeners={each.name: _endpoint(each) for each in config.syslog.listeners},
        management=config.management.syslog,
        workers=command.worker_count(config.syslog.workers),
        about=_about,
        reload=lambda current: change(
            current, command.load_for_service(path, SyslogConfig), RELOADABLE
        ),
        watch=KernelDrops,
    )


if __name__ == "__main__":
    sys.exit(main())
