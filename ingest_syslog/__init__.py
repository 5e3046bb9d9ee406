"""The syslog front door: UDP, TCP, TLS, RELP and unix sockets, into Kafka."""
