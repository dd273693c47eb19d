import json
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner

from marserve.cli import main

FIXTURES = Path(__file__).parents[1] / "fixtures"
canned_http = runpy.run_path(str(FIXTURES / "canned_http.py"))["canned_http"]

READY = {
    "id": "9000",
    "startTime": "2024-05-01T10:00:00.123Z",
    "status": "READY",
    "memoryUsage": 554663936,
    "pid": 7293,
}
NOT_YET = {**READY, "id": "9001", "status": "UNLOADING", "memoryUsage": 0, "pid": -1}


def version(number, workers, least=1, most=1, name="digits"):
    return {
        "modelName": name,
        "modelVersion": number,
        "modelUrl": f"{name}.mar",
        "minWorkers": least,
        "maxWorkers": most,
        "batchSize": 8,
        "maxBatchDelay": 50,
        "responseTimeout": 120,
        "startupTimeout": 90,
        "workers": workers,
        "jobQueueStatus": {"remainingCapacity": 97, "pendingRequests": 3},
    }


@pytest.fixture
def canned():
    with canned_http() as canned:
        yield canned


@pytest.fixture
def run(canned, tmp_path, monkeypatch):
    """Runs the command where config.properties names the canned server for both ports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    (tmp_path / "config.properties").write_text(
        f"inference_address={canned.url}\nmanagement_address=http://127.0.0.1:1\n"
    )

    def run(*arguments, **options):
        arguments = [*arguments]
        if arguments[0] == "models":
            arguments += ["--management", canned.url.removeprefix("http://")]
        result = CliRunner().invoke(main, arguments, **options)
        return result.exit_code, result.stdout, result.stderr

    return run


def register_three(canned):
    one, two = version("1.0", [READY]), version("2.0", [READY, NOT_YET], 2, 4)
    idle = version("1", [], 0, 0, name="idle")
    loading = version("1", [NOT_YET], name="loading")
    names = [{"modelName": n, "modelUrl": f"{n}.mar"} for n in ("digits", "gone", "idle")]
    names.append({"modelName": "loading", "modelUrl": "loading.mar"})
    canned.answer("GET /models?limit=100", 200, {"models": names})
    canned.answer("GET /models/digits/all", 200, [one, two])
    canned.answer("GET /models/digits", 200, [one])
    canned.answer("GET /models/idle/all", 200, [idle])
    canned.answer("GET /models/loading/all", 200, [loading])
    return names


LIST = """\
MODEL    VERSION        STATE         WORKERS  WAITING  ARCHIVE
digits   1.0 (default)  READY         1 of 1   3        digits.mar
digits   2.0            PARTLY READY  1 of 2   3        digits.mar
idle     1 (default)    NO WORKERS    0 of 0   3        idle.mar
loading  1 (default)    NOT READY     0 of 1   3        loading.mar
"""

DESCRIPTION = """\
digits 1.0 (default)  READY
  archive   digits.mar
  workers   1 ready, 1 wanted
  batch     up to 8 requests, 50 ms
  timeouts  response 120 s, start-up 90 s
  waiting   3 requests, room for 97 more

  WORKER  STATE  PID   MEMORY   STARTED
  9000    READY  7293  529 MiB  2024-05-01T10:00:00.123Z

digits 2.0  PARTLY READY
  archive   digits.mar
  workers   1 ready, 2 to 4 wanted
  batch     up to 8 requests, 50 ms
  timeouts  response 120 s, start-up 90 s
  waiting   3 requests, room for 97 more

  WORKER  STATE      PID   MEMORY   STARTED
  9000    READY      7293  529 MiB  2024-05-01T10:00:00.123Z
  9001    UNLOADING  -     -        2024-05-01T10:00:00.123Z
