"""Reading workflow archives: which functions a handler has; what is refused, and how."""

import json

import pytest

from marserve.errors import ArchiveRefused, InvalidInput, WorkflowInvalid, WorkflowNotFound
from marserve.pipelines.archive import functions_of, read_archive
from marserve.protocols.workflows import WorkflowRegistration
from marserve.registry.store import ModelStore


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def a(d, c): pass\nasync def b(d, c): pass", {"a", "b"}),
        ("import x.y\nfrom z import q as a", {"x", "a"}),
        ("try:\n from z import a\nexcept ImportError:\n a = b = None", {"a", "b"}),
        ("def outer():\n  def inner(): pass", {"outer", "inner"}),
        ("a = lambda d, c: d", {"a"}),
        ("from z import *", None),
        ("class One:\n  def handle(self, d, c): pass", None),
        ("def __getattr__(name): pass", None),
        ("globals()['a'] = print", None),
        ("def a(:", None),
        ("a\0b", None),
        ("", set()),
    ],
)
def test_the_functions_of_a_handler_are_known_or_it_is_known_that_they_are_not(source, names):
    assert functions_of(source.encode()) == names


class Folder:
    def __init__(self, root):
        self.root = root
        self.store = ModelStore(root / "store", root / "cache")

    def write(self, **changes):
        document = {"workflow": {"workflowName": "w", "specFile": "s.yaml", "handler": "h.py"}}
        members = {
            "WAR-INF/MANIFEST.json": json.dumps(document),
            "s.yaml": "dag: {a: []}",
            "h.py": "def a(data, context): pass",
        }
        names = {"manifest": "WAR-INF/MANIFEST.json", "spec": "s.yaml", "handler": "h.py"}
        members |= {names[key]: content for key, content in changes.items()}
        for name, content in members.items():
            path = self.root / "store" / "flow.war" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is not None:
                path.write_text(content)

    def read(self, url="flow.war", name=None):
        return read_archive(self.store, WorkflowRegistration(url, name))


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def test_a_workflow_may_be_a_folder_in_the_store_and_may_get_another_name(folder):
    folder.write()
    archive = folder.read()
    assert (archive.name, archive.handler, archive.url) == ("w", "h.py", "flow.war")
    assert archive.specification.nodes["a"].url is None
    assert folder.read(name="other").name == "other"


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"manifest": None}, ArchiveRefused, "names no specFile"),
        ({"manifest": "{"}, ArchiveRefused, "not valid JSON"),
        ({"manifest": " " * 300_000}, WorkflowInvalid, "larger than"),
        ({"spec": None}, ArchiveRefused, "names specFile 's.yaml', which is not"),
        ({"handler": None}, ArchiveRefused, "names handler 'h.py', which is not"),
        ({"spec": "{"}, WorkflowInvalid, "Failed to parse yaml"),
        ({"spec": "#" * 300_000}, WorkflowInvalid, "larger than"),
        ({"spec": "dag: {b: []}"}, WorkflowInvalid, "the node 'b' is neither"),
        ({"manifest": '{"workflow": {"specFile": "s.yaml"}}'}, InvalidInput, "name is not defined"),
        (
            {"manifest": '{"workflow": {"workflowName": "w", "specFile": "s.yaml"}}'},
            WorkflowInvalid,
            "the node 'a' is neither",
        ),
    ],
)
def test_what_is_no_workflow_is_refused_with_its_cause(folder, changes, kind, message):
    folder.write(**changes)
    with pytest.raises(kind, match=message):
        folder.read()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("none.war", "Workflow not found in workflow store: none.war"),
        ("../x.war", "Relative path is not allowed in url: ../x.war"),
        ("https://example.org/x.war", "does not match any allowed URL"),
    ],
)
def test_what_is_not_in_the_store_is_not_found(folder, url, message):
    folder.write()
    with pytest.raises(WorkflowNotFound, match=message.replace(".", r"\.")):
        folder.read(url)


def test_without_a_store_nothing_is_found(tmp_path):
    with pytest.raises(WorkflowNotFound, match="Workflow store has not been configured"):
        read_archive(ModelStore(None, tmp_path / "cache"), WorkflowRegistration("x.war"))
