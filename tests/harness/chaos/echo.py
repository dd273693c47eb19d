"""A server with the echo handler that keeps a journal, and what a run leaves to check."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml
from running_server import Server

from chaos import journal, leaks
from chaos.checker import Evidence
from chaos.counters import Counters, of_model
from chaos.leaks import Holdings
from chaos.ledger import Ledger

MODEL = "echo"


class EchoServer:
    """One server process with one model, `echo`, or several; a ledger for what clients see."""

    def __init__(
        self, root: Path, *, has_journal: bool = True, models: tuple[str, ...] = (MODEL,)
    ) -> None:
        self.server = Server(root)
        self.ledger = Ledger(secrets.token_hex(8))
        self.journal = root / "journal"
        self._has_journal = has_journal
        self.models = models
        self.settle_s = 10.0
        """How long it may take to come to rest."""
        self._before: Holdings | None = None
        self._counted: Counters | None = None

    def start(
        self, *, load_s: float = 0.0, model: dict[str, object] | None = None, **settings: Any
    ) -> None:
        """Pack the models, start the server, wait until it serves.

        Args:
            load_s: how long each worker takes to load.
            model: further keys of model-config.yaml.
            settings: of the server.
        """
        told: dict[str, object] = {"nonce": self.ledger.nonce, "load_s": load_s}
        if self._has_journal:
            told["journal"] = str(self.journal)
        config = self.server.root / "model-config.yaml"
        config.write_text(yaml.safe_dump((model or {}) | {"chaos": told}))
        for name in self.models:
            self.server.pack(name, "chaos_echo.py", config_file=str(config))
        archives = ",".join(f"{name}.mar" for name in self.models)
        self.server.start(**{"load_models": archives} | settings)
        assert self.server.failed is None, self.server.failed

    @property
    def pid(self) -> int:
        assert self.server.process is not None
        return self.server.process.pid

    @property
    def http(self) -> tuple[str, int]:
        return self.server.address("inference")

    @property
    def grpc(self) -> str:
        return self.server.addresses["grpc_inference"].removeprefix("grpc://")

    def ready_pids(self, model: str = MODEL) -> list[int]:
        return [w["pid"] for w in self.server.workers(model) if w["status"] == "READY"]

    async def pids(self) -> list[int]:
        """The workers of the first model that are ready, in a stable order."""
        return sorted(await asyncio.to_thread(self.ready_pids, self.models[0]))

    def begin(self) -> None:
        """From here on everything is accounted for; the server must be idle."""
        self._before = self.holdings()
        self._counted = self.counters()
        self._start = len(self.ledger)

    def evidence(self, workers: int | None = None, *, leaks_too: bool = True) -> Evidence:
        """All that the run has left, once the server has come to rest.

        Args:
            workers: wait until so many are ready.
            leaks_too: compare what it holds, too; it holds more while workers come back.
        """
        if workers is not None:
            self.settle(lambda: len(self.ready_pids()) == workers, 60.0)
        counted_before = self._counted
        assert counted_before is not None
        wanted = sum(1 for row in self.ledger.rows(self._start) if row.status == 200)
        self.settle(lambda: self.counters().since(counted_before).answered.get(200, 0) >= wanted)
        counted = self.counters().since(counted_before)
        executions = None
        if self._has_journal:
            executions = journal.executions(journal.read(self.journal))
        before, after = None, None
        if leaks_too and self._before is not None:
            before = self._before
            after = self._holdings_at_rest(before)
        return Evidence(self.ledger, executions, counted, before, after, self._start)

    def _holdings_at_rest(self, before: Holdings) -> Holdings:
        """What it holds when nobody calls; it sees a moment later that a client has gone."""
        after = self.holdings()
        until = time.monotonic() + self.settle_s
        while after.more_than(before) and time.monotonic() < until:
            time.sleep(0.02)
            after = self.holdings()
        return after

    def runs(self) -> list[journal.Run]:
        return journal.read(self.journal)

    def holdings(self) -> Holdings:
        return leaks.holdings(self.pid, self.server.root / "cache")

    def counters(self, model: str = MODEL) -> Counters:
        return of_model(self.server.metrics(), model)

    def settle(self, is_true: Callable[[], bool], within_s: float | None = None) -> bool:
        """Ask again until it is true; whether it became so."""
        until = time.monotonic() + (self.settle_s if within_s is None else within_s)
        while not is_true():
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True

    def rss_bytes(self) -> int:
        return psutil.Process(self.pid).memory_info().rss
