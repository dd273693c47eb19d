import os
import sys
import textwrap

import pytest

from marserve_handlers.contract import Context
from marserve_handlers.entry_point import EntryPoint, load_entry_point
from marserve_handlers.errors import HandlerLoadFailed, HandlerNotFound


@pytest.fixture(autouse=True)
def imports_put_back():
    path, modules = list(sys.path), dict(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.modules.update(modules)


def write(model_dir, **files):
    for name, text in files.items():
        path = model_dir / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(textwrap.dedent(text))


def new_context(model_dir):
    return Context(model_name="m", manifest={}, model_dir=str(model_dir), batch_size=1, gpu=None)


def answer(handler, model_dir, rows=({"body": 1},), find_named=lambda name: None):
    entry = load_entry_point(handler, model_dir, find_named)
    context = new_context(model_dir)
    entry.initialize(context)
    context.begin_batch([str(i) for i in range(len(rows))], [{} for _ in rows])
    return entry.handle(list(rows), context)


CLASS = """
    class Handler:
        def initialize(self, context):
            self.word = context.model_name
        def handle(self, data, context):
            return [self.word for row in data]
    """
FUNCTION = """
    state = {}
    def handle(data, context):
        if data is None:
            state["word"] = context.model_name
            return None
        return [state["word"] for row in data]
    """


@pytest.mark.parametrize("source", [CLASS, FUNCTION], ids=["class", "function"])
@pytest.mark.parametrize("name", ["handler.py", "handler", "handler.py:handle", "sub/handler.py"])
def test_a_class_and_a_function_are_found_under_every_spelling(name, source, tmp_path):
    write(tmp_path, handler=source)
    assert answer(name, tmp_path, [{}, {}]) == ["m", "m"]


def test_a_named_function_is_taken_instead_of_handle(tmp_path):
    write(
        tmp_path,
        handler="""
        def handle(data, context): return ["handle"]
        def other(data, context): return ["other"]
        """,
    )
    assert answer("handler.py:other", tmp_path) == ["other"]
    assert answer("handler:handle", tmp_path) == ["handle"]


def test_a_named_class_is_taken_as_a_class(tmp_path):
    write(tmp_path, handler=CLASS + "\n    class Other(Handler): pass\n")
    assert answer("handler.py:Handler", tmp_path) == ["m"]


def test_a_file_in_a_folder_of_the_archive_finds_its_neighbours_and_the_root(tmp_path):
    write(
        tmp_path,
        pkg__deep="import beside, above\n" + textwrap.dedent(CLASS),
        pkg__beside="",
        above="",
    )
    assert answer("pkg/deep.py", tmp_path) == ["m"]


def test_the_model_directory_comes_after_the_standard_library_and_before_all_packages(tmp_path):
    """SEC-26: a model's statistics.py stands in for nothing, its flask.py does."""
    write(tmp_path, handler=FUNCTION)
    load_entry_point("handler", tmp_path, lambda name: None)
    place = sys.path.index(str(tmp_path))
    packages = [sys.path.index(entry) for entry in sys.path if entry.endswith("site-packages")]
    assert sys.path.index(os.path.dirname(os.__file__)) < place < min(packages)  # noqa: PTH120


@pytest.mark.parametrize("name", ["handlers", "runtime", "archiver", "utils"])
def test_a_users_module_may_have_any_name(name, tmp_path):
    write(
        tmp_path,
        **{
            name: "WORD = 'mine'",
            "handler": f"import {name}\ndef handle(data, context): return [{name}.WORD]",
        },
    )
    assert answer("handler", tmp_path) == ["mine"]


@pytest.mark.parametrize("name", ["queue", "ts", "marserve_handlers"])
def test_a_handler_file_replaces_no_module_of_ours_or_of_python(name, tmp_path):
    before = sys.modules.get(name)
    write(tmp_path, **{name: FUNCTION})
    assert answer(f"{name}.py", tmp_path) == ["m"]
    assert sys.modules.get(name) is before


def test_of_several_classes_the_one_that_handles_is_taken(tmp_path):
    write(tmp_path, handler=CLASS + "\n    class Settings: pass\n    class Cache: pass\n")
    assert answer("handler", tmp_path) == ["m"]


def test_an_imported_class_does_not_count(tmp_path):
    write(
        tmp_path,
        parent=CLASS,
        handler="from parent import Handler\nclass Mine(Handler): pass\n",
    )
    entry = load_entry_point("handler", tmp_path, lambda name: None)
    entry.initialize(new_context(tmp_path))
    assert entry.handle([{}], new_context(tmp_path)) == ["m"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1", "has no function handle(data, context) and defines no class"),
        (
            "class A:\n  def handle(self, d, c): ...\nclass B(A): ...",
            "defines 2 classes with a method handle (A, B)",
        ),
        ("class A: ...\nclass B: ...", "defines 2 classes without a method handle (A, B)"),
        ("class A: ...", "the class A has no method handle(self, data, context)"),
    ],
)
def test_a_file_without_one_clear_entry_point_is_refused(source, says, tmp_path):
    write(tmp_path, handler=source)
    with pytest.raises(HandlerLoadFailed) as caught:
        load_entry_point("handler", tmp_path, lambda name: None)
    assert says in str(caught.value)
    assert "handler.py" in str(caught.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"handler": "import os\n\nimport foo"},
            "the handler file handler.py could not be imported: "
            "ModuleNotFoundError: No module named 'foo' (handler.py, line 3); the package foo is "
            "not installed where the worker runs: list it in the archive's requirements file, or "
            "install it beside the server",
        ),
        (
            {"handler": "import helper", "helper": "\nimport foo.bar"},
            "the handler file handler.py could not be imported: "
            "ModuleNotFoundError: No module named 'foo' (helper.py, line 2); the package foo is "
            "not installed where the worker runs: list it in the archive's requirements file, or "
            "install it beside the server",
        ),
        (
            {"handler": "x = 1\nraise ValueError('broken')"},
            "the handler file handler.py could not be imported: "
            "ValueError: broken (handler.py, line 2)",
        ),
        (
            {"handler": "import sys\nsys.exit(3)"},
            "the handler file handler.py could not be imported: SystemExit: 3 (handler.py, line 2)",
        ),
    ],
)
def test_a_file_that_raises_surfaces_its_own_error_and_line(files, message, tmp_path):
    write(tmp_path, **files)
    with pytest.raises(HandlerLoadFailed) as caught:
        load_entry_point("handler.py", tmp_path, lambda name: pytest.fail("fell back"))
    assert str(caught.value) == message
    assert caught.value.__cause__ is not None


