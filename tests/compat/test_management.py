"""The management port answers as TorchServe's does."""

from __future__ import annotations

import re
import threading
from functools import partial

import pytest
from contract import ANY, Case, Differs, Response, Subset, ask, error, story, table
from targets import Target

on_management = partial(Case, port="management")

NOT_ALLOWED = error(
    405,
    "MethodNotAllowedException",
    "Requested method is not allowed, please refer to API document.",
)
NOT_FOUND = error(
    404,
    "ResourceNotFoundException",
    "Requested resource is not found, please refer to API document.",
)
PROCESSING = {"status": "Processing worker updates..."}
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
REFUSED_BY_NAME = "a parameter that makes no sense is refused by name instead of replaced silently"
SYNCHRONOUSLY = "PUT /models/echo?min_worker=1&synchronous=true"


def no_model(name):
    return error(404, "ModelNotFoundException", f"Model not found: {name}")


def no_version(name, version):
    message = f"Model version: {version} does not exist for model: {name}"
    return error(404, "ModelVersionNotFoundException", message)


def bad(message=ANY):
    return error(400, "BadRequestException", message)


def without_workers(name, version="1.0"):
    return {
        "status": f'Model "{name}" Version: {version} registered with 0 initial workers. '
        "Use scale workers API to add workers for the model."
    }


def lenient(request, message, **differs):
    """A row whose parameter we refuse and TorchServe does not."""
    told = (
        "400, and the message names the parameter and what it takes",
        "its default, or the value as it stands, is taken",
    )
    theirs = Differs(REFUSED_BY_NAME, told=told, **({"status": 200} | differs))
    return on_management(request, 400, bad(message), differs=theirs)


@pytest.fixture(scope="module")
def served(target: Target) -> Target:
    """`echo` in versions 1.0 (default, one worker) and 2.0 (no worker)."""
    target.pack("echo", "echo.py")
    target.pack("echo", "echo.py", "2.0", file_name="echo2.mar")
    target.pack("echo", "echo.py", "3.0", file_name="echo3.mar")
    target.pack("other", "waits.py")
    target.pack("broken", "broken_initialize.py")
    target.pack("unimportable", "broken_import.py")
    target.pack("hungry", "out_of_memory.py")
    target.pack("describing", "describing.py")
    target.start(default_workers_per_model=0)
    target.call("POST /models?url=echo.mar&initial_workers=1")
    target.call("POST /models?url=echo2.mar")
    return target


# --- register ---


