"""The first rule that matches a message names its source."""

from __future__ import annotations

import time
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_syslog import rules as rules_module
from ingest_syslog.rules import (
    FACILITIES,
    MAX_NAME_BYTES,
    SEVERITIES,
    Rules,
    When,
    facility_number,
    severity_number,
)

AUTH, WARNING = 4, 4


def matches(when: When, **message: Any) -> bool:
    """Whether a rule with these conditions takes a message."""
    rules = Rules([(when, "found")]).for_listener(message.pop("listener", "udp"), "default")
    told = {"pri": 34, "app_name": b"su", "host": b"db-1", "peer": "192.0.2.1", **message}
    return rules.source(**told) == "found"


# The names of facilities and severities.


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("kern", 0),
        ("auth", 4),
        ("AuthPriv", 10),
        ("cron2", 15),
        ("local0", 16),
        ("local7", 23),
        ("0", 0),
        ("23", 23),
        (13, 13),
    ],
)
def test_a_facility_goes_by_name_or_number(name: str | int, number: int) -> None:
    """In any case; all names have the numbers of RFC 5424."""
    assert facility_number(name) == number
    assert [facility_number(each) for each in FACILITIES] == list(range(24))


@pytest.mark.parametrize(
    ("name", "number"),
    [("emerg", 0), ("panic", 0), ("err", 3), ("error", 3), ("warn", 4), ("Warning", 4), (7, 7)],
)
def test_a_severity_goes_by_its_usual_names_or_number(name: str | int, number: int) -> None:
    """Also by those of RFC 5424 that are spelt out."""
    assert severity_number(name) == number
    assert [severity_number(each) for each in SEVERITIES] == list(range(8))


@pytest.mark.parametrize("name", ["24", "-1", "04", " 4", "", "\u0664", 24, -1, "nothing at all"])
def test_an_unknown_facility_is_told_what_there_is(name: str | int) -> None:
    """All names and the range of numbers."""
    with pytest.raises(ValueError, match=r"unknown facility: expected kern, .*local7, or 0 to 23"):
        facility_number(name)


@pytest.mark.parametrize(
    ("name", "close"), [("authpri", "authpriv"), ("locla3", "local3"), ("daemno", "daemon")]
)
def test_a_facility_that_is_nearly_right_is_suggested(name: str, close: str) -> None:
    """The closest name."""
    with pytest.raises(ValueError, match=rf'unknown facility, did you mean "{close}"\?'):
        facility_number(name)


def test_an_unknown_severity_is_told_what_there_is() -> None:
    """Or what is close."""
    with pytest.raises(ValueError, match=r"unknown severity: expected emerg, .*debug, or 0 to 7"):
        severity_number(8)
    with pytest.raises(ValueError, match=r'unknown severity, did you mean "warning"\?'):
        severity_number("waring")


# Single conditions.


@pytest.mark.parametrize(
    ("pri", "taken"),
    [
        (AUTH * 8 + 2, True),
        (b"34", True),
        (10 * 8, True),
        (5 * 8, False),
        (b"40", False),
        (191, False),
        (192, False),
        (-6, False),
        (b"034", False),
        (b"", False),
        (b"\xff", False),
        (b"9" * 1000, False),
        (None, False),
    ],
)
def test_a_facility_is_one_of_those_given(pri: bytes | int | None, *, taken: bool) -> None:
    """What is no PRI has none."""
    assert matches(When(facility=frozenset({AUTH, 10})), pri=pri) is taken


@pytest.mark.parametrize(
    ("pri", "taken"),
    [
        (0, True),
        (188, True),
        (b"188", True),
        (5, False),
        (189, False),
        (b"7", False),
        (None, False),
    ],
)
def test_a_severity_is_at_least_that_severe(pri: bytes | int | None, *, taken: bool) -> None:
    """Which is a number that is not higher; of a message without PRI nothing is known."""
    assert matches(When(severity_at_least=WARNING), pri=pri) is taken


NAMES = [
    ("sshd", b"sshd", True),
    ("sshd", b"sshd2", False),
    ("sshd", b"xsshd", False),
    ("ssh*", b"ssh", True),
    ("ssh*", b"sshd", True),
    ("*d", b"sshd", True),
    ("*d", b"sshds", False),
    ("a*b*c", b"abc", True),
    ("a*b*c", b"a-b-b-c", True),
    ("a*b*c", b"a-c-b", False),
    ("*", b"", True),
    ("*", b"\xff\n\x00", True),
    ("*", None, False),
    ("", b"", False),
    ("", b"a", False),
    ("a.c", b"abc", False),
    ("a?c", b"abc", False),
    ("[ab]", b"a", False),
    ("caf\u00e9*", "caf\u00e9-1".encode(), True),
    ("caf\u00e9*", b"caf\xe9-1", False),
    ("x|y", b"y", False),
    ("x*", b"x\ny", True),
]


