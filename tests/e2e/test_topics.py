"""What happens to a topic at run time spoils its own source, and nobody else's events."""

from __future__ import annotations

import asyncio
import json
import random
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import pytest
from confluent_kafka.admin import AclOperation

from loadtest.gateway import wait_until
from tests.e2e.conftest import Client, checked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from loadtest.gateway import Gateway
    from tests.conftest import Kafka, Load
    from tests.e2e.conftest import Answer

    Start = Callable[..., Gateway]
    StartLoad = Callable[..., Load]

ACK_SECONDS = 6.0
SEEN_SECONDS = 15.0
"""How soon a trouble that was made must show in the answers."""
MENDED_SECONDS = 15.0
"""How soon a source must work when the trouble of its topic is over."""
TYPICAL_SECONDS = 1.0
"""How long 99 of 100 requests of an undisturbed source may take at most."""
POISON_SECONDS = 2.0
"""How soon poison must be answered, and all that was in one Kafka batch with it."""
SMALL_LIMIT = 10_000
KEYED = b'{"k":"a"}'


def large(number: int = 0) -> bytes:
    """An event that no topic with `SMALL_LIMIT` takes, however it is compressed."""
    text = random.Random(number).randbytes(SMALL_LIMIT).hex()
    return b'{"k":"a","text":"%b"}' % text.encode()


