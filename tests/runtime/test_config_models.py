import json
import re

import pytest

from marserve.config_models import LOAD_MODELS, MODELS, LoadModels, ModelOverrides, ModelToLoad


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", LoadModels()),
        (" , ", LoadModels()),
        ("all", LoadModels(all=True)),
        ("ALL", LoadModels(all=True)),
        ("a.mar", LoadModels((ModelToLoad(None, "a.mar"),))),
        (
            "one=a.mar, b.mar,two = c.mar",
            LoadModels(
                (
                    ModelToLoad("one", "a.mar"),
                    ModelToLoad(None, "b.mar"),
                    ModelToLoad("two", "c.mar"),
                )
            ),
        ),
        (
            "https://host/a.mar?v=1,x=https://host/b.mar?v=2",
            LoadModels(
                (
                    ModelToLoad(None, "https://host/a.mar?v=1"),
                    ModelToLoad("x", "https://host/b.mar?v=2"),
                )
            ),
        ),
    ],
)
def test_load_models_names_archives_or_all(text, expected):
    assert LOAD_MODELS.read(text, []) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("all,a.mar", 'expected either "all" alone or a list of archives'),
        ("a b=c.mar", 'expected ARCHIVE or NAME=ARCHIVE in place of "a b=c.mar"'),
        ("=c.mar", 'expected ARCHIVE or NAME=ARCHIVE in place of "=c.mar"'),
        ("a=", 'expected ARCHIVE or NAME=ARCHIVE in place of "a="'),
    ],
)
def test_other_lists_are_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        LOAD_MODELS.read(text, [])


def test_models_gives_every_field_its_unit():
    given = {
        "defaultVersion": True,
        "marName": "x.mar",
        "minWorkers": 1,
        "maxWorkers": 3,
        "batchSize": 4,
        "maxBatchDelay": 50,
        "responseTimeout": 60,
        "startupTimeout": 90,
        "runtimeType": "python",
    }
    notes: list[str] = []
    assert MODELS.read(json.dumps({"x": {"1.0": given, "2.0": {}}}), notes) == {
        "x": {
            "1.0": ModelOverrides(True, "x.mar", 1, 3, 4, 50, 60, 90, "python"),
            "2.0": ModelOverrides(),
        }
    }
    assert notes == []


def test_numbers_below_one_are_left_to_the_default_with_a_note():
    notes: list[str] = []
    got = MODELS.read('{"x": {"1": {"batchSize": 0, "minWorkers": -1}}}', notes)
    assert got == {"x": {"1": ModelOverrides()}}
    assert notes == [
        "batchSize of x:1 is 0 and is left to the default",
        "minWorkers of x:1 is -1 and is left to the default",
    ]


def test_a_stranger_is_noted_and_a_slip_is_not_taken():
    notes: list[str] = []
    assert MODELS.read('{"x": {"1": {"colour": "red", "parallelLevel": 2}}}', notes) == {
        "x": {"1": ModelOverrides(parallel_level=2)}
    }
    assert notes == ["colour of x:1 is not known here and has no effect"]


@pytest.mark.parametrize("text", ["", "{}"])
def test_no_models_is_an_empty_mapping(text):
    assert MODELS.read(text, []) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected one JSON object"),
        ("[" * 100_000, "expected one JSON object"),
        ("1" * 5000, "expected one JSON object"),
        ("[]", "expected one JSON object"),
        ('{"x": 1}', "expected an object of versions for x"),
        ('{"x": {"1": []}}', "expected an object of settings for x:1"),
        ('{"a b": {"1": {}}}', "Model name 'a b' is not valid"),
        ('{"x": {"1": {}, "1": {}}}', '"1" is given twice'),
        ('{"x": {"1": {"batchSise": 1}}}', "batchSise of x:1 is not known: did you mean batchSize"),
        ('{"x": {"1": {"batchSize": "4"}}}', 'batchSize of x:1 is "4": expected a whole number'),
        ('{"x": {"1": {"batchSize": true}}}', "batchSize of x:1 is true: expected a whole number"),
        ('{"x": {"1": {"batchSize": 2147483648}}}', "expected at most 2147483647"),
        ('{"x": {"1": {"marName": 1}}}', "marName of x:1 is 1: expected text"),
        ('{"x": {"1": {"defaultVersion": 1}}}', "is 1: expected true or false"),
        (
            '{"x": {"1": {"minWorkers": 3, "maxWorkers": 2}}}',
            "maxWorkers of x:1 is 2, less than its minWorkers 3",
        ),
    ],
)
def test_other_json_is_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        MODELS.read(text, [])
