"""The inference front: what reaches the data plane, and what goes back to clients."""

import logging

import pytest
from tests.harness import answers

from marserve.errors import (
    Bug,
    HandlerFailed,
    ModelNotFound,
    NoWorkers,
    QueueFull,
    TokenMissing,
    TokenRefused,
    WorkflowNotFound,
)
from marserve.events import Bus, HttpAnswered
from marserve.protocols.cors import Cors
from marserve.request import Answer
from marserve.servers.exchange import Exchange
from marserve.servers.inference import FrontOptions, InferenceFront
from marserve.servers.request_head import RequestHead
from marserve.servers.routes import Operation


class Connection:
    """Keeps what a client would get."""

    client = "1.2.3.4:5"
    is_secure = False

    def __init__(self):
        self.got = b""
        self.ended = None

    def answered(self, exchange, data, body=b""):
        self.got += data + body
        self.ended = "answered"

    def sent(self, exchange, data):
        self.got += data

    def cut(self, exchange):
        self.ended = "cut"


class Plane:
    """Takes every request and answers none by itself."""

    def __init__(self):
        self.jobs = []
        self.asked = []
        self.told = []
        self.error = None

    def start(self, job, name, version):
        if self.error is not None:
            raise self.error
        self.asked.append((name, version))
        self.jobs.append(job)

    def answered(self, answered):
        self.told.append(answered)

    @property
    def request(self):
        return self.jobs[-1].request


class About:
    def page(self, target):
        if target.operation is Operation.DESCRIBE_MODEL:
            raise ModelNotFound(target.name)
        return 200, {"page": target.operation.name}


class Workflows:
    def __init__(self):
        self.asked = []

    def predict(self, name, request, reply_to):
        if name == "nobody":
            raise WorkflowNotFound("Workflow not found: nobody")
        self.asked.append((name, request))
        self.reply_to = reply_to


class Desk:
    """A front, everything around it, and one client after the other."""

    def __init__(self, only_model=None, workflows=None, **options):
        self.plane = Plane()
        self.events = self.plane.told
        bus = Bus()
        bus.subscribe(HttpAnswered, self.events.append)
        self.front = InferenceFront(
            self.plane,
            About(),
            bus,
            lambda: 12.5,
            FrontOptions(1000, **options),
            lambda: only_model,
            workflows,
        )

    def ask(self, method, target, body=b"", *headers, takes_chunks=True, is_reframed=False):
        self.connection = Connection()
        head = RequestHead(method, target)
        head.headers = list(headers)
        head.takes_chunks = takes_chunks
        head.is_reframed = is_reframed
        exchange = Exchange(self.connection, head)
        exchange.is_head = method == b"HEAD"
        exchange.body = body
        exchange.received_at = 12.0
        self.exchange = exchange
        self.front.on_request(exchange)
        return self

    def reply(self, reply):
        self.plane.jobs[-1].resolve(reply)
        return self

    def stream(self, piece):
        self.plane.jobs[-1].stream(piece)
        return self

    @property
    def status(self):
        return int(self.connection.got.split()[1])

    @property
    def head(self):
        return self.connection.got.partition(b"\r\n\r\n")[0].decode().split("\r\n")

    @property
    def body(self):
        return self.connection.got.partition(b"\r\n\r\n")[2]

    @property
    def last_header(self):
        return self.head[-1]


JSON = (b"Content-Type", b"application/json")
FORM = (b"Content-Type", b"application/x-www-form-urlencoded")
PREDICT = (b"POST", b"/predictions/m")


# --- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "asked", "explain", "url_path", "query"),
    [
        (b"/predictions/m", ("m", None), False, "", []),
        (b"/predictions/m/1.0/a/b?x=1", ("m", "1.0"), False, "a/b", []),
        (b"/explanations/m", ("m", None), True, "", []),
        (b"/v1/models/m:predict", ("m", None), False, None, []),
        (b"/v2/models/m/explain", ("m", None), True, None, []),
        (b"/models/m/invoke?x=1", ("m", None), None, None, [("x", "", b"1")]),
        (b"/m/1.0/predict?x=1", ("m", "1.0"), None, None, [("x", "", b"1")]),
        (b"/invocations?model_name=m", ("m", None), None, None, [("model_name", "", b"m")]),
    ],
)
def test_each_route_shows_a_handler_what_torchserve_shows(target, asked, explain, url_path, query):
    desk = Desk()
    desk.ask(b"POST", target, b"{}", JSON)
    request = desk.plane.request

    assert desk.plane.asked == [asked]
    assert (request.explain, request.url_path) == (explain, url_path)
    assert request.parts == [*query, ("body", "application/json", b"{}")]


