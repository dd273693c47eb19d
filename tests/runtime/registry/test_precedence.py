"""Who decides a setting of a version when several have a say."""

from dataclasses import replace
from pathlib import Path

import pytest

from marserve.config import ModelOverrides, load
from marserve.model_version import Settings
from marserve.protocols.management import Registration
from marserve.registry.model_config import ModelConfig, TorchRun
from marserve.registry.precedence import Sources, decide

CONFIG = replace(
    load(None, {}, {}, Path("/nowhere")).config,
    default_workers_per_model=3,
    batch_size=10,
    max_batch_delay_ms=11,
    job_queue_size=12,
    default_response_timeout_s=13,
    default_startup_timeout_s=14,
)
NOTHING = Sources(
    wish=Registration("m.mar"),
    yaml=ModelConfig(),
    overrides=ModelOverrides(),
    config=CONFIG,
    at_startup=False,
    startup_workers=8,
)


def test_where_nobody_says_anything_the_server_s_defaults_hold():
    assert decide(NOTHING) == Settings(
        min_workers=3,
        max_workers=3,
        batch_size=10,
        max_batch_delay_ms=11,
        response_timeout_s=13,
        startup_timeout_s=14,
        queue_size=12,
        handler=None,
        runtime="python",
    )


def say(sources, who, field, value):
    """`sources` in which `who` says `value` for `field`."""
    return replace(sources, **{who: replace(getattr(sources, who), **{field: value})})


@pytest.mark.parametrize(
    ("field", "order"),
    [
        ("batch_size", ("wish", "yaml", "overrides")),
        ("max_batch_delay_ms", ("wish", "yaml", "overrides")),
        ("response_timeout_s", ("yaml", "overrides", "wish")),
        ("startup_timeout_s", ("yaml", "overrides", "wish")),
    ],
)
def test_the_first_that_says_something_decides(field, order):
    sources = NOTHING
    for number, who in enumerate(reversed(order), start=100):
        sources = say(sources, who, field, number)
        assert getattr(decide(sources), field) == number
        # whoever comes before may say so alone, too
        assert getattr(decide(say(NOTHING, who, field, number)), field) == number


@pytest.mark.parametrize("who", ["wish", "yaml", "overrides"])
def test_a_delay_of_zero_is_something_said(who):
    assert decide(say(NOTHING, who, "max_batch_delay_ms", 0)).max_batch_delay_ms == 0


def test_the_length_of_the_queue_is_the_archive_s_or_the_server_s():
    assert decide(say(NOTHING, "yaml", "queue_size", 7)).queue_size == 7
    assert decide(NOTHING).queue_size == 12


def test_the_handler_is_the_one_that_the_request_names():
    assert decide(say(NOTHING, "wish", "handler", "h.py:f")).handler == "h.py:f"


@pytest.mark.parametrize(
    ("wish", "overrides", "expected"),
    [
        (None, None, "python"),
        (None, "python3", "python3"),
        ("python", "python3", "python"),
        ("python3", None, "python3"),
    ],
)
def test_the_runtime(wish, overrides, expected):
    sources = say(say(NOTHING, "wish", "runtime", wish), "overrides", "runtime", overrides)

    assert decide(sources).runtime == expected


YAML = {"min_workers": 2, "max_workers": 5}
OVERRIDES = {"min_workers": 4, "max_workers": 6}


@pytest.mark.parametrize("at_startup", [False, True])
@pytest.mark.parametrize(
    ("yaml", "wish", "expected"),
    [
        pytest.param({}, None, (3, 3), id="the server's default"),
        pytest.param({}, 1, (1, 1), id="the request"),
        pytest.param({}, 0, (0, 0), id="the request wants none"),
        pytest.param(YAML, None, (2, 5), id="the archive"),
        pytest.param(YAML, 1, (2, 5), id="the archive beats the request"),
        pytest.param({"min_workers": 2}, 1, (2, 2), id="the archive names a minimum only"),
        pytest.param({"max_workers": 5}, 1, (1, 1), id="a maximum alone decides nothing"),
    ],
)
def test_workers_are_the_archive_s_or_the_request_s_or_the_server_s(
    at_startup, yaml, wish, expected
):
    sources = replace(
        NOTHING,
        at_startup=at_startup,
        yaml=ModelConfig(**yaml),
        wish=Registration("m.mar", initial_workers=wish),
    )

    settings = decide(sources)

    assert (settings.min_workers, settings.max_workers) == expected


