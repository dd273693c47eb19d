from marserve_handlers.torchserve.mock_context import MockContext


def test_it_stands_for_one_request_of_a_model(tmp_path):
    (tmp_path / "config.yaml").write_text("handler: {profile: true}")
    context = MockContext(
        "w.pt",
        tmp_path,
        "model.py",
        gpu_id="1",
        model_name="m",
        model_yaml_config_file="config.yaml",
    )
    assert context.manifest == {
        "model": {"modelName": "m", "serializedFile": "w.pt", "modelFile": "model.py"}
    }
    assert context.system_properties["model_dir"] == str(tmp_path)
    assert context.system_properties["gpu_id"] == 1
    assert context.model_yaml_config == {"handler": {"profile": True}}
    assert context.get_request_header(0, "explain") is None
    context.metrics.add_counter("c", 1)


def test_files_may_be_left_out_and_explanations_asked_for():
    context = MockContext(model_pt_file=None)
    assert context.manifest == {"model": {"modelName": "mnist", "modelFile": "model.py"}}
    assert context.explain is False
    for wanted in (True, "True"):
        context.explain = wanted
        assert (context.explain, context.get_request_header(0, "explain")) == (wanted, "True")
    context.explain = "False"
    assert context.get_request_header(0, "explain") == "False"
    assert MockContext(model_file=None, gpu_id=None).system_properties["gpu_id"] is None
