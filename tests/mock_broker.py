"""A Kafka broker in this process that answers as it is told to: librdkafka's mock, by ctypes.

Its C interface (``rdkafka_mock.h``) is no promise of librdkafka's; the lock file pins the version.
Where it is told to answer a produce request with an error, it writes nothing of that request.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_int16, c_int32, c_size_t, c_void_p
from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import cimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

PRODUCE = 0
"""The number of the produce request in Kafka's protocol."""
HANG_UP = -195
"""librdkafka's ``ERR__TRANSPORT``: the connection is closed instead of an answer."""
_BROKER = 1
_PRODUCER = 0
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "rd_kafka_conf_new": (c_void_p, []),
    "rd_kafka_conf_set": (c_int, [c_void_p, c_char_p, c_char_p, c_void_p, c_size_t]),
    "rd_kafka_new": (c_void_p, [c_int, c_void_p, c_void_p, c_size_t]),
    "rd_kafka_destroy": (None, [c_void_p]),
    "rd_kafka_mock_cluster_new": (c_void_p, [c_void_p, c_int]),
    "rd_kafka_mock_cluster_bootstraps": (c_char_p, [c_void_p]),
    "rd_kafka_mock_cluster_destroy": (None, [c_void_p]),
    # What follows is a list of (error code, milliseconds), all of the C type int.
    "rd_kafka_mock_broker_push_request_error_rtts": (
        c_int,
        [c_void_p, c_int32, c_int16, c_size_t],
    ),
    "rd_kafka_mock_broker_error_stack_cnt": (
        c_int,
        [c_void_p, c_int32, c_int16, POINTER(c_size_t)],
    ),
}


def _library() -> ctypes.CDLL:
    """The librdkafka that the Python client is linked with: symbols are sought there, too."""
    library = ctypes.CDLL(cimpl.__file__)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class MockBroker:
    """A cluster of one broker; topics come into being, with four partitions, when asked for.

    Attributes:
        bootstrap_servers: where it is, ``host:port``.
        nodes: none that could be stopped, as for every cluster that is a mock.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self._library = library = _library()
        settings = library.rd_kafka_conf_new()
        library.rd_kafka_conf_set(settings, b"log_level", b"0", None, 0)
        self._client = library.rd_kafka_new(_PRODUCER, settings, None, 0)
        self._cluster = library.rd_kafka_mock_cluster_new(self._client, 1)
        self.bootstrap_servers: str = library.rd_kafka_mock_cluster_bootstraps(
            self._cluster
        ).decode()

    def answer(self, codes: Iterable[int], after_ms: int = 0) -> None:
        """Answer the next produce requests, one each, by these error codes.

        Args:
            codes: of Kafka's protocol; 0 for a request that is written and answered as usual.
            after_ms: how late.
        """
        pairs = [c_int(each) for code in codes for each in (code, after_ms)]
        count = len(pairs) // 2
        push = self._library.rd_kafka_mock_broker_push_request_error_rtts
        assert push(self._cluster, _BROKER, PRODUCE, count, *pairs) == 0

    @property
    def answers_left(self) -> int:
        """How many of the answers were not given yet."""
        left = c_size_t()
        count = self._library.rd_kafka_mock_broker_error_stack_cnt
        assert count(self._cluster, _BROKER, PRODUCE, byref(left)) == 0
        return left.value

    def close(self) -> None:
        """End it, with its data."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