def test_a_handler_sees_headers_as_sent_less_those_about_transport():
    desk = Desk()
    desk.ask(*PREDICT, b"12", (b"X-Odd", b"V"), (b"Content-Length", b"2"))
    assert desk.plane.request.headers == [("X-Odd", "V"), ("Content-Length", "2")]

    desk.ask(*PREDICT, b"12", (b"X", b"V"), (b"Expect", b"100-continue"), is_reframed=True)
    assert desk.plane.request.headers == [("X", "V"), ("content-length", "2")]


@pytest.mark.parametrize(
    ("query", "only", "body", "name"),
    [
        (b"?model_name=a", "b", b"model_name=c", "a"),
        (b"", "b", b"model_name=c", "b"),
        (b"?x=1", None, b"model_name=c", "c"),
        (b"?model_name=", None, b"model_name=c", "c"),
    ],
)
def test_who_is_invoked_says_the_query_or_the_start_or_the_form(query, only, body, name):
    desk = Desk(only_model=only)
    desk.ask(b"POST", b"/invocations" + query, body, FORM)

    assert desk.plane.asked == [(name, None)]


@pytest.mark.parametrize("body", [b"", b"model_name", b"x=1"])
def test_an_invocation_of_nobody_is_refused(body):
    desk = Desk().ask(b"POST", b"/invocations", body, FORM)

    assert desk.status == 400
    assert b'"message": "Parameter model_name is required."' in desk.body


def test_a_request_that_is_not_taken_is_refused_with_the_reason():
    desk = Desk()
    desk.plane.error = QueueFull("m", 3, 7)
    desk.ask(*PREDICT)

    assert desk.status == 503
    assert "Retry-After: 7" in desk.head
    assert desk.last_header == "connection: keep-alive"  # a new one would cost more than this
    assert desk.events == [answers.one("m", None, 503, 0.5, "POST", "/predictions/m", "1.2.3.4:5")]


def test_a_client_that_goes_away_abandons_its_request():
    desk = Desk().ask(*PREDICT)
    desk.exchange.on_gone()

    assert not desk.plane.jobs[0].is_open


def test_a_body_that_curl_mislabelled_is_mentioned_once_for_each_model(caplog):
    desk = Desk()
    with caplog.at_level(logging.WARNING):
        for target in (b"/predictions/m", b"/predictions/m", b"/predictions/n"):
            desk.ask(b"POST", target, b'{"a": 1}', FORM)
        desk.ask(b"POST", b"/predictions/k", b"a=1", FORM)
        desk.plane.error = ModelNotFound("x")
        desk.ask(b"POST", b"/predictions/x", b"{}", FORM)

    assert [record.args for record in caplog.records] == [("m",), ("n",)]
    assert "Content-Type: application/json" in caplog.messages[0]


# --- answers --------------------------------------------------------------------------------------


def test_an_answer_goes_back_with_the_id_of_its_request():
    desk = Desk().ask(*PREDICT).reply(Answer(b"12345"))

    assert desk.head[:2] == ["HTTP/1.1 200 OK", f"x-request-id: {desk.plane.request.id}"]
    assert desk.head[-2:] == ["content-length: 5", "connection: keep-alive"]
    assert desk.body == b"12345"
    assert desk.events == [answers.one("m", None, 200, 0.5, "POST", "/predictions/m", "1.2.3.4:5")]


@pytest.mark.parametrize(("status", "connection"), [(299, "keep-alive"), (400, "close")])
def test_an_error_that_the_handler_chose_ends_the_connection(status, connection):
    desk = Desk().ask(*PREDICT).reply(Answer(b"1", status))

    assert (desk.status, desk.last_header) == (status, f"connection: {connection}")


def test_what_the_handler_set_and_http_cannot_carry_is_its_failure():
    desk = Desk().ask(*PREDICT).reply(Answer(b"1", headers=[("X", "a\r\nb: c")]))

    assert desk.status == 503
    assert b"b: c" not in desk.connection.got