@table(
    story(
        "a model without workers",
        on_management("POST /models?url=other.mar", 200, without_workers("other")),
        on_management("DELETE /models/other", 200, {"status": 'Model "other" unregistered'}),
    ),
    story(
        "a model with workers, waited for",
        on_management(
            "POST /models?url=other.mar&initial_workers=2",
            200,
            {"status": 'Model "other" Version: 1.0 registered with 2 initial workers'},
        ),
        on_management("DELETE /models/other/1.0", 200, {"status": 'Model "other" unregistered'}),
    ),
    story(
        "a model with workers, not waited for",
        on_management(
            "POST /models/?url=other.mar&initial_workers=1&synchronous=False", 202, PROCESSING
        ),
        on_management("DELETE /models/other", 200, {"status": 'Model "other" unregistered'}),
    ),
    on_management(
        "POST /models?url=query.mar",
        200,
        without_workers("body"),
        title="a JSON body takes the place of the query",
        sent={"url": "other.mar", "model_name": "body", "initial_workers": 0},
        after=("DELETE /models/body",),
    ),
    on_management(
        "POST /models?url=other.mar&model_name=&initial_workers=0",
        200,
        without_workers("other"),
        after=("DELETE /models/other",),
    ),
    on_management(
        "POST /models?url=/any/where/other.mar&handler=echo.py&runtime=python&batch_size=4"
        "&max_batch_delay=50&response_timeout=60&startup_timeout=90&s3_sse_kms=false",
        200,
        without_workers("other"),
        after=("DELETE /models/other",),
    ),
    on_management(
        "POST /models?url=echo.mar",
        409,
        error(
            409,
            "ConflictStatusException",
            "Model version 1.0 is already registered for model echo",
        ),
    ),
    on_management("POST /models", 400, bad("Parameter url is required.")),
    on_management("POST /models/", 400, bad("Parameter url is required.")),
    on_management("POST /models", 400, bad("Parameter url is required."), sent={"a": "b"}),
    on_management(
        "POST /models",
        400,
        bad("Parameter url is required."),
        title="a form is not read",
        sent="url=echo.mar",
        content_type="application/x-www-form-urlencoded",
    ),
    on_management("POST /models?url=", 404, error(404, "ModelNotFoundException", "empty url")),
    on_management(
        "POST /models?url=nowhere.mar",
        404,
        error(404, "ModelNotFoundException", "Model not found at: nowhere.mar"),
    ),
    on_management(
        "POST /models?url=../echo.mar",
        404,
        error(404, "ModelNotFoundException", "Relative path is not allowed in url: ../echo.mar"),
    ),
    on_management(
        "POST /models?url=ftp://host/echo.tar",
        404,
        error(404, "ModelNotFoundException", "Model not found at: ftp://host/echo.tar"),
    ),
    on_management(
        "POST /models?url=echo3.mar&runtime=PYTHON",
        400,
        bad("Invalid RuntimeType value: PYTHON"),
    ),
    on_management(
        "POST /models?url=echo3.mar&runtime=LSP&initial_workers=1",
        400,
        bad("Invalid RuntimeType value: LSP. C++ handlers are not served."),
        differs=Differs("refused at once instead of by a worker that cannot start", status=500),
    ),
    on_management(
        "POST /models?url=echo.mar&runtime=",
        409,
        differs=Differs(
            "an empty parameter counts as not given",
            told=("the archive's own", "400 BadRequestException"),
            status=400,
            body=bad("Invalid RuntimeType value: "),
        ),
    ),
    lenient(
        "POST /models?url=echo.mar&batch_size=x",
        "Parameter batch_size must be a whole number.",
        status=409,
    ),
    lenient(
        "POST /models?url=echo.mar&batch_size=-3",
        "Parameter batch_size must be at least 1, not -3.",
        status=409,
    ),
    lenient(
        "POST /models?url=echo.mar&max_batch_delay=-1",
        "Parameter max_batch_delay must be at least 0, not -1.",
        status=409,
    ),
    lenient(
        "POST /models?url=echo.mar&initial_workers=-1",
        "Parameter initial_workers must be at least 0, not -1.",
        status=409,
    ),
    lenient(
        "POST /models?url=echo.mar&startup_timeout=0",
        "Parameter startup_timeout must be at least 1, not 0.",
        status=409,
    ),
    lenient(
        "POST /models?url=echo.mar&synchronous=yes",
        "Parameter synchronous must be true or false.",
        status=409,
    ),
    on_management(
        "POST /models",
        400,
        bad(),
        title="a JSON body that is none",
        sent="{",
        content_type="application/json",
        differs=Differs(
            "a mistake of the client's is a 400",
            status=500,
            body=error(500, "JsonSyntaxException", ANY),
        ),
    ),
    on_management(
        "POST /models",
        400,
        bad("Parameter batch_size must be a whole number."),
        title="a JSON body with a word for a number",
        sent={"url": "echo.mar", "batch_size": "x"},
        differs=Differs(
            "a mistake of the client's is a 400",
            status=500,
            body=error(500, "JsonSyntaxException", ANY),
        ),
    ),
    on_management(
        "POST /models",
        400,
        bad(),
        title="a JSON body of null",
        sent="null",
        content_type="application/json",
        differs=Differs(
            "a mistake of the client's is a 400",
            status=500,
            body=error(500, "NullPointerException", ANY),
        ),
    ),
    on_management(
        "POST /models",
        400,
        bad(),
        title="a JSON body with the same name twice",
        sent='{"url": "nowhere.mar", "url": "echo.mar"}',
        content_type="application/json",
        differs=Differs(
            "it cannot be known which of the two was meant",
            status=409,
            told=("400 BadRequestException", "the last one counts"),
        ),
    ),
    on_management(
        "POST /models",
        400,
        bad("Parameter url must be text."),
        sent={"url": 5},
        title="a JSON body with a number for a text",
        differs=Differs("a value of another type is refused", status=404),
    ),
    story(
        "a JSON body without a batch delay",
        on_management("POST /models", 200, without_workers("other"), sent={"url": "other.mar"}),
        on_management(
            "GET /models/other",
            200,
            [Subset(batchSize=1, maxBatchDelay=100)],
            title="`maxBatchDelay` of a model registered with a JSON body that gives none",
            differs=Differs(
                "the default is that of the query",
                body=[Subset(maxBatchDelay=-10000)],
                told=("100", "-10000"),
            ),
        ),
        on_management("DELETE /models/other", 200),
    ),
)
def test_a_registration_is_answered(served, case):
    served.check(case)