@pytest.mark.parametrize(
    ("at_startup", "yaml", "overrides", "wish", "expected"),
    [
        pytest.param(True, {}, OVERRIDES, None, (4, 6), id="models sets them at start-up"),
        pytest.param(True, {}, {"min_workers": 4}, None, (4, 4), id="with a minimum only"),
        pytest.param(True, {}, OVERRIDES, 1, (4, 6), id="before the request"),
        pytest.param(True, YAML, OVERRIDES, None, (2, 5), id="after the archive"),
        pytest.param(False, {}, OVERRIDES, None, (3, 3), id="but not for a later request"),
        pytest.param(False, {}, OVERRIDES, 1, (1, 1), id="which has its own say"),
    ],
)
def test_the_models_property_sets_workers_at_start_up_only(
    at_startup, yaml, overrides, wish, expected
):
    sources = replace(
        NOTHING,
        at_startup=at_startup,
        yaml=ModelConfig(**yaml),
        overrides=ModelOverrides(**overrides),
        wish=Registration("m.mar", initial_workers=wish),
    )

    settings = decide(sources)

    assert (settings.min_workers, settings.max_workers) == expected


@pytest.mark.parametrize(
    ("at_startup", "default", "expected"), [(True, 0, 8), (True, 2, 2), (False, 0, 0)]
)
def test_models_of_the_start_get_workers_even_where_the_default_is_none(
    at_startup, default, expected
):
    config = replace(CONFIG, default_workers_per_model=default)

    settings = decide(replace(NOTHING, at_startup=at_startup, config=config))

    assert (settings.min_workers, settings.max_workers) == (expected, expected)


@pytest.mark.parametrize(
    ("yaml", "wanted"),
    [
        (ModelConfig(device_type="gpu", device_ids=(1, 0)), {"device_ids": (1, 0)}),
        (ModelConfig(max_retry_s=5, client_timeout_ms=9), {"max_retry_s": 5}),
        (ModelConfig(use_job_ticket=True, use_venv=True), {"use_job_ticket": True}),
        (ModelConfig(parallel_level=2), {"parallel_level": 0, "parallel_type": ""}),
        (
            ModelConfig(parallel_type="tp", parallel_level=2),
            {"parallel_level": 2, "parallel_type": "tp"},
        ),
        (
            ModelConfig(parallel_type="pp", torchrun=TorchRun(nproc_per_node=4)),
            {"parallel_level": 4},
        ),
        (
            ModelConfig(parallel_type="custom", parallel_level=3, torchrun=TorchRun()),
            {"parallel_level": 3},
        ),
        (
            ModelConfig(sequence_batching=True, sequence_max_idle_ms=9, max_sequences=2),
            {"max_sequences": 3, "sequence_queue_size": 1, "sequence_max_idle_ms": 9},
        ),
        (
            ModelConfig(
                sequence_batching=True,
                sequence_max_idle_ms=9,
                batch_size=4,
                min_workers=1,
                max_workers=2,
                sequence_queue_size=7,
            ),
            {"max_sequences": 8, "sequence_queue_size": 7},
        ),
        (
            ModelConfig(max_sequences=5, sequence_timeout_ms=4),
            {"max_sequences": 0, "sequence_timeout_ms": 0},
        ),
    ],
)
def test_what_only_the_archive_can_say_is_taken_over_with_its_own_rules(yaml, wanted):
    settings = decide(replace(NOTHING, yaml=yaml))

    assert {name: getattr(settings, name) for name in wanted} == wanted
