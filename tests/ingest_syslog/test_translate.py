"""Translating a read: what is usual, what is not, and what a defect of ours would do to it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from ingest_syslog import translate
from tests.syslog_door import message, messages, on_uvloop, open_door

TCP: dict[str, Any] = {"protocol": "tcp"}
RULES = [{"when": {"app_name": "odd"}, "source": "logs"}]
SECRET = "the secret"
FAILED = ["translation_failed"]


def broken(*_: object, **__: object) -> Any:
    """Raise as code with a defect does: with a part of its input."""
    raise ValueError(SECRET)


@pytest.mark.parametrize("name", ["rfc5424", "rfc3164"])
@pytest.mark.parametrize("rules", [[], RULES], ids=["one source", "rules"])
@on_uvloop
async def test_a_defect_of_a_fast_way_leaves_all_to_the_slow_one(
    monkeypatch: pytest.MonkeyPatch, name: str, rules: list[dict[str, Any]]
) -> None:
    """Every message is produced once, and the place of the defect is told without its words."""
    splice = getattr(translate.Splicer, name)

    def half_way(*arguments: Any) -> Any:
        splice(*arguments)
        broken()

    monkeypatch.setattr(translate.Splicer, name, half_way)
    async with open_door(TCP, rules=rules, errors=FAILED) as door:
        client = await door.connect()
        await client.send(b"".join(each + b"\n" for each in messages(50)))
        assert await door.written(50) == [f"{number}" for number in range(50)]
        assert door.outcomes() == {"acked": 50}
        assert {each["status"] for each in door.data()} == {"ok"}


@on_uvloop
async def test_a_message_that_breaks_the_parser_is_kept_as_it_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its neighbours are none the worse; and a client that resends would never get past it."""
    monkeypatch.setattr(translate, "parse", broken)
    odd = [b"<13>odd", b"\xff odd", b"<13>" + b"x" * 500]
    with capture_logs() as logs:
        async with open_door({**TCP, "frame_bytes": 480}, errors=FAILED) as door:
            client = await door.connect()
            await client.send(b"\n".join([message("1"), *odd, message("2")]) + b"\n")
            await door.written(5)
            assert door.outcomes() == {"acked": 5}
            found = door.data()
    told = [(each["status"], each.get("reason")) for each in found]
    raw = [("raw", "unrecognised"), ("raw", "invalid_utf8"), ("raw", "truncated")]
    assert sorted(told, key=str) == sorted([("ok", None), ("ok", None), *raw], key=str)
    assert {each["raw"] for each in found if "raw" in each} == {"<13>odd", odd[2].decode()[:480]}
    failed = [each for each in [*logs, *door.logs] if each["event"] == "translation_failed"]
    assert {each["error"] for each in failed} == {"ValueError"}
    assert all(each["where"].startswith("test_translate.py:") for each in failed)
    assert SECRET not in json.dumps([*logs, *door.logs], default=str)
