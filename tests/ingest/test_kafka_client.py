"""The Kafka client's pure parts: what errors mean, how to connect, and what a batch holds."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import aiokafka.errors as kafka_errors
import pytest
from aiokafka.record import MemoryRecords

from ingest.accumulator import Segment
from ingest.kafka_client import (
    CERTAIN,
    NOT_READY,
    KafkaClient,
    Verdict,
    connection_arguments,
    require_c_extension,
    ssl_context,
    verdict_on,
)
from ingest.receipt import Receipt
from ingest.settings import KafkaSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ingest.producer import Header
    from tests.conftest import Kafka

SASL = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "ingest", "sasl_password": "s3cret"}
PROTOCOLS = [
    {"security_protocol": "PLAINTEXT"},
    {"security_protocol": "SSL"},
    {"security_protocol": "SASL_PLAINTEXT", **SASL},
    {"security_protocol": "SASL_SSL", **SASL},
]

# Errors


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (-1, Verdict.AGAIN),  # UNKNOWN_SERVER_ERROR
        (2, Verdict.REFUSED),  # CORRUPT_MESSAGE
        (10, Verdict.REFUSED),  # MESSAGE_TOO_LARGE
        (18, Verdict.REFUSED),  # RECORD_LIST_TOO_LARGE
        (44, Verdict.REFUSED),  # POLICY_VIOLATION
        (87, Verdict.REFUSED),  # INVALID_RECORD
        (29, Verdict.TOPIC_FORBIDDEN),  # TOPIC_AUTHORIZATION_FAILED
        (31, Verdict.TOPIC_FORBIDDEN),  # CLUSTER_AUTHORIZATION_FAILED
        (3, Verdict.NOT_YET),  # UNKNOWN_TOPIC_OR_PARTITION
        (17, Verdict.TOPIC_MISSING),  # INVALID_TOPIC_EXCEPTION
        (5, Verdict.AGAIN),  # LEADER_NOT_AVAILABLE
        (6, Verdict.AGAIN),  # NOT_LEADER_OR_FOLLOWER
        (7, Verdict.AGAIN),  # REQUEST_TIMED_OUT
        (13, Verdict.AGAIN),  # NETWORK_EXCEPTION
        (19, Verdict.NOT_YET),  # NOT_ENOUGH_REPLICAS
        (20, Verdict.AGAIN),  # NOT_ENOUGH_REPLICAS_AFTER_APPEND
        (32, Verdict.REFUSED),  # INVALID_TIMESTAMP
        (42, Verdict.AGAIN),  # INVALID_REQUEST
        (56, Verdict.AGAIN),  # KAFKA_STORAGE_ERROR
        (100, Verdict.AGAIN),  # UNKNOWN_TOPIC_ID, a code that aiokafka does not know
    ],
)
def test_an_answer_of_the_broker_has_one_verdict(code: int, verdict: Verdict) -> None:
    """By the number on the wire, whatever aiokafka calls it."""
    assert verdict_on(kafka_errors.for_code(code)()) is verdict


@pytest.mark.parametrize(
    "error",
    [
        kafka_errors.KafkaConnectionError("gone"),
        kafka_errors.KafkaTimeoutError(),
        kafka_errors.ProducerClosed(),
        kafka_errors.KafkaError(),
        NOT_READY,
        TimeoutError(),
        ConnectionResetError(),
        asyncio.CancelledError(),
        ValueError("a defect"),
    ],
)
def test_whatever_else_goes_wrong_is_kafkas_trouble(error: BaseException) -> None:
    """Never the event's: it is kept, and tried again."""
    assert verdict_on(error) is Verdict.AGAIN


def test_only_troubles_leave_open_whether_anything_was_written() -> None:
    """A broker that refuses a batch, or cannot take it yet, has not written any of it."""
    assert {*Verdict} - {Verdict.AGAIN} == CERTAIN


# Connections