@pytest.mark.parametrize(("glob", "value", "taken"), NAMES)
def test_only_a_star_is_special_in_names(glob: str, value: bytes | None, *, taken: bool) -> None:
    """It stands for any bytes, none too; the whole name has to match."""
    assert matches(When(app_name=(glob,)), app_name=value) is taken
    assert matches(When(host=(glob,)), host=value) is taken
    assert matches(When(host=("nobody", glob, "no-*")), host=value) is taken


@pytest.mark.parametrize(("glob", "value", "taken"), NAMES)
def test_names_may_be_decoded_already(glob: str, value: bytes | None, *, taken: bool) -> None:
    """The answer is that for their bytes."""
    if value is not None and value.isascii():
        assert matches(When(app_name=(glob,)), app_name=value.decode()) is taken
    assert matches(When(host=("caf\u00e9*",)), host="caf\u00e9-1")
    assert not matches(When(host=("a*",)), host="a" + "\u00e9" * 128)
    assert not matches(When(host=("a",)), host="\udc80")


def test_case_counts_in_app_names_and_not_in_hosts() -> None:
    """Hosts are DNS names (RFC 4343); of other letters than ASCII's the case counts."""
    assert not matches(When(app_name=("SSHD",)), app_name=b"sshd")
    assert matches(When(host=("DB-*",)), host=b"db-1")
    assert matches(When(host=("db-*",)), host=b"DB-1")
    assert not matches(When(host=("\u00e9*",)), host="\u00c9".encode())


def test_what_is_too_long_for_a_name_matches_no_glob() -> None:
    """So that what a message can cost is bounded."""
    assert matches(When(host=("a*",)), host=b"a" * MAX_NAME_BYTES)
    assert not matches(When(host=("a*",)), host=b"a" * (MAX_NAME_BYTES + 1))
    assert not matches(When(app_name=("a*",)), app_name=b"a" * (MAX_NAME_BYTES + 1))


