"""Contract tests: the same tables against our server and, on demand, the real TorchServe.

How to write one: the docstring of tests/harness/contract.py. The options work when this folder is
named on the command line: `pytest tests/compat --torchserve DIR`, `--differences FILE`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contract import Difference
from targets import Target, TorchServe

TITLES = {
    "archives": "Archives",
    "configuration": "Configuration and start",
    "grpc": "gRPC",
    "handlers": "What handlers return",
    "inference": "Inference over HTTP",
    "management": "Management over HTTP",
    "metrics": "Metrics",
    "tokens": "Tokens",
    "workflows": "Workflows",
}
"""What the table of differences calls each module."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("contract tests")
    group.addoption("--torchserve", metavar="DIR", help="ask the TorchServe of this environment")
    group.addoption("--differences", metavar="FILE", help="write what differs as a Markdown table")


def pytest_configure(config: pytest.Config) -> None:
    for mark in (
        "ours_only: says nothing about TorchServe",
        "torchserve_only: needs the real TorchServe",
        "differs(what, ours, torchserve, why): a row of the table of differences",
    ):
        config.addinivalue_line("markers", mark)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about the other server; write the table of differences."""
    unwanted = "ours_only" if _home(config) else "torchserve_only"
    left_out = [item for item in items if item.get_closest_marker(unwanted)]
    file = config.getoption("differences", None)
    if file is not None:
        Path(file).write_text(_markdown(items), encoding="utf-8")
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="module")
def make_target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Target]]:
    """Makes servers that are not started yet: for modules that need more than one."""
    home = _home(request.config)
    made: list[Target] = []

    def make() -> Target:
        root = tmp_path_factory.mktemp("target")
        made.append(Target(root) if home is None else TorchServe(root, home))
        return made[-1]

    yield make
    for target in made:
        target.end()


@pytest.fixture(scope="module")
def target(make_target: Callable[[], Target]) -> Target:
    """The server of this module, not started yet."""
    return make_target()


@pytest.fixture(scope="module")
def torchserve_home(request: pytest.FixtureRequest) -> Path:
    """The environment that --torchserve names; for tests that are marked `torchserve_only`."""
    home = _home(request.config)
    assert home is not None, "the test is not marked torchserve_only"
    return home


def _home(config: pytest.Config) -> Path | None:
    given = config.getoption("torchserve", None)
    return None if given is None else Path(given)


def _markdown(items: list[pytest.Item]) -> str:
    """One table per module; rows that say the same of several requests become one."""
    sections: dict[str, dict[tuple[str, str, str], list[str]]] = {}
    for item in items:
        for what, *said in _differences(item):
            rows = sections.setdefault(item.path.stem.removeprefix("test_"), {})
            whats = rows.setdefault((said[0], said[1], said[2]), [])
            if what not in whats:
                whats.append(what)
    return "\n".join(_table(name, rows) for name, rows in sorted(sections.items()))


def _table(name: str, rows: dict[tuple[str, str, str], list[str]]) -> str:
    lines = [f"### {TITLES[name]}", ""]
    lines += ["| What | MarServe | TorchServe 0.12.0 | Why |", "| --- | --- | --- | --- |"]
    for said, whats in rows.items():
        row = (", ".join(whats), *said)
        cells = (re.sub(r"\s+", " ", cell).replace("|", "\\|") for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _differences(item: pytest.Item) -> list[Difference]:
    """Of the marks, and of every parameter that has a method `differences`."""
    callspec: Any = getattr(item, "callspec", None)
    parameters = [] if callspec is None else callspec.params.values()
    told = [one.differences() for one in parameters if hasattr(one, "differences")]
    marked = [Difference(*mark.args, **mark.kwargs) for mark in item.iter_markers("differs")]
    return marked + [one for several in told for one in several]