@table(
    story(
        "a handler that raises",
        on_management(
            "POST /models?url=unimportable.mar&initial_workers=1",
            500,
            error(
                500,
                "InternalServerException",
                re.compile(
                    "Failed to start workers for model unimportable version: 1.0"
                    "(?s:: .*a_module_that_nobody_has.*)"
                ),
            ),
            title="a handler that cannot be imported",
            differs=Differs(
                "the user shall see what is wrong",
                told=(
                    "“Failed to start workers for model m version: 1.0: ” and the cause",
                    "“Failed to start workers for model m version: 1.0”",
                ),
                body=error(
                    500,
                    "InternalServerException",
                    "Failed to start workers for model unimportable version: 1.0",
                ),
            ),
        ),
        on_management("GET /models/unimportable", 404, no_model("unimportable")),
    ),
    story(
        "a handler that raises RuntimeError",
        on_management(
            "POST /models?url=broken.mar&initial_workers=1",
            500,
            error(500, "InternalServerException", re.compile("Failed to start workers (?s:.*)")),
        ),
        on_management(
            "GET /models/broken",
            404,
            title="a model whose worker answered its first load with an error",
            differs=Differs("a failed registration changes nothing", status=200),
        ),
        on_management(
            "DELETE /models/broken",
            404,
            title="a model whose worker answered its first load with an error",
            differs=Differs("a failed registration changes nothing", status=200),
        ),
    ),
    story(
        "a handler that runs out of memory",
        on_management(
            "POST /models?url=hungry.mar&initial_workers=1",
            507,
            error(
                507,
                "InternalServerException",
                re.compile("Failed to start workers for model hungry version: 1.0(?s:.*)"),
            ),
        ),
        on_management(
            "DELETE /models/hungry", ANY
        ),  # whether TorchServe has it is a matter of luck
    ),
)
def test_a_model_that_cannot_load_is_not_registered(served, case):
    served.check(case)


# --- scale ---