@pytest.mark.parametrize(
    ("peer", "taken"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("11.1.2.3", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("198.51.100.7", True),
        ("unix", False),
    ],
)
def test_a_peer_is_in_one_of_the_networks(peer: str, *, taken: bool) -> None:
    """Of either family; a unix socket is in none."""
    networks = ("10.0.0.0/8", "2001:db8::/32", "198.51.100.7")
    assert matches(When(peer=networks), peer=peer) is taken


def test_a_listener_is_one_of_those_given() -> None:
    """By its exact name."""
    when = When(listener=frozenset({"udp", "tls"}))
    assert matches(when, listener="tls")
    assert not matches(when, listener="tcp")


def test_no_condition_matches_everything() -> None:
    """Also a message of which nothing is known."""
    assert matches(When(), pri=None, app_name=None, host=None, peer="unix")


def test_all_conditions_of_a_rule_must_hold() -> None:
    """The rule of the contract."""
    when = When(
        facility=frozenset({4, 10}),
        severity_at_least=WARNING,
        app_name=("sshd",),
        host=("db-*",),
        peer=("10.0.0.0/8",),
        listener=frozenset({"udp"}),
    )
    message = {"pri": 34, "app_name": b"sshd", "host": b"db-1", "peer": "10.0.0.1"}
    assert matches(when, **message)
    for other in (
        {"pri": 13 * 8},
        {"pri": 37},
        {"app_name": b"su"},
        {"host": b"web-1"},
        {"peer": "192.0.2.1"},
        {"listener": "tcp"},
    ):
        assert not matches(when, **{**message, **other})


# All rules together.


def test_the_first_rule_that_matches_wins() -> None:
    """Else the message has the source of its listener."""
    rules = Rules(
        [
            (When(app_name=("sshd",), listener=frozenset({"tcp"})), "a"),
            (When(app_name=("ssh*",)), "b"),
            (When(app_name=("sshd",)), "never"),
            (When(facility=frozenset({0})), "c"),
        ]
    )
    udp, tcp = rules.for_listener("udp", "one"), rules.for_listener("tcp", "two")
    assert udp.source(0, b"sshd", None, "unix") == "b"
    assert tcp.source(0, b"sshd", None, "unix") == "a"
    assert tcp.source(0, b"su", None, "unix") == "c"
    assert udp.source(9, b"su", None, "unix") == udp.default == "one"
    assert tcp.source(None, None, None, "unix") == tcp.default == "two"


def test_a_listener_without_rules_can_be_told() -> None:
    """So that its messages need not be asked about."""
    rules = Rules([(When(listener=frozenset({"tcp"})), "a")])
    assert rules
    assert rules.for_listener("tcp", "b")
    assert not rules.for_listener("udp", "b")
    assert rules.for_listener("udp", "b").source(34, b"su", b"db-1", "unix") == "b"
    assert not Rules([])
    assert not Rules([]).for_listener("udp", "b")


def test_there_may_be_more_rules_than_bits_in_a_word() -> None:
    """Each of them is found."""
    hosts = [f"host-{each}" for each in range(200)]
    rules = Rules([(When(host=(host,)), host) for host in hosts]).for_listener("udp", "none")
    assert [rules.source(None, None, host.encode(), "unix") for host in hosts] == hosts


def test_a_network_that_is_none_is_refused() -> None:
    """When the rules are made."""
    with pytest.raises(ValueError, match="host bits"):
        Rules([(When(peer=("10.0.0.1/8",)), "a")])


# Hostile messages.


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """And forgetting changes no answer."""
    monkeypatch.setattr(rules_module, "CACHED_VALUES", 100)
    rules = Rules([(When(host=("db-*",), app_name=("a*",)), "db")])
    udp = rules.for_listener("udp", "none")
    for each in range(1000):
        host, app_name = b"db-%d" % each, b"a%d" % each
        assert udp.source(None, app_name, host, "unix") == "db"
        assert udp.source(None, app_name, b"db-0", "unix") == "db"
        assert udp.source(None, b"x" * 1000 + app_name, host, "unix") == "none"
        assert len(rules._host) <= 100
        assert len(rules._app_name) <= 100
    assert all(len(value) <= MAX_NAME_BYTES for value in (*rules._host, *rules._app_name))


def test_no_name_takes_long_to_match() -> None:
    """Neither many stars nor a name that nearly matches make it quadratic."""
    glob = "*a" * 20 + "b"
    udp = Rules([(When(host=(glob,)), "found")]).for_listener("udp", "default")
    began = time.thread_time()
    for each in range(200):
        assert udp.source(None, None, b"a" * 200 + b"%d" % each, "unix") == "default"
    assert time.thread_time() - began < 1.0


# Against the plainest way to say it.


def plainly(rules: list[tuple[When, str]], message: dict[str, Any], default: str) -> str:
    """The source by trying one rule after the other."""
    for when, source in rules:
        if holds(when, **message):
            return source
    return default


def holds(
    when: When,
    pri: int | None,
    app_name: bytes | None,
    host: bytes | None,
    peer: str,
    listener: str,
) -> bool:
    """Whether all conditions hold."""
    facility, severity = (None, None) if pri is None else divmod(pri, 8)
    address = None if peer == "unix" else ip_address(peer)
    return all(
        (
            when.facility is None or facility in when.facility,
            when.severity_at_least is None
            or (severity is not None and severity <= when.severity_at_least),
            when.app_name is None
            or any(each and covers(each.encode(), app_name) for each in when.app_name),
            when.host is None
            or any(
                each and covers(each.lower().encode(), host and host.lower()) for each in when.host
            ),
            when.peer is None
            or any(address is not None and address in ip_network(each) for each in when.peer),
            when.listener is None or listener in when.listener,
        )
    )


def covers(glob: bytes, name: bytes | None) -> bool:
    """Whether a glob matches a name, tried in every way."""
    if name is None:
        return False
    if not glob:
        return not name
    if glob[:1] == b"*":
        return any(covers(glob[1:], name[start:]) for start in range(len(name) + 1))
    return name[:1] == glob[:1] and covers(glob[1:], name[1:])


def some(values: st.SearchStrategy[Any], kind: type) -> st.SearchStrategy[Any]:
    """None, or some values."""
    return st.none() | st.lists(values, max_size=3).map(kind)


GLOBS = st.text("aAb*", max_size=5)
NAME = st.none() | st.text("aAb", max_size=5).map(str.encode)
LISTENERS = st.sampled_from(["udp", "tcp"])
PEERS = st.sampled_from(["10.0.0.1", "10.0.0.2", "192.0.2.1", "2001:db8::1", "unix"])
NETWORKS = st.sampled_from(["10.0.0.0/8", "10.0.0.2", "2001:db8::/32", "0.0.0.0/0", "::/0"])
WHENS = st.builds(
    When,
    facility=some(st.integers(0, 4), frozenset),
    severity_at_least=st.none() | st.integers(0, 7),
    app_name=some(GLOBS, tuple),
    host=some(GLOBS, tuple),
    peer=some(NETWORKS, tuple),
    listener=some(LISTENERS, frozenset),
)
MESSAGES = st.fixed_dictionaries(
    {
        "pri": st.none() | st.integers(0, 39),
        "app_name": NAME,
        "host": NAME,
        "peer": PEERS,
        "listener": LISTENERS,
    }
)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.lists(WHENS, max_size=6), st.lists(MESSAGES, max_size=20))
def test_sources_are_those_of_the_plainest_way(
    whens: list[When], messages: list[dict[str, Any]]
) -> None:
    """With what is remembered from earlier messages, and for a PRI in either form."""
    plain = [(when, str(position)) for position, when in enumerate(whens)]
    rules = Rules(plain)
    for message in messages:
        expected = plainly(plain, message, "default")
        told = {**message}
        listener = rules.for_listener(told.pop("listener"), "default")
        assert listener.source(**told) == expected
        if told["pri"] is not None:
            told["pri"] = b"%d" % told["pri"]
        assert listener.source(**told) == expected
