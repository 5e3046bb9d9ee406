"""A reload makes anew what has changed, and nothing else."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from ingest.inflight import Budget
from ingest.settings import FileContent
from ingest_http.config import HttpConfig
from ingest_http.rules import Rules, compiled

BUDGET = Budget(1000)


def config(**sections: Any) -> HttpConfig:
    """A configuration with two sources, one of which has a schema, and a key with a quota."""
    key = {"sha256": [digest("one")], "sources": ["*"], "events_per_second": 5}
    usual = {
        "sources": {"orders": {"schema": schema("string")}, "clicks": {}},
        "auth": {"keys": {"shop": key}},
    }
    return HttpConfig.model_validate(usual | sections)


def digest(key: str) -> str:
    """What the configuration has of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def schema(kind: str) -> FileContent:
    """A schema of this type."""
    return FileContent("order.json", json.dumps({"type": kind}).encode())


def rules(found: HttpConfig, before: Rules | None = None) -> Rules:
    """The rules of a configuration."""
    return Rules(found, compiled(found, before), BUDGET, before)


def test_what_has_not_changed_is_kept() -> None:
    """Hundreds of sources would hold the event loop for long."""
    before = rules(config())
    after = rules(config(), before)
    assert after.roads == before.roads
    assert compiled(config(), before) == {}
    assert after.auth.key("shop") is before.auth.key("shop")


@pytest.mark.parametrize(
    ("orders", "kept"),
    [
        ({"schema": schema("string")}, True),
        ({"schema": schema("object")}, False),
        ({}, False),
        ({"schema": schema("string"), "validate": "warn"}, False),
        ({"schema": schema("string"), "cors_origins": ["https://a"]}, False),
    ],
)
def test_what_has_changed_is_made_anew(orders: dict[str, Any], *, kept: bool) -> None:
    """Also where only the content of a file has; other sources stay as they are."""
    before = rules(config())
    after = rules(config(sources={"orders": orders, "clicks": {}}), before)
    assert (after.roads["orders"] is before.roads["orders"]) is kept
    assert after.roads["clicks"] is before.roads["clicks"]
    assert (after.roads["orders"].schema is not None) is ("schema" in orders)


def test_a_source_that_becomes_that_of_syslog_has_no_road() -> None:
    """And has one again when it comes back."""
    before = rules(config())
    after = rules(config(syslog_sources={"clicks": ("syslog", "rules", 0)}), before)
    assert after.roads.keys() == {"orders"}
    assert after.sources.keys() == {"orders", "clicks"}
    assert rules(config(), after).roads.keys() == {"orders", "clicks"}


@pytest.mark.parametrize(("limit", "kept"), [(5, True), (6, False)])
def test_a_quota_goes_on_while_a_key_is_rotated(limit: int, *, kept: bool) -> None:
    """Unless the quota itself is another one."""
    before = rules(config())
    key = {"sha256": [digest("two")], "sources": ["a-*"], "events_per_second": limit}
    after = rules(config(auth={"keys": {"shop": key}}), before)
    old, new = before.auth.key("shop"), after.auth.key("shop")
    assert old is not None
    assert new is not None
    assert (new.quota is old.quota) is kept
    assert (old.covers("b"), new.covers("b")) == (True, False)