@table(
    on_management("PUT /models/echo", 202, PROCESSING),
    on_management("PUT /models/echo/1.0?min_worker=1", 202, PROCESSING),
    on_management(SYNCHRONOUSLY, 200, {"status": "Workers scaled to 1 for model: echo"}),
    on_management(
        "PUT /models/echo/1.0?min_worker=1&synchronous=TRUE",
        200,
        {"status": "Workers scaled to 1 for model: echo, version: 1.0"},
    ),
    on_management(
        "PUT /models/echo?model_version=1.0&synchronous=true&number_gpu=x&timeout=-1",
        200,
        {"status": "Workers scaled to 1 for model: echo, version: 1.0"},
    ),
    on_management(
        "PUT /models/echo?min_worker=1&synchronous=true",
        200,
        {"status": "Workers scaled to 1 for model: echo"},
        title="a query beside a JSON body",
        sent={},
    ),
    on_management(
        "PUT /models/echo",
        200,
        {"status": "Workers scaled to 1 for model: echo"},
        title="parameters of PUT in a JSON body",
        sent={"min_worker": 1, "synchronous": True},
        differs=Differs(
            "the body is read, as that of POST; the query counts more",
            status=202,
            told=("are read", "are not read"),
        ),
    ),
    story(
        "to nothing and back",
        on_management(
            "PUT /models/echo?min_worker=0&synchronous=true",
            200,
            {"status": "Workers scaled to 0 for model: echo"},
        ),
        on_management(
            "GET /models/echo",
            200,
            [Subset(minWorkers=0, maxWorkers=0, workers=[])],
            within_s=10.0,
        ),
        Case(
            "POST /predictions/echo",
            503,
            error(
                503,
                "ServiceUnavailableException",
                re.compile('Model "echo" has no worker to serve inference request.(?s:.*)'),
            )
            | {"reason": "no_workers"},
            sent=b"x",
            differs=Differs(
                "programs can tell causes by one word; TorchServe's members are all there",
                body=error(
                    503,
                    "ServiceUnavailableException",
                    re.compile('Model "echo" has no worker to serve inference request.(?s:.*)'),
                ),
                told=(
                    "503 ServiceUnavailableException, and `reason`: no_workers",
                    "503 ServiceUnavailableException",
                ),
            ),
        ),
        on_management(SYNCHRONOUSLY, 200),
        Case("POST /predictions/echo", 200, Subset(body="x"), sent=b"x"),
    ),
    story(
        "between two bounds",
        on_management("PUT /models/echo?min_worker=3&synchronous=true", 200),
        on_management("PUT /models/echo?min_worker=1&max_worker=2&synchronous=true", 200),
        on_management(
            "GET /models/echo",
            200,
            [Subset(minWorkers=1, maxWorkers=2, workers=[ANY, ANY])],
            within_s=10.0,
        ),
        on_management(SYNCHRONOUSLY, 200),
        on_management("GET /models/echo", 200, [Subset(workers=[ANY])], within_s=10.0),
    ),
    on_management(
        "PUT /models/echo?max_worker=0", 400, bad("max_worker cannot be less than min_worker.")
    ),
    on_management(
        "PUT /models/echo?max_worker=-1", 400, bad("max_worker cannot be less than min_worker.")
    ),
    on_management("PUT /models/none", 404, no_model("none")),
    on_management("PUT /models/echo/9", 404, no_version("echo", "9")),
    on_management("PUT /models/echo?model_version=9", 404, no_version("echo", "9")),
    on_management("PUT /models/echo/set-default", 404, no_version("echo", "set-default")),
    lenient(
        "PUT /models/echo?min_worker=x", "Parameter min_worker must be a whole number.", status=202
    ),
    lenient(
        "PUT /models/echo?synchronous=yes",
        "Parameter synchronous must be true or false.",
        status=202,
    ),
    on_management(
        "PUT /models/echo?min_worker=-1",
        400,
        bad("Parameter min_worker must be at least 0, not -1."),
        after=(SYNCHRONOUSLY,),
        differs=Differs(
            "a mistake of the client's is a 400, and stops no worker",
            status=500,
            body=error(500, "IndexOutOfBoundsException", ANY),
        ),
    ),
)
def test_a_scaling_is_answered(served, case):
    served.check(case)


# --- describe and list ---


ECHO = Subset(
    modelName="echo",
    modelVersion="1.0",
    modelUrl="echo.mar",
    runtime="python",
    minWorkers=1,
    maxWorkers=1,
    batchSize=1,
    maxBatchDelay=100,
    responseTimeout=120,
    startupTimeout=120,
    maxRetryTimeoutInSec=300,
    clientTimeoutInMills=0,
    parallelType="",
    parallelLevel=0,
    deviceType="cpu",
    continuousBatching=False,
    useJobTicket=False,
    useVenv=False,
    stateful=False,
    sequenceMaxIdleMSec=0,
    sequenceTimeoutMSec=0,
    maxNumSequence=0,
    maxSequenceJobQueueSize=0,
    loadedAtStartup=False,
    workers=[
        Subset(
            id=re.compile("[0-9]{4,}"),
            startTime=re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"),
            status="READY",
            memoryUsage=int,
            pid=int,
            gpu=False,
            gpuUsage="N/A",
        )
    ],
    jobQueueStatus={"remainingCapacity": 100, "pendingRequests": 0},
)


