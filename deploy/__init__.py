"""What runs the gateway outside production: local brokers."""