def test_a_syntax_error_says_its_line_and_leaves_no_module(tmp_path):
    write(tmp_path, broken_handler="def handle(:\n")
    with pytest.raises(HandlerLoadFailed, match=r"SyntaxError: .*broken_handler.py, line 1"):
        load_entry_point("broken_handler", tmp_path, lambda name: None)
    assert "broken_handler" not in sys.modules


def test_running_out_of_memory_at_import_is_not_wrapped(tmp_path):
    write(tmp_path, handler="raise MemoryError")
    with pytest.raises(MemoryError):
        load_entry_point("handler", tmp_path, lambda name: None)


def test_a_name_without_a_file_is_asked_for(tmp_path):
    asked = []

    def find_named(name):
        asked.append(name)
        return (lambda data, context: [name]) if name == "named" else None

    assert answer("named", tmp_path, find_named=find_named) == ["named"]
    assert answer("named.py", tmp_path, find_named=find_named) == ["named"]
    assert asked == ["named", "named.py", "named"]


def test_a_file_comes_before_an_installed_handler(tmp_path):
    write(tmp_path, echo=FUNCTION)
    assert answer("echo", tmp_path, find_named=lambda name: pytest.fail("asked")) == ["m"]


@pytest.mark.parametrize("handler", ["missing", "missing.py:f", "", "../outside", "/etc/x.py"])
def test_what_nobody_has_is_not_found(handler, tmp_path):
    (tmp_path / "outside.py").write_text("def handle(d, c): ...")
    model_dir = tmp_path / "model"
    model_dir.mkdir()
    with pytest.raises(HandlerNotFound, match="the archive holds no such file"):
        load_entry_point(handler, model_dir, lambda name: None)