"""


def test_list_shows_all_versions_in_a_table(run, canned):
    register_three(canned)
    assert run("models", "list") == (0, LIST, "")


def test_list_has_colours_on_a_terminal_only(run, canned, monkeypatch):
    register_three(canned)
    assert "\x1b[32mREADY\x1b[0m " in run("models", "list", color=True)[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert run("models", "list", color=True)[1] == LIST


def test_list_without_models_says_how_to_add_one(run, canned):
    canned.answer("GET /models?limit=100", 200, {"models": []})
    code, out, _ = run("models", "list")
    assert (code, out) == (
        0,
        "No models are registered. `marserve models register ARCHIVE` adds one.\n",
    )


def test_list_and_describe_give_the_servers_json(run, canned):
    names = register_three(canned)
    assert json.loads(run("models", "list", "--json")[1]) == names
    described = json.loads(run("models", "describe", "idle", "--json")[1])
    assert described == [version("1", [], 0, 0, name="idle")]


def test_describe_shows_settings_and_workers(run, canned):
    register_three(canned)
    assert run("models", "describe", "digits") == (0, DESCRIPTION, "")


def test_describe_can_show_one_version(run, canned):
    canned.answer("GET /models/digits/1.0", 200, [version("1.0", [])])
    out = run("models", "describe", "digits", "--version", "1.0")[1]
    assert out.startswith("digits 1.0 (default)  NOT READY\n")


@pytest.mark.parametrize(
    ("arguments", "request_line"),
    [
        (
            ["register", "a.mar"],
            "POST /models?url=a.mar&synchronous=true&initial_workers=1",
        ),
        (
            [
                "register",
                "a.mar",
                "--name",
                "m",
                "--handler",
                "h:f",
                "--batch-size",
                "8",
                "--max-batch-delay",
                "5",
                "--workers",
                "0",
                "--response-timeout",
                "9",
                "--startup-timeout",
                "10",
                "--sha256",
                "ab",
                "--async",
            ],
            "POST /models?url=a.mar&synchronous=false&model_name=m&handler=h%3Af&batch_size=8"
            "&max_batch_delay=5&initial_workers=0&response_timeout=9&startup_timeout=10&sha256=ab",
        ),
        (["scale", "m", "--min", "2"], "PUT /models/m?min_worker=2&synchronous=true"),
        (
            ["scale", "m", "--version", "1.0", "--min", "0", "--max", "3", "--async"],
            "PUT /models/m/1.0?min_worker=0&max_worker=3&synchronous=false",
        ),
        (["set-default", "m", "2.0"], "PUT /models/m/2.0/set-default"),
        (["unregister", "m"], "DELETE /models/m"),
        (["unregister", "m", "--version", "1.0"], "DELETE /models/m/1.0"),
    ],
)
def test_a_change_is_sent_and_its_status_printed(run, canned, arguments, request_line):
    canned.answer(request_line, 200, {"status": "It is so."})
    assert run("models", *arguments) == (0, "It is so.\n", "")


def test_a_refusal_is_a_sentence_with_code_and_type(run, canned):
    error = {"code": 404, "type": "ModelNotFoundException", "message": "Model not found: m"}
    canned.answer("DELETE /models/m", 404, error)
    expected = "marserve: Model not found: m (404 ModelNotFoundException)\n"
    assert run("models", "unregister", "m") == (1, "", expected)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["scale", "m", "--min", "2", "--max", "1"], "--max 1 is less than --min 2."),
        (["scale", "m"], "Missing option '--min'."),
        (["register", "a.mar", "--batch-size", "0"], "0 is not in the range x>=1."),
    ],
)
def test_wrong_usage_is_a_sentence_and_two(run, arguments, sentence):
    code, out, err = run("models", *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.endswith(f"See `main models {arguments[0]} --help`.\n")


@pytest.mark.parametrize(
    ("file_name", "content_type"),
    [
        ("cat.png", "image/png"),
        ("cat.jpg", "image/jpeg"),
        ("x.json", "application/json"),
        ("x.txt", "text/plain"),
        ("x.json.gz", "application/octet-stream"),
        ("x.unheard-of", "application/octet-stream"),
        ("x", "application/octet-stream"),
    ],
)
def test_the_content_type_is_guessed_from_the_name(run, canned, tmp_path, file_name, content_type):
    (tmp_path / file_name).write_bytes(b"\x00\x01")
    canned.answer("POST /predictions/m", 200, b"\xff")
    run("predict", "m", "-i", file_name)
    assert canned.asked == [("POST /predictions/m", content_type, b"\x00\x01")]


def test_the_content_type_can_be_named_and_the_input_piped(run, canned):
    canned.answer("POST /predictions/m/2", 200, b'{"a": 1}')
    arguments = ["predict", "m", "--version", "2", "-i", "-", "--content-type", "application/json"]
    assert run(*arguments, input="[1]") == (0, '{"a": 1}', "")
    assert canned.asked == [("POST /predictions/m/2", "application/json", b"[1]")]


def test_piped_input_without_a_type_is_bytes(run, canned):
    canned.answer("POST /predictions/m", 200, b"ok")
    run("predict", "m", "-i", "-", input="[1]")
    assert canned.asked[0][1] == "application/octet-stream"


def test_a_failed_prediction_prints_nothing_but_the_reason(run, canned):
    error = {"code": 503, "type": "InternalServerException", "message": "Prediction failed"}
    canned.answer("POST /predictions/m", 503, error)
    expected = "marserve: Prediction failed (503 InternalServerException)\n"
    assert run("predict", "m", "-i", "-") == (1, "", expected)


def test_a_missing_input_is_wrong_usage(run):
    assert run("predict", "m")[0] == 2
    code, _, err = run("predict", "m", "-i", "nope")
    assert code == 2
    assert "'nope': No such file or directory. See " in err


def test_port_0_needs_a_server_that_tells_its_port(run, tmp_path):
    (tmp_path / "config.properties").write_text("inference_address=http://127.0.0.1:0")
    code, _, err = run("predict", "m", "-i", "-")
    assert code == 1
    assert err.startswith("marserve: inference_address has port 0, and no server runs")


def test_port_0_is_looked_up_from_the_running_server(run, canned, tmp_path):
    from marserve.run_file import RunFile

    (tmp_path / "config.properties").write_text("inference_address=http://127.0.0.1:0")
    canned.answer("POST /predictions/m", 200, b"ok")
    with RunFile(tmp_path / "logs").claimed() as claim:
        claim.complete({"inference": canned.url})
        assert run("predict", "m", "-i", "-") == (0, "ok", "")


def test_an_address_that_is_none_is_wrong_usage(run):
    code, _, err = run("predict", "m", "-i", "-", "--inference", "http://h:x")
    assert code == 2
    assert "--inference: http://h:x has no usable port. See" in err
