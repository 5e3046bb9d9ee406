"""The clients by which tests look at Kafka do not outlive an outage."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaException

from deploy.local.mock import MockCluster
from tests import conftest
from tests.conftest import Kafka

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize(
    ("call", "fails"),
    [
        pytest.param(Kafka.answers, nullcontext(), id="answers"),
        pytest.param(lambda kafka: kafka.delete("t"), pytest.raises(TimeoutError), id="delete"),
    ],
)
def test_a_call_that_comes_to_no_broker_leaves_new_clients_to_the_next(
    call: Callable[[Kafka], object],
    fails: AbstractContextManager[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever of them it was made by; it fails all the same."""
    monkeypatch.setattr(conftest, "SETTLE_SECONDS", 0.5)
    with MockCluster() as cluster:
        kafka = Kafka(cluster)
        assert kafka.answers()
        before = kafka._admin, kafka._look
    with fails:
        assert not call(kafka)
    assert kafka._admin is not before[0]
    assert kafka._look is not before[1]


def test_a_refusal_leaves_the_clients_as_they_are(kafka: Kafka) -> None:
    """The broker was there to refuse it."""
    topic = kafka.create(kafka.new_name())
    before = kafka._admin
    with pytest.raises(KafkaException, match="TOPIC_ALREADY_EXISTS"):
        kafka.create(topic)
    assert kafka._admin is before
