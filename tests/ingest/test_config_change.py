"""What a reload takes of a new configuration, and how it says what differs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, SecretStr

from ingest.config_change import change
from ingest.errors import ConfigError
from ingest.settings import FileContent, Settings, SharedSettings

if TYPE_CHECKING:
    from ingest.config_problems import KeyPath

RELOADABLE: tuple[KeyPath, ...] = (
    ("sources",),
    ("auth",),
    ("door", "tls"),
    ("door", "schema"),
    ("house", "windows", "*", "glass"),
    ("syslog_sources",),
)
SECRET = "hunter2"
"""In every value, and in no key."""
DIGEST = re.compile(r"[0-9a-f]{64}")


class Tls(Settings):
    """Certificates, which are files."""

    cert: FileContent
    key: FileContent
    client_ca: FileContent | None = None


class Door(Settings):
    """A section of which some can be reloaded."""

    listen: str = "a"
    tls: Tls | None = None
    schema_: FileContent | None = Field(default=None, alias="schema")


class Window(Settings):
    """One of several of a kind."""

    name: str
    glass: str = "clear"
    size: int = 1


class House(Settings):
    """A section with tables in a list."""

    windows: list[Window] = Field(default_factory=list)


class Config(SharedSettings):
    """What a service has beside the shared sections."""

    door: Door = Door()
    house: House = House()


def tls(cert: bytes = b"c", key: bytes = b"k", **more: FileContent) -> dict[str, Any]:
    """Files for a door."""
    return {"cert": FileContent("c.pem", cert), "key": FileContent("k.pem", key), **more}


def key(digit: str = "0", *sources: str) -> dict[str, Any]:
    """A section [auth.keys.*]."""
    return {"sha256": [digit * 64], "sources": list(sources or ("*",))}


def config(**sections: Any) -> Config:
    """A configuration that differs from the defaults as told; it has a source ``orders``."""
    return Config.model_validate({"sources": {"orders": {}}} | sections)


def schema(content: bytes) -> dict[str, Any]:
    """Sources of which one has a schema of this content."""
    return {"orders": {"schema": FileContent("orders.json", content)}}


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ({}, {}, []),
        ({}, {"sources": {"orders": {}, "clicks": {}}}, ["sources.clicks: added"]),
        ({"sources": {"orders": {}, "a.b": {}}}, {}, ['sources."a.b": removed']),
        ({}, {"sources": {"orders": {"key": "/id"}}}, ["sources.orders.key: added"]),
        ({"sources": {"orders": {"key": "/id"}}}, {}, ["sources.orders.key: removed"]),
        (
            {"sources": {"orders": {"key": "/id", "topic": "t"}}},
            {"sources": {"orders": {"key": "/no", "type": "new", "topic": "t"}}},
            ["sources.orders.key: changed", "sources.orders.type: added"],
        ),
        (
            {},
            {"sources": {"orders": {"cors_origins": ["https://shop.example.com"]}}},
            ["sources.orders.cors_origins: changed"],
        ),
        ({"sources": schema(b"1")}, {"sources": schema(b"1")}, []),
        (
            {"sources": schema(b"1")},
            {"sources": schema(b"2")},
            ["sources.orders.schema: changed"],
        ),
        (
            {"auth": {"keys": {"shop": key("0"), "old": key("1")}}},
            {"auth": {"keys": {"shop": key("0", "shop-*"), "new": key("1")}}},
            [
                "auth.keys.shop.sources: changed",
                "auth.keys.old: removed",
                "auth.keys.new: added",
            ],
        ),
        (
            {"auth": {"keys": {"shop": key("0")}}},
            {"auth": {"keys": {"shop": key("1")}}},
            ["auth.keys.shop.sha256: changed"],
        ),
        ({}, {"auth": {"required": False}}, ["auth.required: changed"]),
        ({}, {"door": {"tls": tls()}}, ["door.tls: added"]),
        ({"door": {"tls": tls()}}, {}, ["door.tls: removed"]),
        ({"door": {"tls": tls()}}, {"door": {"tls": tls(b"2")}}, ["door.tls.cert: changed"]),
        (
            {"door": {"tls": tls()}},
            {"door": {"tls": tls(client_ca=FileContent("ca.pem", b"ca"))}},
            ["door.tls.client_ca: added"],
        ),
        ({}, {"door": {"schema": FileContent("s", b"s")}}, ["door.schema: added"]),
    ],
)
def test_what_can_be_reloaded_is_taken_and_named(
    before: dict[str, Any], after: dict[str, Any], changed: list[str]
) -> None:
    """By the keys of the file, quoted where they must be; a file's content counts like a value."""
    current, found = config(**before), config(**after)
    result = change(current, found, RELOADABLE)
    assert (result.config, result.changed, result.needs_restart) == (found, changed, [])