@pytest.mark.parametrize(
    ("error", "status", "type_name"),
    [
        (HandlerFailed("odd", 418), 418, b"InternalServerException"),
        (NoWorkers("m", None), 503, b"ServiceUnavailableException"),
        (Bug("inner workings"), 500, b"InternalServerException"),
    ],
)
def test_an_error_goes_back_in_torchserves_form(error, status, type_name):
    desk = Desk().ask(*PREDICT).reply(error)

    assert desk.status == status
    assert type_name in desk.body
    assert b"inner workings" not in desk.body


@pytest.mark.parametrize(("status", "words"), [(413, b"1000 bytes"), (431, b"headers"), (400, b"")])
def test_what_was_no_request_is_refused(status, words):
    desk = Desk()
    connection = Connection()
    desk.front.on_refused(Exchange(connection, RequestHead(b"", b"")), status)

    assert connection.got.startswith(b"HTTP/1.1 %d " % status)
    assert words in connection.got


def test_pages_about_the_server_are_json():
    desk = Desk().ask(b"GET", b"/healthz/ready")

    assert desk.body == b'{\n  "page": "READY"\n}\n'
    assert desk.head[1] == "content-type: application/json"
    assert desk.events == [
        HttpAnswered("inference", "GET", "/healthz/ready", "1.2.3.4:5", 200, 0.5)
    ]


def test_a_page_about_nothing_is_an_error():
    assert Desk().ask(b"OPTIONS", b"/predictions/x").status == 404


# --- streams --------------------------------------------------------------------------------------


def test_the_first_piece_decides_status_and_headers_and_each_is_a_chunk():
    desk = Desk().ask(*PREDICT)
    desk.stream(Answer(b"one", 201, "Begun", [("ts_stream_next", "true"), ("X", "y")]))
    assert desk.head[:3] == ["HTTP/1.1 201 Begun", "ts_stream_next: true", "X: y"]
    assert desk.head[-2:] == ["transfer-encoding: chunked", "connection: keep-alive"]
    assert desk.body == b"3\r\none\r\n"

    desk.stream(Answer(b"two", 500, headers=[("late", "x")])).reply(Answer(b"end", 404))

    assert desk.body == b"3\r\none\r\n3\r\ntwo\r\n3\r\nend\r\n0\r\n\r\n"
    assert desk.connection.ended == "answered"
    assert [event.status for event in desk.events] == [201]


def test_an_empty_last_piece_adds_no_chunk():
    desk = Desk().ask(*PREDICT).stream(Answer(b"one")).stream(Answer(b"")).reply(Answer(b""))

    assert desk.body == b"3\r\none\r\n0\r\n\r\n"


def test_a_stream_for_http_1_0_has_no_chunks_and_ends_with_the_connection():
    desk = Desk().ask(*PREDICT, takes_chunks=False)
    desk.stream(Answer(b"one")).reply(Answer(b"two"))

    assert desk.last_header == "connection: close"
    assert b"chunked" not in desk.connection.got
    assert desk.body == b"onetwo"
    assert not desk.exchange.keep_alive


@pytest.mark.parametrize("method", [b"HEAD", b"POST"])
def test_a_stream_without_body_has_none(method):
    desk = Desk().ask(method, b"/predictions/m")
    desk.stream(Answer(b"one", 200 if method == b"HEAD" else 204)).reply(Answer(b"two"))

    assert desk.body == b""
    assert desk.connection.ended == "answered"


def test_an_error_after_a_piece_cuts_the_stream():
    desk = Desk().ask(*PREDICT).stream(Answer(b"one")).reply(HandlerFailed("broke"))

    assert desk.body == b"3\r\none\r\n"
    assert desk.connection.ended == "cut"
    assert [event.status for event in desk.events] == [503]


def test_a_first_piece_that_cannot_be_sent_is_the_handler_s_failure_and_ends_the_job():
    desk = Desk().ask(*PREDICT).stream(Answer(b"one", headers=[("a b", "c")]))

    assert desk.status == 503
    assert not desk.plane.jobs[0].is_open
    assert len(desk.events) == 1


def test_a_client_that_goes_away_in_the_middle_of_a_stream_abandons_it():
    desk = Desk().ask(*PREDICT).stream(Answer(b"one"))
    desk.exchange.on_gone()
    desk.stream(Answer(b"two")).reply(Answer(b"end"))

    assert desk.body == b"3\r\none\r\n"


