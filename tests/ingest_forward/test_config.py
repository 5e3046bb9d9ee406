"""The configuration of the forwarder: all that is wrong is told at once, with file and key."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from ingest import toml
from ingest.config import dump, load
from ingest.config_change import change
from ingest.errors import ConfigError
from ingest_forward.config import RELOADABLE, ForwardConfig
from tests.ingest_forward.engine import about, sealed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVENT = sealed(b'{"customer_id":"c","total":5,"card":"1","email":"a@b","secret":1}').decode()
CONTRACT = f"""
[forward]
group = "ingest-forward"
hash_key = {{ env = "PII_HASH_KEY" }}

[[forward.routes]]
name = "orders-to-warehouse"
from = ["orders", "web-*"]       # topics or patterns
where = {{ all = [ {{ type = "order.created" }}, {{ field = "/total", above = 0 }} ] }}
steps = [
  {{ lift = {{ "/event_id" = "id" }} }},
  {{ rename = {{ "/customer_id" = "/customer" }} }},
  {{ cast = {{ "/total" = "float64" }} }},
  {{ drop = ["/secret"] }}, {{ mask = ["/card"] }}, {{ hash = ["/email"] }},
  {{ truncate = {{ "/note" = 200 }} }},
]
key = "/customer"                # default: the record's own key
to = "warehouse.orders"
format = "plain"                 # cloudevents | plain | connect-envelope
schema = {{ customer = "string", total = "float64", note = {{ type = "string", optional = true }} }}
on_error = "dead_letter"         # or "stop"
tracers = "exclude"              # or "include"
[[forward.routes.examples]]
in = '''{EVENT}'''
out = '''{{"customer":"c","total":5.0}}'''
[[forward.routes.examples]]
in = '''{EVENT.replace("created", "paid")}'''
skip = true
[[forward.routes.examples]]
in = '''{EVENT.replace('"c"', "5")}'''
reject = "schema_mismatch"
"""
HASH_KEY = {"PII_HASH_KEY": "hunter2"}


def route(name: str = "r", **settings: Any) -> dict[str, Any]:
    """A route as in the file."""
    return {"name": name, "from": ["orders"], "to": f"{name}.out", **settings}


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[..., ForwardConfig]:
    """Loads a configuration with these routes, and these settings of other sections."""

    def load_routes(*routes: dict[str, Any], **sections: Any) -> ForwardConfig:
        forward = {**sections.pop("forward", {}), **({"routes": list(routes)} if routes else {})}
        file = tmp_path / "ingest.toml"
        file.write_text(toml.dumps({"forward": forward, **sections}))
        return load(file, ForwardConfig, HASH_KEY)

    return load_routes


@pytest.fixture
def problems(loaded: Callable[..., ForwardConfig], tmp_path: Path) -> Callable[..., list[str]]:
    """What is wrong with a configuration, less the name of the file, which each begins with."""

    def find(*routes: dict[str, Any], **sections: Any) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            loaded(*routes, **sections)
        prefix = f"{tmp_path / 'ingest.toml'}: "
        assert all(each.startswith(prefix) for each in caught.value.problems)
        return [each.removeprefix(prefix) for each in caught.value.problems]

    return find


# What is fine.


def test_the_configuration_of_the_contract(tmp_path: Path) -> None:
    """It is taken, its examples come out, and nothing else is needed."""
    file = tmp_path / "ingest.toml"
    file.write_text(CONTRACT)
    config = load(file, ForwardConfig, HASH_KEY)
    (made,) = config.table().routes
    assert (made.name, made.to, made.key) == (
        "orders-to-warehouse",
        "warehouse.orders",
        ("customer",),
    )
    assert [step.name for step in made.steps] == [
        *("lift", "rename", "cast", "drop", "mask", "hash", "truncate")
    ]
    assert made.attributes == {"id"}
    assert config.topics_written() == {"warehouse.orders", "ingest.rejected"}


def test_defaults(loaded: Callable[..., ForwardConfig]) -> None:
    """A route needs a name, what it reads and what it writes."""
    config = loaded({"name": "r", "from": "orders", "to": "out"})
    (made,) = config.forward.routes
    assert (config.forward.group, config.forward.workers, config.forward.hash_key) == (
        *("ingest-forward", 1),
        None,
    )
    assert (made.from_, made.format, made.on_error, made.tracers) == (
        ["orders"],
        *("plain", "dead_letter", "exclude"),
    )


def test_only_dead_letters_that_can_be_are_written(loaded: Callable[..., ForwardConfig]) -> None:
    """Not where all routes stop; then there need be no topic for them."""
    config = loaded(route(on_error="stop"), dead_letter={"mode": "off"})
    assert config.topics_written() == {"r.out"}


def test_what_is_printed_can_be_read(tmp_path: Path) -> None:
    """And does the same; secrets are masked."""
    file = tmp_path / "ingest.toml"
    file.write_text(
        CONTRACT
        + """