@pytest.mark.parametrize(
    ("before", "after", "keys"),
    [
        ({}, {"kafka": {"bootstrap_servers": "b:1"}}, ["kafka.bootstrap_servers"]),
        ({}, {"door": {"listen": "b"}}, ["door.listen"]),
        (
            {"topics": {"config": {"retention.ms": 1, "a": 1}}},
            {"topics": {"config": {"retention.ms": 2, "b": 1}, "partitions": 2}},
            [
                "topics.partitions",
                'topics.config."retention.ms"',
                "topics.config.a",
                "topics.config.b",
            ],
        ),
        (
            {"kafka": {"client_id": "a"}},
            {"kafka": {"client_id": "b"}, "limits": {"body_bytes": 1}},
            ["kafka.client_id", "limits.body_bytes"],
        ),
    ],
)
def test_what_needs_a_restart_stays_and_is_named(
    before: dict[str, Any], after: dict[str, Any], keys: list[str]
) -> None:
    """Every time, until there is a restart."""
    current = config(**before)
    for _ in range(2):
        result = change(current, config(**after), RELOADABLE)
        assert (result.config, result.changed, result.needs_restart) == (current, [], keys)
        current = result.config


def test_one_section_can_be_taken_in_part() -> None:
    """Beside what needs a restart in the same section and in others."""
    current = config(door={"listen": "a", "tls": tls()}, kafka={"client_id": "a"})
    found = config(door={"listen": "b", "tls": tls(b"2")}, kafka={"client_id": "b"})
    result = change(current, found, RELOADABLE)
    assert result.config == config(door={"listen": "a", "tls": tls(b"2")}, kafka=current.kafka)
    assert result.changed == ["door.tls.cert: changed"]
    assert result.needs_restart == ["kafka.client_id", "door.listen"]


def test_what_another_section_says_of_a_source_is_named_with_the_source() -> None:
    """Syslog took one over: it is closed for HTTP now, though its own keys are the same."""
    sources: dict[str, Any] = {"orders": {}, "logs": {}, "mail": {}}
    where = ("syslog", "listeners", 0, "source")
    current = config(sources=sources, syslog_sources={"logs": where})
    found = config(sources=sources, syslog_sources={"mail": where})
    result = change(current, found, RELOADABLE)
    assert result.config == found
    assert result.changed == ["sources.logs: changed", "sources.mail: changed"]
    new = config(sources=sources | {"new": {}}, syslog_sources={"logs": where, "new": where})
    assert change(current, new, RELOADABLE).changed == ["sources.new: added"]


def test_nothing_is_taken_that_does_not_go_with_what_needs_a_restart() -> None:
    """Each file is fine by itself; half of the new one beside half of the old one is not."""
    current = config(dead_letter={"topic": "rejects"})
    found = config(
        dead_letter={"topic": "others"}, sources={"orders": {}, "mine": {"topic": "rejects"}}
    )
    assert not list(found.conflicts())
    with pytest.raises(ConfigError) as caught:
        change(current, found, RELOADABLE)
    (problem,) = caught.value.problems
    assert problem.startswith("sources.mine.topic: 'rejects' is the dead letter topic")
    assert problem.endswith("(unless restarted, because of dead_letter.topic)")


