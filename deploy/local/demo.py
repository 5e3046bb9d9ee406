"""What `make run` keeps in its folder: a key for the demo, and the gateway's configuration."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.local.external import VARIABLE as BOOTSTRAP_SERVERS
from deploy.local.ports import free_ports, is_free
from ingest_http.auth import new_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "ingest.toml"
PORTS = {
    "INGEST_HTTP__LISTEN": 8080,
    "INGEST_MANAGEMENT__HTTP": 9090,
    "INGEST_MANAGEMENT__SYSLOG": 9091,
}
SYSLOG_PORTS = (5514, 2514)
"""Of the listeners in the example, which no variable can change."""


class AlreadyRunning(RuntimeError):  # noqa: N818 - read as a sentence
    """Somebody else uses the folder."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make ``folder``, and keep others out of it.

    Raises:
        AlreadyRunning: somebody is in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # given back when the file is closed
        except BlockingIOError:
            raise AlreadyRunning(f"it runs already, with its data in {folder}") from None
        yield


def demo_key(folder: Path) -> str:
    """The demo's API key: made at the first start, and known to this folder only."""
    path, part = folder / "key", folder / "key.part"
    if not path.exists():
        part.unlink(missing_ok=True)
        with open(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:  # noqa: PTH123
            file.write(new_key()[0])
        part.rename(path)  # a half-written key is never taken for a whole one
    return path.read_text()


def write_config(folder: Path, key: str) -> Path:
    """The example configuration, with ``key`` for every source; the file has its digest only."""
    path = folder / "ingest.toml"
    example = EXAMPLE.read_text(encoding="utf-8")
    for port in SYSLOG_PORTS:
        example = example.replace(f'"0.0.0.0:{port}"', f'"{_address(port)}"')
    path.write_text(
        f"# Made anew by every `make run`. What to change is {EXAMPLE.name} in deploy/examples.\n"
        f"{example}\n"
        "[auth.keys.demo]\n"
        f'sha256 = ["{hashlib.sha256(key.encode()).hexdigest()}"]\n'
        'sources = ["*"]\n',
        encoding="utf-8",
    )
    return path


def gateway_environment(bootstrap_servers: str, environ: Mapping[str, str]) -> dict[str, str]:
    """``environ``, and what it leaves open: where Kafka is, ports of this machine, quick ends."""
    return {
        "INGEST_SERVICE__PRESTOP_SECONDS": "0",  # there is no balancer that needs time to notice
        **{name: _address(port) for name, port in PORTS.items() if name not in environ},
        **environ,
        "INGEST_SERVICE__LOG_FORMAT": "json",
        BOOTSTRAP_SERVERS: bootstrap_servers,
    }


def _address(port: int) -> str:
    if not is_free(port):
        (other,) = free_ports(1)
        print(f"port {port} is taken: {other} is used instead", file=sys.stderr, flush=True)
        port = other
    return f"127.0.0.1:{port}"  # not for the neighbours: the key is on the screen
