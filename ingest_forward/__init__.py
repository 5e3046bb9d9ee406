"""The forwarder: configured routes shape events into the topics that Kafka Connect sinks read."""