NAMES = st.sampled_from(["a", "b", "c.d", "e f"])
TEXTS = st.sampled_from([f"{SECRET}-1", f"{SECRET}-2"])
FILES = st.builds(FileContent, TEXTS, TEXTS.map(str.encode))
SOURCES = st.fixed_dictionaries(
    {},
    optional={
        "topic": TEXTS,
        "key": TEXTS.map("/{}".format),
        "type": TEXTS,
        "schema": FILES,
        "cors_origins": st.lists(TEXTS.map("https://{}".format), max_size=2),
    },
)
KAFKA = st.fixed_dictionaries(
    {
        "security_protocol": st.just("SASL_PLAINTEXT"),
        "sasl_mechanism": st.just("PLAIN"),
        "sasl_username": TEXTS,
        "sasl_password": TEXTS.map(SecretStr),
        "client_id": TEXTS,
    }
)
TLS = st.fixed_dictionaries({"cert": FILES, "key": FILES}, optional={"client_ca": FILES})


@st.composite
def any_config(draw: st.DrawFn) -> Config:
    """Any configuration; every value has the secret in it or is a digest."""
    sources = draw(st.dictionaries(st.sampled_from(["a", "b", "c.d"]), SOURCES, min_size=1))
    free = [
        name
        for name, each in sources.items()
        if not each.keys() & {"key", "schema", "cors_origins"}
    ]
    of_syslog = draw(st.sets(st.sampled_from(free))) if free else set()
    digests = st.integers(0, 3).map(lambda number: f"{number:064x}")
    auth = {
        name: {"sha256": [f"{position}{draw(digests)[1:]}"], "sources": [draw(TEXTS)]}
        for position, name in enumerate(sorted(draw(st.sets(NAMES))))
    }
    door = st.fixed_dictionaries({"listen": TEXTS}, optional={"tls": TLS, "schema": FILES})
    return config(
        sources=sources,
        syslog_sources=dict.fromkeys(of_syslog, ("syslog", "listeners", 0, "source")),
        auth={"keys": auth},
        kafka=draw(KAFKA),
        topics={"config": draw(st.dictionaries(NAMES, TEXTS))},
        door=draw(door),
    )


CONFIGS = any_config().filter(lambda config: not list(config.conflicts()))


@given(CONFIGS, CONFIGS)
def test_a_reload_takes_everything_that_can_be_reloaded_and_nothing_else(
    current: Config, found: Config
) -> None:
    """Every other key stays what it was."""
    result = change(current, found, RELOADABLE).config
    taken = {"sources": found.sources, "auth": found.auth, "syslog_sources": found.syslog_sources}
    door = {"tls": found.door.tls, "schema_": found.door.schema_}
    door = current.door.model_copy(update=door)
    assert result == current.model_copy(update=taken | {"door": door})


@given(CONFIGS, CONFIGS)
def test_a_second_reload_of_the_same_changes_nothing(current: Config, found: Config) -> None:
    """What needs a restart is named again."""
    first = change(current, found, RELOADABLE)
    second = change(first.config, found, RELOADABLE)
    assert (second.config, second.changed) == (first.config, [])
    assert second.needs_restart == first.needs_restart
    assert bool(first.needs_restart) == (first.config != found)
    assert bool(first.changed) == (first.config != current)


@given(CONFIGS, CONFIGS)
def test_no_text_has_a_value_in_it(current: Config, found: Config) -> None:
    """They are logged and shown, and values may be secrets."""
    result = change(current, found, RELOADABLE)
    for text in (*result.changed, *result.needs_restart):
        assert SECRET not in text
        assert not DIGEST.search(text)
        assert "syslog_sources" not in text


def windows(*each: dict[str, Any]) -> Config:
    """A configuration with these windows."""
    listed = [Window(**window) for window in each]
    return Config(sources={"a": {}}, house=House(windows=listed))


def test_a_key_of_the_tables_in_a_list_is_taken_by_their_names() -> None:
    """Whatever their order; more or fewer of them need a restart."""
    current = windows({"name": "a"}, {"name": "b"})
    found = windows({"name": "c"}, {"name": "b", "glass": "blue", "size": 2})
    taken = change(current, found, RELOADABLE)
    assert taken.config == windows({"name": "a"}, {"name": "b", "glass": "blue"})
    assert taken.changed == ["house.windows.b.glass: changed"]
    assert sorted(taken.needs_restart) == [
        "house.windows.a",
        "house.windows.b.size",
        "house.windows.c",
    ]
