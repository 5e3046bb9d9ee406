"""Load tools of the gateway, each run as ``python -m loadtest.NAME``.

- ``benchmark``: CPU time per event of the gateway, next to a bare producer and a naive gateway.
- ``ledger``: sends events with known ids, reads the topic back, and says what was lost or doubled.
- ``frozen``: the memory of the gateway at full load while Kafka stands still.
- ``syslog_benchmark``, ``syslog_loss``: the cost of a syslog message, and where it is lost by UDP;
  ``syslog_generator`` is what they send with.
- ``udp_receive``: what it costs to read a datagram, in the ways there are.
- ``generator``: the load generator that the others start.
- ``bare_producer``, ``naive_gateway``: what the gateway is compared with.
- ``locustfile.py``: the same load through locust, ``locust -f loadtest/locustfile.py``.

The modules ``events``, ``gateway``, ``cpu``, ``answers``, ``sender`` and ``read_back`` are what
these tools share; fault tests use them too.
"""
