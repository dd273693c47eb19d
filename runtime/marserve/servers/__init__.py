"""The listening ports: inference on the event loop, management and metrics on waitress."""
