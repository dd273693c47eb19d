import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from marserve_handlers.errors import HandlerLoadFailed, PredictionException
from marserve_handlers.sklearn import SklearnHandler
from marserve_handlers.testing import run_handler

MANIFEST = {"model": {"serializedFile": "model.joblib"}}


class Counting(LogisticRegression):
    calls = 0

    def predict(self, X):
        type(self).calls += 1
        return super().predict(X)


@pytest.fixture
def classifier():
    features = np.array([[0.0, 0.0], [0.0, 1.0], [5.0, 5.0], [5.0, 6.0]])
    return LogisticRegression().fit(features, ["low", "low", "high", "high"])


def answers(tmp_path, model, bodies, **settings):
    joblib.dump(model, tmp_path / "model.joblib")
    results = run_handler("sklearn", bodies, model_dir=tmp_path, manifest=MANIFEST, **settings)
    return [result.json() for result in results]


def test_one_sample_and_many_are_answered_in_their_own_shape(classifier, tmp_path):
    bodies = [[0, 0], {"body": {"instances": [[5, 5], [0, 1]]}}, b"[5, 6]", "[0, 0]"]
    assert answers(tmp_path, classifier, bodies) == [
        {"prediction": "low"},
        {"predictions": ["high", "low"]},
        {"prediction": "high"},
        {"prediction": "low"},
    ]


def test_no_instances_have_no_predictions(classifier, tmp_path):
    assert answers(tmp_path, classifier, [{"body": {"instances": []}}]) == [{"predictions": []}]


def test_probabilities_are_added_when_the_model_asks_for_them(classifier, tmp_path):
    yaml = {"handler": {"probabilities": True}}
    one, many, none = answers(
        tmp_path,
        classifier,
        [[5, 5], {"body": {"instances": [[0, 0]]}}, {"body": {"instances": []}}],
        model_yaml_config=yaml,
    )
    assert one["prediction"] == "high"
    assert set(one["probabilities"]) == {"low", "high"}
    assert sum(one["probabilities"].values()) == pytest.approx(1)
    assert many["probabilities"][0]["low"] > 0.5
    assert none == {"predictions": []}


def test_a_batch_is_one_call_of_the_estimator(classifier):
    from marserve_handlers.contract import Context

    model = Counting().fit([[0.0], [1.0]], [0, 1])
    handler = SklearnHandler()
    handler.model = model
    context = Context(model_name="m", manifest={}, model_dir=".", batch_size=2, gpu=None)
    context.begin_batch(["a", "b"], [{}, {}])
    handler.handle([{"body": [0.0]}, {"body": {"instances": [[1.0], [0.0]]}}], context)
    assert Counting.calls == 1


def test_a_regression_answers_numbers(tmp_path):
    model = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
    [answer] = answers(tmp_path, model, [[2]])
    assert answer["prediction"] == pytest.approx(5.0)


def test_categories_may_be_text(tmp_path):
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(
        np.array([["a", "x"], ["b", "y"]], dtype=object), [0, 1]
    )
    assert answers(tmp_path, model, [["b", "y"]]) == [{"prediction": 1}]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([1], r"A sample has 1 values, but the model expects 2 features \(n_features_in_\)"),
        ([[1, 2]], "A sample must be a flat JSON list with one value per feature, 2 in all"),
        ({"body": {"instances": [1, 2]}}, "must be a flat JSON list"),
        ({"body": {"samples": []}}, "must be a list with one value per feature"),
        ({"body": 3}, "must be a list"),
        (b"{broken", "must be JSON"),
        (["a", "b"], "The model refuses the input"),
        ([None, 1], "The model refuses the input"),
        ({}, "neither a body"),
    ],
)
def test_a_wrong_sample_is_the_clients_mistake(body, says, classifier, tmp_path):
    with pytest.raises(PredictionException, match=says) as caught:
        answers(tmp_path, classifier, [body])
    assert caught.value.error_code == 400


@pytest.mark.parametrize(
    ("model", "manifest", "yaml", "says"),
    [
        (LinearRegression(), {"model": {}}, {}, "needs a serialized file"),
        ([1, 2], MANIFEST, {}, "holds a list without predict"),
        (
            LinearRegression(),
            MANIFEST,
            {"handler": {"probabilities": True}},
            "without predict_proba",
        ),
    ],
)
def test_what_is_no_estimator_is_refused_at_load(model, manifest, yaml, says, tmp_path):
    joblib.dump(model, tmp_path / "model.joblib")
    with pytest.raises(HandlerLoadFailed, match=says):
        run_handler("sklearn", [], model_dir=tmp_path, manifest=manifest, model_yaml_config=yaml)