# --- who may ask ----------------------------------------------------------------------------------


def only_with(token):
    def authorize(authorization):
        if authorization is None:
            raise TokenMissing("A token is needed.")
        if authorization != token:
            raise TokenRefused("Another token is needed.")

    return authorize


@pytest.mark.parametrize(
    ("headers", "status"),
    [((), 401), (((b"Authorization", b"Bearer y"),), 403), (((b"authorization", b"x"),), 404)],
)
@pytest.mark.parametrize("target", [b"/nowhere", b"/predictions"])
def test_a_token_is_asked_for_before_it_is_said_what_there_is(target, headers, status):
    desk = Desk(authorize=only_with("x")).ask(b"POST", target, b"", *headers)

    assert desk.status == status
    assert ("WWW-Authenticate: Bearer" in desk.head) is (status == 401)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        (b"OPTIONS", b"/", 200),
        (b"GET", b"/api-description", 200),
        (b"GET", b"/", 405),
        (b"GET", b"/ping", 401),
        (b"GET", b"/healthz/live", 401),
        (b"OPTIONS", b"/predictions/m", 401),
    ],
)
def test_the_description_needs_no_token_and_everything_else_does(method, target, status):
    assert Desk(authorize=only_with("x")).ask(method, target).status == status


# --- browsers -------------------------------------------------------------------------------------

PREFLIGHT = ((b"Origin", b"https://app"), (b"Access-Control-Request-Method", b"POST"))


def test_a_preflight_is_answered_without_token_or_model():
    cors = Cors("https://app", "GET, POST", "X-Custom")
    desk = Desk(cors=cors, authorize=only_with("x"))
    desk.ask(b"OPTIONS", b"/explanations/m", b"", *PREFLIGHT)

    assert desk.head[0] == "HTTP/1.1 204 No Content"
    assert desk.head[-4:] == [
        "access-control-allow-origin: https://app",
        "access-control-allow-methods: GET, POST",
        "access-control-allow-headers: X-Custom",
        "connection: keep-alive",
    ]
    assert desk.plane.asked == []


def test_without_configuration_a_preflight_is_nothing_special():
    assert Desk().ask(b"OPTIONS", b"/", b"", *PREFLIGHT).status == 200
    assert Desk().ask(b"OPTIONS", b"/explanations/m", b"", *PREFLIGHT).status == 404


def test_every_kind_of_answer_tells_browsers_who_may_read_it():
    desk = Desk(cors=Cors("*"))
    header = "access-control-allow-origin: *"

    assert header in desk.ask(b"GET", b"/nowhere").head
    assert header in desk.ask(b"GET", b"/ping").head
    assert header in desk.ask(*PREDICT).reply(Answer(b"1")).head
    assert header in desk.ask(*PREDICT).reply(Answer(b"1", 201)).head
    assert header in desk.ask(*PREDICT).stream(Answer(b"1")).head


# --- workflows ------------------------------------------------------------------------------------


def test_a_workflow_gets_the_request_and_its_answer_is_json_whatever_it_is():
    workflows = Workflows()
    desk = Desk(workflows=workflows).ask(b"PUT", b"/WFPREDICT/w?x=1", b"raw", (b"X", b"y"))
    workflows.reply_to(Answer(b"raw result"))

    [(name, request)] = workflows.asked
    assert (name, request.parts, request.headers) == ("w", [("body", "", b"raw")], [("X", "y")])
    assert (request.explain, request.url_path) == (None, None)
    assert desk.head[:2] == ["HTTP/1.1 200 OK", "content-type: application/json"]
    assert desk.body == b"raw result"
    assert [type(event) for event in desk.events] == [HttpAnswered]


def test_a_workflow_that_fails_says_so():
    workflows = Workflows()
    desk = Desk(workflows=workflows).ask(b"POST", b"/wfpredict/w")
    workflows.reply_to(HandlerFailed("no"))

    assert desk.status == 503


@pytest.mark.parametrize("workflows", [None, Workflows()])
def test_a_workflow_that_is_not_there_is_not_found(workflows):
    desk = Desk(workflows=workflows).ask(b"POST", b"/wfpredict/nobody")

    assert desk.status == 404
    assert b'"type": "WorkflowNotFoundException"' in desk.body
    assert b'"message": "Workflow not found: nobody"' in desk.body