def test_a_plain_connection_needs_nothing_secret() -> None:
    """Addresses, a name, a timeout in milliseconds."""
    settings = KafkaSettings(
        bootstrap_servers="a:1,b:2", client_id="me", request_timeout_seconds=1.5
    )
    assert connection_arguments(settings) == {
        "bootstrap_servers": "a:1,b:2",
        "client_id": "me",
        "request_timeout_ms": 1500,
        "security_protocol": "PLAINTEXT",
        "ssl_context": None,
    }


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_sasl_brings_its_credentials(protocol: str) -> None:
    """In clear, since aiokafka has to send them."""
    arguments = connection_arguments(KafkaSettings(security_protocol=protocol, **SASL))
    assert arguments["security_protocol"] == protocol
    assert {name: each for name, each in arguments.items() if name.startswith("sasl_")} == {
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "ingest",
        "sasl_plain_password": "s3cret",
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
async def test_a_client_can_be_made_of_any_settings(
    protocol: dict[str, Any], compression: Any
) -> None:
    """What aiokafka checks at once is right; nothing is connected yet."""
    client = KafkaClient(KafkaSettings(compression=compression, **protocol))
    assert client.partitions("orders") == 0
    assert not client.forbidden("orders")
    await client.stop()


# TLS


@pytest.mark.parametrize("settings", PROTOCOLS)
def test_tls_is_used_where_the_protocol_says_so(settings: dict[str, Any]) -> None:
    """With the broker's name and certificate always checked."""
    context = ssl_context(KafkaSettings(**settings))
    if not settings["security_protocol"].endswith("SSL"):
        assert context is None
        return
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


class Party:
    """Somebody with a certificate, signed by nobody else."""

    def __init__(self, folder: Path, name: str) -> None:
        self.certificate, self.key = str(folder / f"{name}.pem"), str(folder / f"{name}.key")
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
        name_it = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
        files = ["-keyout", self.key, "-out", self.certificate]
        subprocess.run([*command.split(), *name_it, *files], check=True, capture_output=True)


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> tuple[Party, Party]:
    """A broker and a client."""
    if shutil.which("openssl") is None:
        if os.environ.get("CI"):
            pytest.fail("openssl is missing")
        pytest.skip("openssl is missing")
    folder = tmp_path_factory.mktemp("certificates")
    return Party(folder, "broker"), Party(folder, "client")


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> Any:
    """The certificate that the server sees when the client connects to ``name``, in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    its = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (ours, its):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return its.getpeercert()


def broker_context(broker: Party, client: Party) -> ssl.SSLContext:
    """What the broker requires: a client with a certificate it knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(broker.certificate, broker.key)
    context.load_verify_locations(client.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(ca: Party, client: Party) -> ssl.SSLContext:
    """Ours, as configured with files."""
    context = ssl_context(
        KafkaSettings(
            security_protocol="SSL",
            ssl_ca_file=ca.certificate,
            ssl_cert_file=client.certificate,
            ssl_key_file=client.key,
        )
    )
    assert context is not None
    return context


def test_our_certificate_is_shown_to_a_broker_that_we_trust(parties: tuple[Party, Party]) -> None:
    """The configured files are those that are used."""
    broker, client = parties
    seen = handshake(client_context(broker, client), broker_context(broker, client), "broker")
    assert seen["subject"] == ((("commonName", "client"),),)


def test_a_broker_that_is_not_signed_by_our_ca_is_refused(parties: tuple[Party, Party]) -> None:
    """The configured CA is the only one."""
    broker, client = parties
    context = client_context(client, client)
    with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
        handshake(context, broker_context(broker, client), "broker")


def test_a_broker_of_another_name_is_refused(parties: tuple[Party, Party]) -> None:
    """Its certificate must be for the address that we connect to."""
    broker, client = parties
    context = client_context(broker, client)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(context, broker_context(broker, client), "elsewhere")


# Batches


def segment(
    values: Sequence[bytes],
    timestamp_ms: int,
    keys: list[bytes | None] | None = None,
    headers: list[Header] | None = None,
    headers_each: list[list[Header]] | None = None,
) -> Segment:
    """Records of one submission."""
    receipt = Receipt(len(values))
    indices = range(len(values))
    return Segment(receipt, indices, list(values), keys, headers or [], headers_each, timestamp_ms)


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
async def test_a_batch_holds_the_records_of_its_segments_in_order(compression: Any) -> None:
    """Value, key, headers and timestamp of each, whatever kinds of segments are mixed."""
    shared: list[Header] = [("content-type", b"x"), ("é", b"")]
    each: list[list[Header]] = [[("n", b"1")], []]
    segments = [
        segment([b"a", b"b"], 1000),
        segment([b"c"], 999, headers=shared),
        segment([b"d", b"e"], 2000, keys=[b"k", None], headers=shared),
        segment([b"f", b""], 2000, headers_each=each),
        segment([b"g", b"h"], 3000, keys=[b"", b"l"], headers_each=each),
    ]
    client = KafkaClient(KafkaSettings(compression=compression))
    batch = MemoryRecords(bytes(client.build(segments)._build())).next_batch()
    await client.stop()
    found = [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in batch]
    assert found == [
        (0, 1000, None, b"a", []),
        (1, 1000, None, b"b", []),
        (2, 999, None, b"c", shared),
        (3, 2000, b"k", b"d", shared),
        (4, 2000, None, b"e", shared),
        (5, 2000, None, b"f", each[0]),
        (6, 2000, None, b"", each[1]),
        (7, 3000, b"", b"g", each[0]),
        (8, 3000, b"l", b"h", each[1]),
    ]


async def test_a_batch_was_not_sent_before_it_was_encoded() -> None:
    """That is when aiokafka closes it; before, it is certainly not in Kafka."""
    client = KafkaClient(KafkaSettings())
    batch = client.build([segment([b"a"], 1)])
    assert not client.was_sent(batch)
    batch._build()
    assert client.was_sent(batch)
    await client.stop()


# Sending


async def test_a_batch_is_sent_once_and_its_error_told_at_once(kafka: Kafka) -> None:
    """Not after the request's time is up: while a client retries, others of that broker wait."""
    topic = kafka.create(kafka.new_name(), 1)
    client = KafkaClient(KafkaSettings(bootstrap_servers=kafka.servers))
    await client.start()
    try:
        await client.follow([topic])
        assert await client.send(client.build([segment([b"a"], 1)]), topic, 0) == 0
        kafka.delete(topic)
        with pytest.raises(kafka_errors.UnknownTopicOrPartitionError):
            await send_until_it_fails(client, topic, 1.0)
    finally:
        await client.stop()


async def send_until_it_fails(client: KafkaClient, topic: str, seconds: float) -> None:
    """Send batches, each for at most ``seconds``: a broker may not know at once what was done."""
    while True:
        async with asyncio.timeout(seconds):
            await client.send(client.build([segment([b"a"], 1)]), topic, 0)


# Installation


def test_aiokafka_without_its_c_extension_is_refused() -> None:
    """It would be many times slower, and nobody would be told."""
    code = """
from ingest.errors import ConfigError
from ingest.kafka_client import require_c_extension
try:
    require_c_extension()
except ConfigError as error:
    print(*error.problems)
"""
    environment = os.environ | {"AIOKAFKA_NO_EXTENSIONS": "1"}
    said = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert said.startswith("aiokafka's C extension is missing")


def test_the_c_extension_is_there() -> None:
    """Where these tests run, and so in every image that they pass in."""
    require_c_extension()
