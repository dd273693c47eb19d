import json

import pytest

from marserve_handlers.labels import load_label_mapping, map_class_to_label


@pytest.mark.parametrize(
    ("content", "mapping"),
    [
        ({"0": "cat", "1": "dog"}, {"0": "cat", "1": "dog"}),
        ({"0": ["n01", "cat"]}, {"0": "cat"}),
        ({"object_type_names": ["none", "cat"]}, {"0": "none", "1": "cat"}),
    ],
)
def test_each_shape_of_the_labels_file_becomes_index_to_name(content, mapping, tmp_path):
    path = tmp_path / "index_to_name.json"
    path.write_text(json.dumps(content))
    assert load_label_mapping(path) == mapping


def test_no_labels_file_is_no_mapping_and_said(tmp_path, caplog):
    assert load_label_mapping(str(tmp_path / "index_to_name.json")) is None
    assert "is missing. Inference output will not include class name." in caplog.text


@pytest.mark.parametrize("content", [{"0": 3}, {"0": []}, {"0": ["a", 1]}, ["cat"]])
def test_another_shape_is_refused(content, tmp_path):
    path = tmp_path / "index_to_name.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"must be either str or List\[str\]|JSON object"):
        load_label_mapping(path)


@pytest.mark.parametrize(
    ("mapping", "classes", "labelled"),
    [
        (None, None, [{"0": 0.7, "1": 0.3}]),
        (None, [[4, 2]], [{"4": 0.7, "2": 0.3}]),
        ({"4": "cat"}, [[4, 2]], [{"cat": 0.7, "2": 0.3}]),
        ({"4": "cat"}, [[4]], [{"cat": 0.7}]),
        (["ant", "bee", "cat"], [[2, 1]], [{"cat": 0.7, "bee": 0.3}]),
    ],
)
def test_probabilities_get_names(mapping, classes, labelled):
    assert map_class_to_label([[0.7, 0.3]], mapping, classes) == labelled
