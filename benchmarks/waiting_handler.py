"""Waits 5 ms for each batch, as a handler that asks another service does."""

import time

WAIT_S = 0.005


class WaitingHandler:
    """One constant per row, after a while in which the core is free."""

    def initialize(self, context):
        """Nothing to load."""

    def handle(self, data, context):
        """One constant per row."""
        time.sleep(WAIT_S)
        return ["ok"] * len(data)
