"""The gateway as a child process."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

import pytest

from deploy.local.demo import write_config
from deploy.local.gateway import Gateway, _entry, _url, _whole_lines, until_ready
from tests.deploy.processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ENVIRON = {
    "INGEST_SERVICE__LOG_FORMAT": "json",
    "INGEST_SERVICE__PRESTOP_SECONDS": "0",
    "INGEST_HTTP__LISTEN": "127.0.0.1:0",
    "INGEST_MANAGEMENT__HTTP": "127.0.0.1:0",
    "INGEST_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
}


class Enough(Exception):  # noqa: N818 - ends a waiting that would have no end
    """What was waited for has been seen."""


def _gateway(folder: Path, said: list[Mapping[str, Any]], **more: str) -> Gateway:
    environ = clean_environment(**{**ENVIRON, **more})
    return Gateway(write_config(folder, "key"), folder / "log", environ, said.append)


async def test_it_says_where_it_listens_why_it_waits_and_ends_in_good_order(
    tmp_path: Path,
) -> None:
    """Its addresses come from its log, the reasons from its management port."""
    (tmp_path / "log").write_text("of an earlier run\n")
    said: list[Mapping[str, Any]] = []
    with _gateway(tmp_path, said) as gateway:
        following = asyncio.create_task(gateway.follow())
        http, management = await asyncio.wait_for(gateway.urls(), 20)
        assert http != management
        assert gateway.status is None

        def wait(reasons: list[str]) -> None:
            assert reasons
            raise Enough

        with pytest.raises(Enough):
            await until_ready(management, wait)
    assert gateway.status == 0
    await asyncio.wait_for(following, 5)
    events = [entry.get("event") for entry in said]
    assert events[:2] == ["listening", "listening"]
    assert events[-1] == "stopped"


async def test_what_a_gateway_says_before_it_fails_is_heard(tmp_path: Path) -> None:
    """Also what is no log entry, such as an error of its configuration."""
    said: list[Mapping[str, Any]] = []
    with _gateway(tmp_path, said, INGEST_HTTP__WORKERS="-1") as gateway:
        await asyncio.wait_for(gateway.follow(), 20)
        assert gateway.status == 2
    assert "INGEST_HTTP__WORKERS" in said[0]["text"]


def test_a_line_is_read_once_it_is_whole() -> None:
    """What is still being written comes with the next look, all of it."""
    file = io.BytesIO(b"one\ntw")
    assert list(_whole_lines(file)) == [b"one\n"]
    place = file.tell()
    file.seek(0, io.SEEK_END)
    file.write(b"o\nthree\n")
    file.seek(place)
    assert list(_whole_lines(file)) == [b"two\n", b"three\n"]


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        (b'{"event":"x"}\n', {"event": "x"}),
        (b"Traceback\n", {"text": "Traceback"}),
        (b"17\n", {"text": "17"}),
        (b"\xff\n", {"text": "\N{REPLACEMENT CHARACTER}"}),
    ],
)
def test_every_line_is_an_entry(line: bytes, entry: dict[str, str]) -> None:
    """Whatever it is."""
    assert _entry(line) == entry


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("[::]:8080", "http://[::1]:8080"),
        ("192.0.2.1:80", "http://192.0.2.1:80"),
    ],
)
def test_a_url_can_be_used_on_this_machine(address: str, url: str) -> None:
    """No client can connect to an address that means all of them."""
    assert _url(address) == url
