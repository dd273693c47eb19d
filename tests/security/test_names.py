"""SEC-05b, H-NAME: one rule for names of models and versions, and every entrance keeps it.

The rule is spelled out here once more, character by character. What a name means after exactly
one percent-decoding is what counts; a name that is not legal reaches nothing and changes nothing.
"""

import json
import string
from contextlib import suppress
from urllib.parse import quote

import grpc
import msgspec
import pytest
from forged_zip import Entry, build
from grpc_client import MANAGEMENT, Stub
from hypothesis import example, given, settings
from hypothesis import strategies as st
from running_server import Server, end

from marserve.config_models import LOAD_MODELS, MODELS
from marserve.config_snapshot import MODEL_SNAPSHOT
from marserve.errors import InvalidInput
from marserve.model_version import Settings
from marserve.protocols.pb.management_pb2 import RegisterModelRequest
from marserve.refs import checked_ref
from marserve.registry import checked_document, snapshot
from marserve.registry.checked_document import DocumentInvalid
from marserve.registry.wanted import WantedModel, WantedVersion
from marserve_archiver import Recipe, pack
from marserve_archiver.errors import InputInvalid
from marserve_archiver.manifest import Manifest, dump

LETTERS = set(string.ascii_letters + string.digits)


def is_legal(name: str, marks: str, most: int) -> bool:
    allowed = LETTERS | set(marks)
    return 0 < len(name) <= most and name[0] in LETTERS and allowed.issuperset(name)


def is_legal_name(name: str) -> bool:
    return is_legal(name, "._-", 128)


def is_legal_version(version: str) -> bool:
    return is_legal(version, "._-+", 64)


# --- every pure entrance, with any text ----------------------------------------------------------


def by_ref(name: str, version: str) -> None:
    checked_ref(name, version)


def by_models_property(name: str, version: str) -> None:
    MODELS.read(json.dumps({name: {version: {}}}), [])


def by_torchserves_snapshot(name: str, version: str) -> None:
    models = {name: {version: {"marName": "m.mar"}}}
    MODEL_SNAPSHOT.read(json.dumps({"modelCount": 1, "models": models}), [])


def by_our_own_state(name: str, version: str) -> None:
    wanted = {name: WantedModel(version, {version: WantedVersion("m.mar", Settings(1, 1))})}
    snapshot.load(checked_document.dump(wanted, snapshot.FORMAT, "models"))


ENTRANCES = (by_ref, by_models_property, by_torchserves_snapshot, by_our_own_state)
REFUSALS = (InvalidInput, ValueError, DocumentInvalid, msgspec.ValidationError)
ALMOST = st.text(st.sampled_from("aZ9._-+ /\\%:\n\0\u00e9\u0660\u212a"), max_size=12)
TEXTS = st.one_of(ALMOST, st.text(st.characters(exclude_categories=["Cs"]), max_size=8))


def accepts(entrance, name: str, version: str) -> bool:
    try:
        entrance(name, version)
    except REFUSALS:
        return False
    return True


@pytest.mark.parametrize("entrance", ENTRANCES)
@given(name=TEXTS, version=TEXTS)
@example("a" * 128, "1" * 64)
@example("a" * 129, "1")
@example("a", "1" * 65)
@example("a\n", "1")
@example("a", "1\n")
@example("\u0661", "1")
@settings(max_examples=150, deadline=None)
def test_all_entrances_agree_about_every_text(entrance, name, version):
    expected = is_legal_name(name) and is_legal_version(version)
    assert accepts(entrance, name, version) == expected


@given(TEXTS)
@settings(max_examples=150, deadline=None)
def test_a_name_before_an_archive_is_legal_or_refused(name):
    plain = name.strip()
    if any(mark in name for mark in ",=/#") or plain.lower() == "all":
        return  # these separate, or mean something else
    taken = None
    with suppress(ValueError):
        taken = LOAD_MODELS.read(f"{name}=x.mar", []).entries[0].name
    assert taken == (plain if is_legal_name(plain) else None)


@given(TEXTS, TEXTS)
@settings(max_examples=60, deadline=None)
def test_the_packer_packs_no_name_that_a_server_would_refuse(tmp_path_factory, name, version):
    folder = tmp_path_factory.mktemp("packed")
    packed = True
    try:
        pack(Recipe(name, version, "base_handler"), folder, "no-archive")
    except InputInvalid:
        packed = False
    assert packed == (is_legal_name(name) and is_legal_version(version))


# --- the entrances of a real server --------------------------------------------------------------