@table(
    on_management("GET /models/echo", 200, [ECHO]),
    on_management("GET /models/echo/", 200, [ECHO]),
    on_management("GET /models/echo/1.0", 200, [ECHO]),
    on_management("GET /models/echo/1.0/", 200, [ECHO]),
    on_management(
        "GET /models/echo/2.0",
        200,
        re.compile(r'(?s)\[\n  \{\n    "modelName": "echo",\n.*\n    "workers": \[\],\n.*\]\n'),
        headers={"content-type": "application/json"},
    ),
    on_management(
        "GET /models/echo/all",
        200,
        [Subset(modelVersion="1.0"), Subset(modelVersion="2.0")],
    ),
    on_management("GET /models/echo/all?customized=true", 200, [ANY, ANY]),
    on_management("GET /models/none", 404, no_model("none")),
    on_management("GET /models/none/all", 404, no_model("none")),
    on_management("GET /models/echo/9", 404, no_version("echo", "9")),
    on_management(
        "GET /models//echo",
        404,
        NOT_FOUND,
        differs=Differs("there is no model without a name", body=no_model("")),
    ),
    on_management("GET /models/echo//1.0", 404, NOT_FOUND),
    on_management(
        "GET //models",
        200,
        Subset(models=ANY),
        differs=Differs(
            "a doubled slash at the beginning counts as one",
            status=404,
            told=("200", "404"),
        ),
    ),
    on_management(
        "GET /models/%zz",
        404,
        no_model("%zz"),
        differs=Differs(
            "a path is taken as it is where it cannot be decoded",
            status=403,
            body=error(403, "IllegalArgumentException", ANY),
        ),
    ),
    story(
        "pages of the list",
        on_management("POST /models?url=other.mar&model_name=a", 200),
        on_management("POST /models?url=other.mar&model_name=z", 200),
        on_management(
            "GET /models?limit=2",
            200,
            {
                "nextPageToken": "2",
                "models": [
                    {"modelName": "a", "modelUrl": "other.mar"},
                    {"modelName": "echo", "modelUrl": "echo.mar"},
                ],
            },
        ),
        on_management(
            "GET /models/?limit=2&next_page_token=2",
            200,
            {"models": [{"modelName": "z", "modelUrl": "other.mar"}]},
        ),
        on_management("GET /models?limit=3", 200, Subset(nextPageToken="3")),
        on_management("GET /models", 200, {"models": [ANY, ANY, ANY]}),
        on_management("GET /models?limit=101", 200, {"models": [ANY, ANY, ANY]}),
        on_management("GET /models?limit=0", 200, {"nextPageToken": "0", "models": []}),
        on_management("GET /models?next_page_token=7", 200, {"models": []}),
        on_management("DELETE /models/a", 200),
        on_management("DELETE /models/z", 200),
    ),
    lenient("GET /models?limit=x", "Parameter limit must be a whole number."),
    lenient("GET /models?limit=-1", "Parameter limit must be at least 0, not -1."),
    lenient(
        "GET /models?next_page_token=-1", "Parameter next_page_token must be at least 0, not -1."
    ),
    lenient("GET /models/echo?customized=yes", "Parameter customized must be true or false."),
)
def test_what_there_is_is_told(served, case):
    served.check(case)


@pytest.mark.differs(
    "`GET /models/{model_name}`",
    "has `state` and `lastError` of each version, `state`, `restarts` and `lastError` of each "
    "worker after TorchServe's fields",
    "has none of them",
    "one can see why a model does not serve",
)
def test_a_description_tells_more_at_its_end(served):
    [document] = served.call("GET /models/echo").json()
    if not served.is_torchserve:
        assert list(document)[-2:] == ["jobQueueStatus", "state"]
        assert list(document["workers"][0])[-2:] == ["state", "restarts"]
    else:
        assert list(document)[-1] == "jobQueueStatus"
        assert list(document["workers"][0])[-1] == "gpuUsage"


@table(
    story(
        "a handler that describes itself",
        on_management("POST /models?url=describing.mar&initial_workers=1", 200),
        on_management(
            "GET /models/describing?customized=True",
            200,
            [
                Subset(
                    jobQueueStatus=ANY,
                    customizedMetadata={"labels": ["cat", "dog"], "version": "1.0"},
                )
            ],
        ),
        on_management("GET /models/describing/1.0?customized=true", 200, [Subset(workers=[ANY])]),
        on_management("PUT /models/describing?min_worker=0&synchronous=true", 200),
        on_management(
            "GET /models/describing?customized=true",
            503,
            error(
                503,
                "ServiceUnavailableException",
                'Model "describing" has no worker to serve describe request. '
                "Please use scale workers API to add workers.",
            ),
        ),
        on_management("DELETE /models/describing", 200),
    ),
    on_management("GET /models/echo?customized=true", 200, [Subset(customizedMetadata=ANY)]),
    on_management("GET /models/none?customized=true", 404, no_model("none")),
    on_management("GET /models/echo/9?customized=true", 404, no_version("echo", "9")),
)
def test_a_handler_may_describe_itself(served, case):
    served.check(case)


