"""Who decides how a model's workers are shut in."""

from pathlib import Path, PurePath
from types import SimpleNamespace

import pytest

from marserve.registry.model_config import ModelConfig, parse
from marserve.workers.confinement import confinement, mode_of


def config(sandbox="default", may_loosen=False):
    return SimpleNamespace(
        sandbox=sandbox,
        sandbox_model_may_loosen=may_loosen,
        sandbox_writable=(Path("/out"),),
        sandbox_readable=(Path("/in"),),
        metrics_config=Path("/etc/metrics.yaml"),
        log_dir=Path("/logs"),
        metrics_log_dir=Path("/logs"),
        cache_dir=Path("/cache"),
        model_store=Path("/store"),
        workflow_store=None,
    )


@pytest.mark.parametrize(
    ("server", "archive", "may_loosen", "expected"),
    [
        ("default", None, False, "default"),
        ("default", "strict", False, "strict"),
        ("default", "off", False, "default"),
        ("strict", "default", False, "strict"),
        ("off", "strict", False, "strict"),
        ("strict", "off", True, "off"),
        ("default", None, True, "default"),
    ],
)
def test_an_archive_may_tighten_and_with_leave_loosen(server, archive, may_loosen, expected):
    assert mode_of(config(server, may_loosen), ModelConfig(sandbox=archive)) == expected


@pytest.mark.parametrize(
    ("mode", "network", "is_launched", "expected"),
    [
        ("default", None, False, True),
        ("default", False, False, False),
        ("strict", None, False, False),
        ("strict", True, False, True),
        ("strict", None, True, True),
        ("strict", False, True, True),
    ],
)
def test_there_is_a_network_unless_one_says_otherwise(mode, network, is_launched, expected):
    logs = PurePath("/logs/torchelastic_ts") if is_launched else None
    yaml = ModelConfig(network=network)
    assert confinement(config(mode), yaml, PurePath("/m"), (), logs).has_network == expected


def test_what_is_read_written_and_protected_comes_from_the_configuration():
    made = confinement(config(), ModelConfig(), PurePath("/m"), ("/packages",), PurePath("/l/t"))
    assert made.model_dir == "/m"
    assert made.writable == ["/out"]
    assert made.readable == ["/in", "/packages", "/etc/metrics.yaml"]
    assert made.protected == ["/logs", "/logs", "/cache", "/store"]
    assert made.made == ["/l/t"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"sandbox: off\nnetwork: true", ModelConfig(sandbox="off", network=True)),
        (b"sandbox: 'off'", ModelConfig(sandbox="off")),
        (b"sandbox: strict\nnetwork: false", ModelConfig(sandbox="strict", network=False)),
        (b"sandbox: loose\nnetwork: maybe", ModelConfig()),
    ],
)
def test_an_archive_says_it_in_its_yaml(text, expected):
    read, warnings = parse(text)
    assert read == expected
    assert len(warnings) == (2 if b"loose" in text else 0)