def test_what_user_code_raises_passes_through():
    class Handler:
        def initialize(self, context):
            raise KeyError("load")

        def handle(self, data, context):
            raise KeyError("predict")

    entry = EntryPoint(Handler, "h")
    with pytest.raises(KeyError, match="load"):
        entry.initialize(new_context("."))
    Handler.initialize = lambda self, context: None
    entry.initialize(new_context("."))
    with pytest.raises(KeyError, match="predict"):
        entry.handle([], new_context("."))


def test_a_handler_without_initialize_works():
    class Handler:
        def handle(self, data, context):
            return ["ok"]

    entry = EntryPoint(Handler, "h")
    entry.initialize(new_context("."))
    assert entry.handle([{}], new_context(".")) == ["ok"]


@pytest.mark.parametrize(
    ("methods", "called"),
    [(("close",), ["close"]), (("unload",), ["unload"]), (("unload", "close"), ["close"])],
)
def test_close_calls_what_the_handler_has(methods, called):
    calls = []
    release = {name: lambda self, name=name: calls.append(name) for name in methods}
    handler = type("Handler", (), {"handle": lambda self, d, c: [], **release})
    entry = EntryPoint(handler, "h")
    entry.close()
    entry.initialize(new_context("."))
    entry.close()
    assert calls == called


def test_closing_a_function_does_nothing():
    entry = EntryPoint(lambda data, context: None, "f")
    entry.initialize(new_context("."))
    entry.close()


def test_neither_class_nor_function_is_refused():
    with pytest.raises(HandlerLoadFailed, match="x is a int; a handler is a class or a function"):
        EntryPoint(3, "x")


@pytest.mark.parametrize(
    ("source", "is_async"),
    [
        ("async def handle(data, context): ...", True),
        ("class A:\n  async def handle(self, data, context): ...", True),
        ("def handle(data, context): ...", False),
        ("class A:\n  def handle(self, data, context): ...", False),
    ],
)
def test_it_is_known_whether_the_result_must_be_awaited(source, is_async, tmp_path):
    write(tmp_path, handler=source)
    assert load_entry_point("handler", tmp_path, lambda name: None).is_async is is_async


def test_initialize_may_put_something_else_in_the_place_of_handle():
    class Handler:
        def initialize(self, context):
            self.handle = lambda data, context: ["replaced"]

        def handle(self, data, context):
            return ["original"]

    entry = EntryPoint(Handler, "h")
    entry.initialize(new_context("."))
    assert entry.handle([{}], new_context(".")) == ["replaced"]


@pytest.mark.parametrize(
    "handler", ["shipped.py", "shipped", "kit/shipped.py:other", "kit/shipped"]
)
def test_a_module_of_an_installed_package_is_found_after_everything_else(
    handler, tmp_path, monkeypatch
):
    site, model_dir = tmp_path / "site", tmp_path / "model"
    model_dir.mkdir()
    source = CLASS + "\n    def other(data, context): return ['other']\n"
    write(site, shipped=CLASS, kit__shipped=source)
    monkeypatch.syspath_prepend(site)
    expected = ["other"] if handler.endswith(":other") else ["m"]
    assert answer(handler, model_dir) == expected
    named = answer(handler, model_dir, find_named=lambda name: lambda data, context: ["named"])
    assert named == ["named"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "import foo",
            "the handler shipped could not be imported: ModuleNotFoundError: .*foo is not",
        ),
        ("raise KeyError('x')", "the handler shipped could not be imported: KeyError: 'x'$"),
        ("x = 1", "has no function handle"),
    ],
)
def test_a_module_of_a_package_that_cannot_be_used_says_why(source, says, tmp_path, monkeypatch):
    site, model_dir = tmp_path / "site", tmp_path / "model"
    model_dir.mkdir()
    write(site, shipped=source)
    monkeypatch.syspath_prepend(site)
    with pytest.raises(HandlerLoadFailed, match=says):
        load_entry_point("shipped", model_dir, lambda name: None)


@pytest.mark.parametrize("handler", ["json", "os.py", "ts", "kit", "kit/nothing.py", "a-b.py"])
def test_pythons_own_modules_and_folders_are_no_handlers(handler, tmp_path, monkeypatch):
    (tmp_path / "kit").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(HandlerNotFound):
        load_entry_point(handler, tmp_path / "model", lambda name: None)