# --- versions ---


@table(
    story(
        "another default version",
        on_management(
            "PUT /models/echo/2.0/set-default",
            200,
            {"status": 'Default version successfully updated for model "echo" to "2.0"'},
        ),
        on_management("GET /models/echo", 200, [Subset(modelVersion="2.0")]),
        on_management(
            "DELETE /models/echo",
            403,
            error(
                403,
                "InvalidModelVersionException",
                "Cannot remove default version for model echo",
            ),
        ),
        on_management("PUT /models/echo/1.0/set-default", 200),
        on_management("GET /models/echo", 200, [Subset(modelVersion="1.0")]),
    ),
    on_management("PUT /models/none/1.0/set-default", 404, no_model("none")),
    on_management(
        "PUT /models/echo/9/set-default",
        404,
        error(
            404,
            "ModelVersionNotFoundException",
            "Model version 9 does not exist for model echo",
        ),
    ),
    on_management("POST /models/echo/1.0/set-default", 405, NOT_ALLOWED),
    on_management(
        "GET /models/echo/2.0/set-default",
        405,
        NOT_ALLOWED,
        differs=Differs(
            "GET and DELETE of this path would act on the default version, whatever it names",
            status=200,
        ),
    ),
    on_management("GET /models/echo/1.0/foo", 404, NOT_FOUND),
    on_management(
        "DELETE /models/echo/1.0",
        403,
        error(403, "InvalidModelVersionException", "Cannot remove default version for model echo"),
    ),
    on_management("DELETE /models/none", 404, no_model("none")),
    on_management("DELETE /models/echo/9", 404, no_version("echo", "9")),
    story(
        "a version goes, its model stays",
        on_management("POST /models?url=echo3.mar", 200, without_workers("echo", "3.0")),
        on_management("DELETE /models/echo/3.0/", 200, {"status": 'Model "echo" unregistered'}),
        on_management("GET /models/echo/3.0", 404, no_version("echo", "3.0")),
        on_management("GET /models/echo/all", 200, [ANY, ANY]),
    ),
)
def test_versions_come_and_go(served, case):
    served.check(case)


@pytest.mark.differs(
    "requests that a model has taken when it is unregistered",
    "they are answered first",
    "they get no answer, or a 500",
    "nothing that was accepted is lost",
)
def test_what_was_taken_before_the_model_goes_is_answered(served, tmp_path):
    served.call("POST /models?url=other.mar&initial_workers=1")
    gate = tmp_path / "gate"
    case = Case("POST /predictions/other", 200, sent=str(gate).encode())
    replies: list[Response | None] = []
    patience_s = 3.0 if served.is_torchserve else 60.0
    client = threading.Thread(
        target=lambda: replies.append(ask(served.address("inference"), case, patience_s))
    )
    client.start()
    served.wait_until(gate.with_name("gate.started").exists)
    operator = threading.Thread(target=lambda: served.call("DELETE /models/other"))
    operator.start()
    served.wait_until(lambda: served.call("GET /models/other").status == 404)
    gate.touch()
    client.join(60)
    operator.join(60)
    [reply] = replies
    if served.is_torchserve:
        assert reply is None or reply.status == 500
    else:
        assert reply is not None
        assert (reply.status, reply.body) == (200, b"done")


# --- the port ---