[[forward.routes]]
name = "b"
from = "orders"
to = "b"
where = { any = [{ not = { field = "/a", in = [1, "x", true] } }, { header = "h", equals = "v" }] }
steps = [{ set = { "/a" = [1, { b = "c" }], "/d" = { e = 1.5 } } }, { flatten = "_" }]
schema = { l = { type = "array", items = { type = "struct", fields = { a = "int32" } } } }
format = "connect-envelope"
"""
    )
    config = load(file, ForwardConfig, HASH_KEY)
    text = dump(config)
    assert "hunter2" not in text
    assert tomllib.loads(text)["forward"]["hash_key"] == "***"
    file.write_text(text)
    assert load(file, ForwardConfig, HASH_KEY).forward.routes == config.forward.routes


def test_what_hash_uses_is_the_key_of_the_configuration(tmp_path: Path) -> None:
    """Which may come from a variable or a file."""
    (tmp_path / "key").write_text("hunter2\n")
    found = set()
    for source in ('{ env = "PII_HASH_KEY" }', '{ file = "key" }', '"hunter2"', '"other"'):
        file = tmp_path / "ingest.toml"
        file.write_text(
            f'[forward]\nhash_key = {source}\n[[forward.routes]]\nname = "r"\nfrom = "a"\n'
            'to = "b"\nsteps = [{ hash = ["/a"] }]\n'
        )
        (made,) = load(file, ForwardConfig, HASH_KEY).table().routes
        found.add(made.run(about(b'{"a":"x"}')).value)
    assert len(found) == 2


# What is wrong.


def test_a_forwarder_needs_a_route(problems: Callable[..., list[str]]) -> None:
    """But no sources: it reads topics, whoever writes them."""
    assert problems() == ["forward.routes: no route is configured: add [[forward.routes]]"]


def test_every_error_is_told_at_once(problems: Callable[..., list[str]]) -> None:
    """Of all routes and sections, each with its key and a suggestion."""
    found = problems(
        {
            "name": "a b",
            "fro": "x",
            "to": "no topic",
            "where": {"all": [{"feild": "/a", "equals": 1}, {"type": 5}]},
            "steps": [{"drop": ["a"]}, {"dorp": ["/a"]}, {"mask": ["/a"], "hash": ["/b"]}],
            "key": "customer",
            "format": "plane",
            "schema": {"a": "sting"},
            "on_error": "dead-letter",
            "tracers": "yes",
        },
        {
            "name": "b",
            "from": [],
            "to": "b",
            "steps": [{"cast": {"/a": "int32", "/b": "in64"}}, {"truncate": {"/a": -1}}],
            "examples": [{"out": "{}"}, {"in": "{}", "output": "{}"}],
        },
        {"from": ["a b", "x", ".."], "where": "a > 1", "steps": {}, "schema": {}},
        forward={"group": "", "gruop": "x", "workers": 0},
        kafka={"compresion": "zstd"},
    )
    kinds = '"string", "boolean", "int32", "int64", "float32", "float64"'
    topics = "expected a topic, or a pattern of topics with '*', such as \"web-*\""
    pointer = 'expected a JSON Pointer such as "/customer_id" (RFC 6901)'
    assert sorted(found) == sorted(
        [
            'kafka.compresion: unknown key, did you mean "compression"?',
            "forward.group: expected some text",
            'forward.gruop: unknown key, did you mean "group"?',
            'forward.workers: expected more than 0 or "auto"',
            (
                "forward.routes[0].name: is no name for a route: letters, digits, '.', '_' and '-',"
                " at most 128"
            ),
            'forward.routes[0].fro: unknown key, did you mean "from"?',
            "forward.routes[0].from: is required",
            "forward.routes[0].to: expected up to 249 letters, digits, '.', '_' or '-'",
            'forward.routes[0].where.all[0].feild: unknown key, did you mean "field"?',
            "forward.routes[0].where.all[1].type: expected some text",
            f'forward.routes[0].steps[0].drop[0]: {pointer}, did you mean "/a"?',
            'forward.routes[0].steps[1].dorp: unknown step, did you mean "drop"?',
            (
                "forward.routes[0].steps[2]: one step for each table, since their order counts;"
                " not mask, hash"
            ),
            f'forward.routes[0].key: {pointer}, did you mean "/customer"?',
            'forward.routes[0].format: expected "cloudevents", "plain" or "connect-envelope"',
            (
                f'forward.routes[0].schema.a.type: expected one of {kinds}, "array", "struct",'
                ' did you mean "string"?'
            ),
            'forward.routes[0].on_error: expected "dead_letter" or "stop"',
            'forward.routes[0].tracers: expected "exclude" or "include"',
            "forward.routes[1].from: expected at least 1 of them",
            f'forward.routes[1].steps[0].cast."/b": expected one of {kinds}, did you mean "int64"?',
            'forward.routes[1].steps[1].truncate."/a": expected a whole number of characters',
            "forward.routes[1].examples[0].in: is required",
            'forward.routes[1].examples[1].output: unknown key, did you mean "out"?',
            "forward.routes[2].name: is required",
            f"forward.routes[2].from[0]: {topics}",
            f"forward.routes[2].from[2]: {topics}",
            "forward.routes[2].to: is required",
            "forward.routes[2].where: expected a table",
            "forward.routes[2].steps: expected a list",
            "forward.routes[2].schema: expected a table with something in it",
        ]
    )


def test_every_conflict_is_told_at_once(problems: Callable[..., list[str]]) -> None:
    """What each setting is fine with by itself, but not next to the others."""
    example = {"in": EVENT, "out": "{}"}
    found = problems(
        route("a", to="__a", steps=[{"drop": ["/a"]}, {"hash": ["/a"]}]),
        route("a", **{"from": ["__x", "__*", "y"]}, format="connect-envelope"),
        route("a", to="ingest.rejected", format="cloudevents", schema={"a": "string"}),
        route("d", to="orders"),
        route("e", steps=[{"select": ["/total"]}], examples=[{**example, "in": "{}"}, example]),
    )
    kafkas = "topics that start with '__' are Kafka's own"
    assert sorted(found) == sorted(
        [
            (
                "forward.routes[0].steps[1].hash: needs forward.hash_key, such as"
                ' { env = "PII_HASH_KEY" }'
            ),
            f"forward.routes[0].to: {kafkas}",
            "forward.routes[1].name: 'a' is taken by another route",
            f"forward.routes[1].from[0]: {kafkas}: reading them feeds them",
            f"forward.routes[1].from[1]: {kafkas}: reading them feeds them",
            'forward.routes[1].schema: is required for format "connect-envelope"',
            "forward.routes[2].name: 'a' is taken by another route",
            'forward.routes[2].schema: is for the formats "plain" and "connect-envelope"',
            "forward.routes[2].to: 'ingest.rejected' is the dead letter topic",
            "forward.routes[3].to: the route could feed itself: orders -> orders",
            (
                'forward.routes[4].examples[0].out: it comes out as reject = "not_cloudevents"'
                " (without specversion, id, source, type)"
            ),
            "forward.routes[4].examples[1].out: /total: it comes out as 5, and is not expected",
        ]
    )


def test_what_follows_from_an_error_is_not_told(problems: Callable[..., list[str]]) -> None:
    """Routes of which one is wrong are not said to be missing."""
    assert problems(route(format="x"), route("b")) == [
        'forward.routes[0].format: expected "cloudevents", "plain" or "connect-envelope"'
    ]


def test_dead_letters_need_their_topic(problems: Callable[..., list[str]]) -> None:
    """A route that writes them does not go with having none."""
    text = "needs dead_letter.mode = 'on', or set it to 'stop'"
    found = problems(route("a"), route("b", on_error="stop"), dead_letter={"mode": "off"})
    assert found == [f"forward.routes[0].on_error: {text}"]


def test_a_missing_variable_is_told(tmp_path: Path) -> None:
    """By its name."""
    file = tmp_path / "ingest.toml"
    file.write_text(CONTRACT)
    with pytest.raises(ConfigError) as caught:
        load(file, ForwardConfig, {})
    assert caught.value.problems[0] == (
        f"{file}: forward.hash_key: the variable PII_HASH_KEY is not set"
    )


@pytest.mark.parametrize(
    ("routes", "where", "way"),
    [
        ([("a", "a")], [0], "a -> a"),
        ([("x a", "a")], [0], "a -> a"),
        ([("a", "b"), ("b", "a")], [0, 1], "a -> b -> a"),
        ([("a", "b"), ("b", "c"), ("c", "a")], [0, 1, 2], "a -> b -> c -> a"),
        ([("x", "a"), ("a", "b"), ("b", "a")], [1, 2], "a -> b -> a"),
        ([("ingest.rejected", "b")], [0], "ingest.rejected -> ingest.rejected"),
        (
            [("a", "b"), ("ingest.rejected", "a", "stop")],
            [0, 1],
            "a -> ingest.rejected -> a",
        ),
    ],
)
def test_routes_that_could_feed_themselves_are_refused(
    problems: Callable[..., list[str]], routes: list[tuple[str, ...]], where: list[int], way: str
) -> None:
    """Directly, by way of others, or by dead letters; with the topics on the way."""
    made = [
        route(f"r{at}", **{"from": sources.split()}, to=to, on_error=(*rest, "dead_letter")[0])
        for at, (sources, to, *rest) in enumerate(routes)
    ]
    found = problems(*made)
    paths = [each.partition(":")[0] for each in found]
    assert paths == [f"forward.routes[{at}].to" for at in where]
    assert found[0].endswith(f": the route could feed itself: {way}")


@pytest.mark.parametrize(
    "routes",
    [
        [("a", "b"), ("b", "c")],
        [("a", "b"), ("a", "c")],
        [("a", "c"), ("b", "c")],
        [("*", "a")],
        [("web-*", "web-all"), ("web-all", "out")],
        [("*", "a"), ("a*", "b"), ("b*", "c")],
        [("*", "b"), ("b", "c"), ("c", "d")],
        [("ingest.rejected", "b", "stop"), ("a", "c")],
        [("ingest.*", "b")],
    ],
)
def test_routes_that_never_feed_themselves_are_taken(
    loaded: Callable[..., ForwardConfig], routes: list[tuple[str, ...]]
) -> None:
    """A pattern makes no loop: it never matches what some route writes, nor dead letters."""
    made = [
        route(f"r{at}", **{"from": sources.split()}, to=to, on_error=(*rest, "dead_letter")[0])
        for at, (sources, to, *rest) in enumerate(routes)
    ]
    config = loaded(*made)
    table, written = config.table(), config.topics_written()
    for topic in (*written, "__consumer_offsets", "ingest.rejected"):
        named = [each for each in config.forward.routes if topic in each.from_]
        assert len(table.of(topic)) == len(named)


# Reloading.


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ([route("a")], [route("a")], []),
        ([route("a")], [route("a"), route("b")], ["forward.routes.b: added"]),
        ([route("a"), route("b")], [route("b")], ["forward.routes.a: removed"]),
        ([route("a")], [route("a", to="x")], ["forward.routes.a.to: changed"]),
        ([route("a")], [route("a", key="/k")], ["forward.routes.a.key: added"]),
        (
            [route("a", steps=[{"drop": ["/a"]}])],
            [route("a", steps=[{"drop": ["/b"]}])],
            ["forward.routes.a.steps: changed"],
        ),
        (
            [route("a", where={"type": "t"})],
            [route("a", where={"type": "hunter2"})],
            ["forward.routes.a.where.type: changed"],
        ),
        (
            [route("a", schema={"x": "string"})],
            [route("a", schema={"x": "int32", "y": "string"})],
            ["forward.routes.a.schema.x: changed", "forward.routes.a.schema.y: added"],
        ),
        (
            [route("a", **{"from": ["x"]})],
            [route("a", **{"from": ["x", "y"]})],
            ["forward.routes.a.from: changed"],
        ),
        (
            [route("a")],
            [route("a", examples=[{"in": EVENT, "skip": True}], where={"type": "x"})],
            ["forward.routes.a.where: added", "forward.routes.a.examples: changed"],
        ),
        (
            [route("x.y")],
            [route("b")],
            ['forward.routes."x.y": removed', "forward.routes.b: added"],
        ),
    ],
)
def test_a_reload_says_which_routes_it_changes(
    loaded: Callable[..., ForwardConfig],
    before: list[dict[str, Any]],
    after: list[dict[str, Any]],
    changed: list[str],
) -> None:
    """By their names, and the keys that differ; never by values."""
    current, found = loaded(*before), loaded(*after)
    result = change(current, found, RELOADABLE)
    assert (result.changed, result.needs_restart) == (changed, [])
    assert result.config.forward.routes == found.forward.routes


def test_a_reload_takes_another_hash_key(loaded: Callable[..., ForwardConfig]) -> None:
    """Its values are not to be seen."""
    current = loaded(route(), forward={"hash_key": "one"})
    found = loaded(route(), forward={"hash_key": "two"})
    result = change(current, found, RELOADABLE)
    assert (result.changed, result.needs_restart) == (["forward.hash_key: changed"], [])
    assert result.config.forward.hash_key == found.forward.hash_key


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"forward": {"group": "other"}}, "forward.group"),
        ({"forward": {"workers": 2}}, "forward.workers"),
        ({"kafka": {"client_id": "other"}}, "kafka.client_id"),
        ({"dead_letter": {"topic": "other"}}, "dead_letter.topic"),
    ],
)
def test_what_needs_a_restart_is_named_and_kept(
    loaded: Callable[..., ForwardConfig], sections: dict[str, Any], key: str
) -> None:
    """The routes are taken all the same."""
    result = change(loaded(route("a")), loaded(route("b"), **sections), RELOADABLE)
    assert result.needs_restart == [key]
    assert [each.name for each in result.config.forward.routes] == ["b"]


def test_what_does_not_go_with_what_is_kept_is_refused(
    loaded: Callable[..., ForwardConfig],
) -> None:
    """All or nothing: here the other dead letter topic would need a restart."""
    current = loaded(route("a"))
    found = loaded(route("a", **{"from": ["ingest.rejected"]}), dead_letter={"topic": "other"})
    with pytest.raises(
        ConfigError, match=r"could feed itself.*unless restarted.*dead_letter.topic"
    ):
        change(current, found, RELOADABLE)