def settings(kafka: Kafka, sick: str, **more: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A source ``sick`` with keys, another one for the witness, and a dead letter topic."""
    return {
        "kafka": {"request_timeout_seconds": 2},
        "limits": {"ack_seconds": ACK_SECONDS},
        "dead_letter": {"topic": kafka.new_name("letters")},
        "sources.load": {"topic": kafka.new_name("witness")},
        "sources.sick": {"topic": sick, "key": "/k"},
        **more,
    }


@asynccontextmanager
async def undisturbed(
    kafka: Kafka, start_gateway: Start, start_load: StartLoad, given: dict[str, dict[str, Any]]
) -> AsyncIterator[Client]:
    """A client of the sick source; all the while the requests of a witness succeed in time."""
    gateway = start_gateway(kafka.servers, given)
    load = start_load(gateway, connections=2)
    async with aiohttp.ClientSession() as session:
        with checked(Client(gateway, session)) as client:
            yield client
            await load.answers(200, more=150)
            await load.finish()
    assert load.book.http.keys() == {200}
    waits = sorted(load.waits)
    assert len(waits) > 100
    assert waits[len(waits) * 99 // 100] < TYPICAL_SECONDS
    assert waits[-1] < ACK_SECONDS / 2
    result = await load.verdict(kafka.servers, given["sources.load"]["topic"])
    assert result.ok, str(result)


class Fate(NamedTuple):
    """What an answer says of the only event of its request."""

    http: int
    status: str
    code: str


OK = Fate(200, "ok", "")
UNAVAILABLE = Fate(503, "retry", "topic_unavailable")
KEYLESS = Fate(422, "rejected", "refused_by_kafka")
TOO_LARGE = Fate(422, "rejected", "event_too_large")


def fate(answer: Answer) -> Fate:
    """Of the only event of ``answer``."""
    (result,) = answer.results or [{"status": "ok"}]
    assert result.get("kept", True)
    return Fate(answer.status, result["status"], result.get("code", ""))


async def fates_until(client: Client, event: bytes, wanted: Fate, seconds: float) -> set[Fate]:
    """Post ``event`` again and again until ``wanted`` becomes of it; what became of the others."""
    fates: set[Fate] = set()
    begun = time.monotonic()
    while (found := fate(await client.post("sick", event))) != wanted:
        fates.add(found)
        assert time.monotonic() - begun < seconds, fates
        await asyncio.sleep(0.02)
    return fates


def degraded(gateway: Gateway) -> dict[str, str]:
    """What ``/readyz`` names; it must be ready."""
    status, body = gateway.manage("/readyz")
    assert status == 200
    return dict(json.loads(body)["degraded"])


async def names(gateway: Gateway, wanted: dict[str, str]) -> None:
    """Wait until ``/readyz`` names ``wanted`` under ``degraded``."""
    holds = lambda: degraded(gateway) == wanted  # noqa: E731
    await asyncio.to_thread(wait_until, holds, MENDED_SECONDS, f"does not name {wanted}")


# Troubles that begin and end.


class Trouble(NamedTuple):
    """Something that happens to a topic, and goes away.

    Attributes:
        strike: makes it happen.
        mend: ends it.
        event: one that it is bad for.
        fate: what becomes of that meanwhile.
        unharmed: an event that it is not bad for; None: there is none.
        reason: what ``/readyz`` says of the topic, if anything.
    """

    strike: Callable[[Kafka, str], object]
    mend: Callable[[Kafka, str], object]
    event: bytes
    fate: Fate
    unharmed: bytes | None = None
    reason: str = ""


def setting(name: str, value: str) -> Callable[[Kafka, str], None]:
    """Changes a setting of a topic."""
    return lambda kafka, topic: kafka.configure(topic, name, value)


def allowing(*operations: AclOperation) -> Callable[[Kafka, str], None]:
    """Lets clients do no more than that to a topic, and what they were allowed before."""
    return lambda kafka, topic: kafka.allow(topic, *operations)


TROUBLES = {
    "deleted": Trouble(
        lambda kafka, topic: kafka.delete(topic),
        lambda kafka, topic: kafka.create(topic),
        KEYED,
        UNAVAILABLE,
        reason="topic_missing",
    ),
    "compacted": Trouble(
        setting("cleanup.policy", "compact"),
        setting("cleanup.policy", "delete"),
        b"{}",
        KEYLESS,
        unharmed=KEYED,
    ),
    "limit lowered": Trouble(
        setting("max.message.bytes", str(SMALL_LIMIT)),
        setting("max.message.bytes", "1000000"),
        large(),
        TOO_LARGE,
        unharmed=KEYED,
    ),
}
REVOCATIONS = {
    "write": [AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS],
    "describe": [AclOperation.DESCRIBE_CONFIGS],
}


@pytest.mark.parametrize("trouble", [pytest.param(each, id=id_) for id_, each in TROUBLES.items()])
async def test_a_changed_topic_spoils_only_its_own_source_until_it_is_changed_back(
    kafka: Kafka, start_gateway: Start, start_load: StartLoad, trouble: Trouble
) -> None:
    """Its events get the contract's answers, and it works again by itself."""
    await endure(kafka, start_gateway, start_load, trouble)


@pytest.mark.parametrize("left", [pytest.param(each, id=id_) for id_, each in REVOCATIONS.items()])
async def test_a_permission_that_is_taken_away_spoils_only_its_own_source_until_it_is_given_back(
    own_kafka: Kafka, start_gateway: Start, start_load: StartLoad, left: list[AclOperation]
) -> None:
    """Its events are ``retry``, and it works again by itself."""
    mend = allowing(AclOperation.ALL)
    trouble = Trouble(allowing(*left), mend, KEYED, UNAVAILABLE, reason="topic_forbidden")
    await endure(own_kafka, start_gateway, start_load, trouble)


async def endure(
    kafka: Kafka, start_gateway: Start, start_load: StartLoad, trouble: Trouble
) -> None:
    """Make the trouble, see what becomes of events, end it, and see that all is well."""
    topic = kafka.create(kafka.new_name("sick"))
    given = settings(kafka, topic, topics={"create": False})
    for name in (given["dead_letter"]["topic"], given["sources.load"]["topic"]):
        kafka.create(name)
    async with undisturbed(kafka, start_gateway, start_load, given) as client:
        assert fate(await client.post("sick", trouble.event)) == OK
        await asyncio.to_thread(trouble.strike, kafka, topic)
        before = await fates_until(client, trouble.event, trouble.fate, SEEN_SECONDS)
        assert before <= {OK}
        await names(client.gateway, {topic: trouble.reason} if trouble.reason else {})
        if trouble.unharmed:
            assert fate(await client.post("sick", trouble.unharmed)) == OK
        await asyncio.to_thread(trouble.mend, kafka, topic)
        after = await fates_until(client, trouble.event, OK, MENDED_SECONDS)
        assert after <= {trouble.fate}
        await names(client.gateway, {})
    check_letters(kafka, given["dead_letter"]["topic"], client, trouble)


def check_letters(kafka: Kafka, topic: str, client: Client, trouble: Trouble) -> None:
    """Every rejected event is there, with the reason, and nothing else is."""
    letters = kafka.read(topic)
    assert len(letters) == client.told["sick"]["rejected"]
    assert {letter.value for letter in letters} <= {trouble.event}
    codes = {dict(letter.headers)["__connect.errors.exception.class.name"] for letter in letters}
    assert codes <= {trouble.fate.code.encode()}
    assert bool(letters) == (trouble.fate.status == "rejected")


async def test_a_deleted_topic_is_created_anew(
    kafka: Kafka, start_gateway: Start, start_load: StartLoad
) -> None:
    """Where the gateway creates topics; until then its events are ``retry``."""
    topic = kafka.create(kafka.new_name("sick"), 2)
    given = settings(kafka, topic, topics={"partitions": 3})
    async with undisturbed(kafka, start_gateway, start_load, given) as client:
        assert fate(await client.post("sick", KEYED)) == OK
        await asyncio.to_thread(kafka.delete, topic)
        async with asyncio.timeout(SEEN_SECONDS):
            while len(kafka.replicas(topic)) != 3:
                assert fate(await client.post("sick", KEYED)) in {OK, UNAVAILABLE}
        after = await fates_until(client, KEYED, OK, MENDED_SECONDS)
        assert after <= {UNAVAILABLE}
        await names(client.gateway, {})
    assert {record.value[-len(KEYED) - 1 : -1] for record in kafka.read(topic)} == {KEYED}


async def test_added_partitions_disturb_nobody(
    kafka: Kafka, start_gateway: Start, start_load: StartLoad
) -> None:
    """Not even the source whose topic has more of them."""
    topic = kafka.create(kafka.new_name("sick"), 2)
    async with undisturbed(kafka, start_gateway, start_load, settings(kafka, topic)) as client:
        assert fate(await client.post("sick", KEYED)) == OK
        await asyncio.to_thread(kafka.grow, topic, 7)
        posts = [fate(await client.post("sick", b'{"k":%d}' % number)) for number in range(200)]
        assert set(posts) == {OK}
        assert degraded(client.gateway) == {}


async def test_a_topic_whose_limit_is_lowered_takes_what_fits_on_its_own(
    kafka: Kafka, start_gateway: Start
) -> None:
    """A request that is larger than the limit, of events that are not, is not refused."""
    topic = kafka.create(kafka.new_name("sick"))
    gateway = start_gateway(kafka.servers, settings(kafka, topic))
    kafka.configure(topic, "max.message.bytes", str(SMALL_LIMIT))
    noise = random.Random(1).randbytes(1000).hex().encode()
    events = [b'{"k":"a","n":%d,"text":"%b"}' % (number, noise) for number in range(500)]
    async with aiohttp.ClientSession() as session:
        with checked(Client(gateway, session)) as client:
            answer = await client.post("sick", b"[%b]" % b",".join(events))
    assert (answer.status, answer.document["accepted"]) == (200, 500)
    records = sorted(kafka.read(topic), key=lambda record: record.offset)
    assert [json.loads(record.value)["data"]["n"] for record in records] == [*range(500)]


# Poison in one Kafka batch with the events of others.


class Poison(NamedTuple):
    """Events that a topic with one setting can never take.

    Attributes:
        setting: the name and value of the setting.
        event: makes an event.
        fate: what becomes of it.
    """

    setting: tuple[str, str]
    event: Callable[[int], bytes]
    fate: Fate


POISONS = [
    pytest.param(
        Poison(("cleanup.policy", "compact"), lambda number: b'{"n":%d}' % number, KEYLESS),
        id="keyless",
    ),
    pytest.param(
        Poison(("max.message.bytes", str(SMALL_LIMIT)), large, TOO_LARGE),
        id="over the limit",
    ),
]
REQUESTS = 60
"""Each is of a client of its own; every tenth is poison."""


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("known", [True, False], ids=["known", "changed a moment ago"])
async def test_poison_among_the_events_of_others_is_rejected_alone_and_at_once(
    own_kafka: Kafka, start_gateway: Start, poison: Poison, *, known: bool
) -> None:
    """Whether the limits tell before, or only the broker's refusal of the whole Kafka batch."""
    topic = own_kafka.create(own_kafka.new_name("sick"), 1)
    if known:
        own_kafka.configure(topic, *poison.setting)
    gateway = start_gateway(own_kafka.servers, settings(own_kafka, topic))
    own_kafka.configure(topic, *poison.setting)
    fates = [poison.fate if number % 10 == 5 else OK for number in range(REQUESTS)]
    events = [KEYED if each is OK else poison.event(n) for n, each in enumerate(fates)]
    async with aiohttp.ClientSession() as session:
        with checked(Client(gateway, session)) as client:
            async with frozen(own_kafka):
                assert await would_be(gateway, session, poison) == (
                    poison.fate.code if known else ""
                )
                posts = [asyncio.ensure_future(client.post("sick", event)) for event in events]
                await asyncio.to_thread(wait_until, lambda: received(gateway) == REQUESTS, 2, "")
            begun = time.monotonic()
            answers = await asyncio.gather(*posts)
            seconds = time.monotonic() - begun
    assert [fate(answer) for answer in answers] == fates
    assert seconds < POISON_SECONDS
    assert batches(gateway, topic) < 10, "the events did not share Kafka batches"
    assert len(own_kafka.read(topic)) == fates.count(OK)


@asynccontextmanager
async def frozen(kafka: Kafka) -> AsyncIterator[None]:
    """Meanwhile the only broker stands still, so that records queue up."""
    kafka.node.pause()
    try:
        assert await asyncio.to_thread(kafka.falls_silent)
        yield
    finally:
        kafka.node.resume()


async def would_be(gateway: Gateway, session: aiohttp.ClientSession, poison: Poison) -> str:
    """The code that poison would get by the limits as the gateway knows them."""
    answer = await Client(gateway, session).post("sick", poison.event(0), query="?dry_run=1")
    return fate(answer).code


def received(gateway: Gateway) -> int:
    """How many events of the sick source the gateway has taken."""
    return gateway.accounts()["sick"]["received"]


def batches(gateway: Gateway, topic: str) -> float:
    """How many Kafka batches of ``topic`` were acked."""
    (count,) = [
        sample.value
        for sample in gateway.samples()
        if sample.name == "ingest_produce_seconds_count" and sample.labels["topic"] == topic
    ]
    return count