@table(
    on_management("GET /v1/models/echo", 200, {"name": "echo", "ready": True}),
    on_management("GET /v1/models/echo/", 200, {"name": "echo", "ready": True}),
    on_management("GET /v1/models/none", 404, no_model("none")),
    on_management("DELETE /v1/models/echo", 405, NOT_ALLOWED),
    on_management("GET /v1/models", 404, NOT_FOUND),
    on_management("GET /v1/models/echo/1.0", 404, NOT_FOUND),
    on_management(
        "GET /v1/models/echo:predict",
        404,
        no_model("echo:predict"),
        differs=Differs("what follows the colon is no part of this path", status=200),
    ),
    *(
        on_management(request, 405, NOT_ALLOWED)
        for request in (
            *("PUT /models", "DELETE /models", "PATCH /models"),
            *("OPTIONS /models", "POST /models/echo", "POST /models/echo/1.0"),
            *("PATCH /models/echo", "GET /", "PUT /workflows", "DELETE /workflows"),
        )
    ),
    on_management("HEAD /models", 405, b""),
    *(
        on_management(request, 404, NOT_FOUND)
        for request in (
            *("GET /ping", "GET /metrics", "POST /predictions/echo", "GET /token?type=management"),
            *("GET /Models", "GET /nowhere", "GET /api-description/x"),
        )
    ),
    on_management("OPTIONS /", 200, Subset(openapi="3.0.1", paths=ANY)),
    on_management("GET /api-description", 200, Subset(openapi="3.0.1", paths=ANY)),
    on_management("GET /api-description/", 200, Subset(openapi="3.0.1", paths=ANY)),
    on_management(
        "POST /api-description",
        405,
        NOT_ALLOWED,
        differs=Differs("a question is asked with GET", status=200),
    ),
    on_management("OPTIONS /models/echo", 200, Subset(openapi="3.0.1", paths=ANY)),
    on_management("OPTIONS /models/echo/2.0", 200, Subset(openapi="3.0.1", paths=ANY)),
    on_management("OPTIONS /models/none", 404, no_model("none")),
    on_management("OPTIONS /models/echo/9", 404, no_version("echo", "9")),
    *(
        on_management(
            request,
            status,
            headers={
                "content-type": "application/json",
                "x-request-id": UUID4,
                "Pragma": "no-cache",
                "Cache-Control": "no-cache; no-store, must-revalidate, private",
                "Expires": "Thu, 01 Jan 1970 00:00:00 UTC",
                "content-length": re.compile("[0-9]+"),
            },
            sent_headers={"x-request-id": "mine"},
            title=f"headers of a {status}",
        )
        for request, status in (("GET /models", 200), ("GET /models/none", 404))
    ),
    on_management(
        "GET /models/none",
        404,
        headers={"connection": None},
        title="whether a connection of the management port stays open after an error",
        differs=Differs(
            "it can be used again",
            headers={"connection": "close"},
            told=("it does", "it is closed"),
        ),
    ),
    on_management("garbage", 400, bad("Invalid HTTP message."), raw=b"garbage\r\n\r\n"),
)
def test_the_port_knows_its_paths_and_methods(served, case):
    served.check(case)


@pytest.mark.differs(
    "the descriptions of the APIs (`OPTIONS /`, `/api-description`)",
    "name the defaults that hold and every path that is served; operation ids are TorchServe's "
    "where it has one for the operation",
    "names wrong defaults (response_timeout 2, synchronous false), and `/prediction/…`",
    "clients are generated from them",
)
def test_the_description_names_the_defaults(served):
    operation = served.call("OPTIONS /").json()["paths"]["/models"]["post"]
    assert operation["operationId"] == "registerModel"
    defaults = {one["name"]: one["schema"].get("default") for one in operation["parameters"]}
    if served.is_torchserve:
        assert (defaults["response_timeout"], defaults["synchronous"]) == ("2", "false")
    else:
        assert (defaults["response_timeout"], defaults["synchronous"]) == (120, True)


def test_a_server_may_not_let_its_models_be_changed(make_target):
    served = make_target()
    served.pack("echo", "echo.py")
    served.start(enable_model_api="false", load_models="echo.mar")
    for case in (
        on_management("POST /models?url=echo.mar&model_name=x", 405, NOT_ALLOWED),
        on_management("DELETE /models/echo", 405, NOT_ALLOWED),
        on_management("DELETE /models/echo/1.0", 405, NOT_ALLOWED),
        on_management("GET /models/echo", 200, [Subset(loadedAtStartup=True)]),
        on_management(SYNCHRONOUSLY, 200, {"status": "Workers scaled to 1 for model: echo"}),
        on_management("PUT /models/echo/1.0/set-default", 200),
    ):
        served.check(case)
