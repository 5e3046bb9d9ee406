"""The HTTP front door: application servers POST JSON events, and get an answer per event."""
