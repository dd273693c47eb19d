"""Takes a known time per batch without using the CPU, and writes down whatever ran too late.

`BATCH_MS` and `EXPIRED_LOG` stand in the model's YAML file, under `handler`.
"""

import time
from pathlib import Path


class TimedHandler:
    """Sleeps, whatever the batch."""

    def initialize(self, context):
        """Read how long."""
        said = context.model_yaml_config.get("handler", {})
        self.batch_s = said.get("batch_ms", 10) / 1000.0
        self.log = said.get("expired_log")

    def handle(self, data, context):
        """Answer `ok` to each."""
        expired = sum(context.remaining_s(index) <= 0.0 for index in range(len(data)))
        if expired and self.log:
            with Path(self.log).open("a") as log:
                log.write(f"{expired}\n")
        time.sleep(self.batch_s)
        return ["ok"] * len(data)