BAD_NAMES = [
    *("..", "../m", "m/..", "/m", "//m", "m/1.0", ".m", "-m", "_m", " m", "m ", " ..", ".. "),
    *("m\\n", "m\n", "m\r\nx: y", "m\0", "m\t", "m;n", "m|n", "$(m)", "`m`", "m'--", 'm"', "m*"),
    *("\u00e9", "\uff4d", "m\u200b", "%6d", "%2e%2e", "m#n", "m?n", "m&n", "m=n", "a" * 129, "m:1"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    one = Server(tmp_path_factory.mktemp("server"))
    one.pack("m", "version.py")
    one.start(load_models="m.mar")
    yield one
    end(one)


@pytest.fixture(scope="module")
def state(server):
    """What must not change."""

    def look():
        models = server.manage("GET", "/models").json()
        saved = json.loads((server.root / "logs/state/wanted.json").read_text())
        return models, saved, sorted(path.name for path in server.store.iterdir())

    return look


def registered(server: Server, **given: str) -> int:
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in given.items())
    return server.manage("POST", f"/models?{query}").status


def test_no_bad_name_comes_in_by_the_query_or_the_body(server, state):
    before = state()
    statuses = {}
    for name in BAD_NAMES:
        statuses[name] = {registered(server, url="m.mar", model_name=name)}
        body = json.dumps({"url": "m.mar", "model_name": name}).encode()
        headers = {"content-type": "application/json"}
        statuses[name].add(server.call("POST", "management", "/models", body, headers).status)
    assert statuses == {key: {400} for key in BAD_NAMES}
    assert state() == before


def test_no_bad_name_comes_in_by_grpc(server, state):
    before = state()
    codes = {}
    with grpc.insecure_channel("{}:{}".format(*server.address("grpc_management"))) as channel:
        stub = Stub(channel, MANAGEMENT)
        for name in BAD_NAMES:
            with pytest.raises(grpc.RpcError) as caught:
                stub.RegisterModel(RegisterModelRequest(url="m.mar", model_name=name))
            codes[name] = caught.value.code()
    assert set(codes.values()) == {grpc.StatusCode.INVALID_ARGUMENT}
    assert state() == before


@pytest.mark.parametrize("field", ["model_name", "model_version"])
def test_no_bad_name_comes_in_by_a_manifest(field, server, state):
    before = state()
    statuses = {}
    path = server.store / "bad.mar"
    for name in BAD_NAMES:
        facts = {"model_name": "n", "model_version": "1.0", "handler": "base_handler"}
        path.write_bytes(
            build(Entry(b"MAR-INF/MANIFEST.json", dump(Manifest(**facts | {field: name}))))
        )
        statuses[name] = registered(server, url="bad.mar")
    path.unlink()
    assert statuses == dict.fromkeys(BAD_NAMES, 400)
    assert state() == before


def test_no_bad_name_comes_in_by_a_workflow(server, state):
    before = state()
    spec = b"models:\n  node:\n    url: m.mar\ndag:\n  node: []\n"
    manifest = b'{"workflow": {"workflowName": "w", "specFile": "w.yaml"}}'
    path = server.store / "w.war"
    path.write_bytes(build(Entry(b"WAR-INF/MANIFEST.json", manifest), Entry(b"w.yaml", spec)))
    statuses = {}
    for name in BAD_NAMES:
        query = f"url=w.war&workflow_name={quote(name, safe='')}"
        statuses[name] = server.manage("POST", f"/workflows?{query}").status
    path.unlink()
    assert statuses == dict.fromkeys(BAD_NAMES, 400)
    assert state() == before
    assert server.manage("GET", "/workflows").json()["workflows"] == []


def test_no_bad_name_in_a_path_reaches_anything(server, state):
    before = state()
    statuses = {}
    for name in BAD_NAMES:
        part = quote(name, safe="")
        asked = [
            server.call("POST", "inference", f"/predictions/{part}", b"x"),
            server.call("POST", "inference", f"/predictions/m/{part}", b"x"),
            server.call("POST", "inference", f"/explanations/{part}", b"x"),
            server.call("GET", "inference", f"/v1/models/{part}"),
            server.call("POST", "inference", f"/v1/models/{part}:predict", b"{}"),
            *(server.manage(method, f"/models/{part}") for method in ("GET", "PUT", "DELETE")),
            server.manage("GET", f"/models/m/{part}"),
            server.manage("DELETE", f"/models/m/{part}"),
            server.manage("PUT", f"/models/m/{part}/set-default"),
            server.manage("DELETE", f"/workflows/{part}"),
        ]
        statuses[name] = sorted({reply.status for reply in asked} - {400, 404})
    assert statuses == {key: [] for key in statuses}
    assert state() == before


def test_a_slash_in_disguise_separates_nothing(server):
    for path in ("/models/m%2F1.0", "/models%2fm", "/models/m%2f1.0%2Fset-default"):
        assert [server.manage(method, path).status for method in ("GET", "PUT", "DELETE")] == [
            *(404, 404, 404),
        ]
    for path in ("/predictions/m%2F1.0", "/predictions%2fm", "/explanations/m%2F1.0"):
        assert server.call("POST", "inference", path, b"x").status == 404
    assert server.manage("GET", "/models/m?customized=a%2Fb").status == 400  # in a query it may be


def test_a_path_is_decoded_exactly_once(server):
    assert server.manage("GET", "/models/%6d").status == 200
    assert server.manage("GET", "/models/%256d").status == 404
    assert server.call("POST", "inference", "/predictions/%256d", b"x").status == 404
    assert server.call("POST", "inference", "/predictions/%6d", b"x").status == 200
