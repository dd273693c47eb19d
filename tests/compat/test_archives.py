"""Archives made for TorchServe are served, whatever their form; broken ones are refused."""

from __future__ import annotations

import json
import re
import subprocess
from functools import partial
from pathlib import Path

import pytest
from contract import ANY, Case, Differs, Subset, error, story, table
from targets import Target

from marserve_archiver.cli import main as archiver

on_management = partial(Case, port="management")

HANDLER = """
import os

def tell(data, context):
    if data is None:
        return None
    folder = context.system_properties["model_dir"]
    found = [
        os.path.relpath(os.path.join(path, name), folder)
        for path, _, names in os.walk(folder) if "__pycache__" not in path for name in names
    ]
    answer = {"name": context.model_name, "files": sorted(found), "manifest": context.manifest}
    return [answer] * len(data)

def handle(data, context):
    return tell(data, context)
"""
FILES = ["MAR-INF/MANIFEST.json", "a.txt", "h.py", "sub/b.txt"]


def manifest(model, **top):
    """A manifest as torch-model-archiver writes it: no newline at its end."""
    whole = {"createdOn": "22/11/2026 19:16:55", "runtime": "python", "model": model}
    whole |= {"archiverVersion": "0.12.0"} | top
    return json.dumps({key: value for key, value in whole.items() if value is not ...}, indent=2)


def members(name, folder="", **model):
    """The members of an archive, below `folder`."""
    told = {"modelName": name, "handler": "h.py", "modelVersion": "1.0"} | model
    told = {key: value for key, value in told.items() if value is not ...}
    files = {"a.txt": "a", "sub/b.txt": "b", "h.py": HANDLER}
    files["MAR-INF/MANIFEST.json"] = manifest(told)
    return {folder + name: content for name, content in files.items()}


def with_manifest(content, **files):
    return {"h.py": HANDLER, **files} | {"MAR-INF/MANIFEST.json": content}


def served_as(title, url, name, told=ANY, *, version="1.0", parameters=""):
    """The archive is registered with a worker, answers, and goes again."""
    target = f"POST /models?url={url}&initial_workers=1{parameters}"
    text = f'Model "{name}" Version: {version} registered with 1 initial workers'
    return story(
        title,
        on_management(target, 200, {"status": text}),
        Case(
            f"POST /predictions/{name}/{version}", 200, told, sent=b"x", content_type="text/plain"
        ),
        on_management(f"DELETE /models/{name}/{version}", 200),
    )


def refused(title, url, message, their_status, their_body=ANY, told=None, parameters="", kind=""):
    """Refused here with 400; TorchServe does something else."""
    why = "what is wrong with an archive is said, and nothing of it is kept"
    return on_management(
        f"POST /models?url={url}{parameters}",
        400,
        Subset(code=400, type=kind or "InvalidModelException", message=message),
        title=title,
        differs=Differs(why, status=their_status, body=their_body, told=told),
        after=(on_management("DELETE /models/odd", ANY),),  # where TorchServe has registered it
    )


@pytest.fixture(scope="module")
def served(target: Target) -> Target:
    put = target.archive
    put("plain.mar", members("plain"))
    put("stored.mar", members("stored"), "zip-store")
    put("tarred.tar.gz", members("tarred", folder="tarred/"), "tgz")
    put("folder", members("folder"), "directory")
    put("nested", members("nested", folder="inner/"), "directory")
    put("nameless.mar", members(...))
    put("bare.mar", {"h.py": HANDLER})
    put("unversioned.mar", members("unversioned", modelVersion=...))
    put("counted.mar", members("counted", modelVersion=2.0))
    put("entered.mar", members("entered", handler="h.py:tell"))
    put("spelt.mar", members("spelt", modelVersion="2024-05-01_rc.1"))
    model = {"modelName": "old", "handler": "h.py", "modelVersion": "1.0"}
    old = {"specificationVersion": "1.0", "implementationVersion": "1.0", "license": "Apache-2.0"}
    put("old.mar", with_manifest(manifest(model | {"description": "x"}, **old, createdOn=...)))
    other = {"modelName": "three", "handler": "h.py"}
    put("three.mar", with_manifest(manifest(other, runtime="python3")))
    put("silent.mar", with_manifest(json.dumps({"model": other | {"modelName": "silent"}})))
    # broken ones, all of them called odd
    odd = {"modelName": "odd", "handler": "h.py", "modelVersion": "1.0"}
    put("slip.mar", {"../../evil.txt": "x"} | members("odd"))
    put("slip.tar.gz", {"odd/../../evil.txt": "x"} | members("odd", folder="odd/"), "tgz")
    (target.store / "text.mar").write_text("this is no archive")
    (target.store / "empty.mar").write_bytes(b"")
    whole = (target.store / "plain.mar").read_bytes()
    (target.store / "cut.mar").write_bytes(whole[: len(whole) // 2])
    put("modelless.mar", with_manifest(json.dumps({"runtime": "python"})))
    put("nothing.mar", with_manifest(json.dumps({"model": None})))
    put("lsp.mar", with_manifest(manifest(odd, runtime="LSP")))
    put("runtime.mar", with_manifest(manifest(odd, runtime="ruby")))
    put("json.mar", with_manifest("{"))
    put("lost.mar", with_manifest(manifest(odd | {"handler": "lost.py"})))
    put("yaml.mar", with_manifest(manifest(odd | {"configFile": "c.yaml"}), **{"c.yaml": "a: [1"}))
    pack = target.root / "ours"
    pack.mkdir()
    (pack / "h.py").write_text(HANDLER)
    return target.start(default_workers_per_model=0, allowed_urls="https://models\\\\.example/.*")


@table(
    served_as("zip", "plain.mar", "plain", Subset(name="plain", files=FILES)),
    served_as("zip without compression", "stored.mar", "stored", Subset(files=FILES)),
    served_as("tar.gz with one folder at its top", "tarred.tar.gz", "tarred", Subset(files=FILES)),
    served_as("a folder", "folder", "folder", Subset(name="folder")),
    served_as(
        "a folder that holds nothing but a folder", "nested", "nested", Subset(name="nested")
    ),
    served_as("a path, of which the last part counts", "/any/where/plain.mar", "plain"),
    served_as(
        "a name that is given",
        "plain.mar",
        "mine",
        Subset(name="mine"),
        parameters="&model_name=mine",
    ),
    served_as("a name that only is given", "nameless.mar", "given", parameters="&model_name=given"),
    served_as("no manifest at all", "bare.mar", "bare", parameters="&model_name=bare&handler=h.py"),
    served_as("no version", "unversioned.mar", "unversioned"),
    served_as("a version that is a number", "counted.mar", "counted", version="2.0"),
    served_as("a version of letters and signs", "spelt.mar", "spelt", version="2024-05-01_rc.1"),
    served_as("an entry point of another name", "entered.mar", "entered"),
    served_as(
        "another handler than the manifest's",
        "plain.mar",
        "plain",
        parameters="&handler=h.py:tell",
    ),
    served_as(
        "keys of old archives",
        "old.mar",
        "old",
        Subset(
            manifest=Subset(
                model=Subset(modelName="old", description="x"),
                specificationVersion="1.0",
                license="Apache-2.0",
            )
        ),
    ),
    served_as("the runtime python3", "three.mar", "three"),
    served_as("neither date nor runtime nor archiver", "silent.mar", "silent"),
    on_management(
        "POST /models?url=yaml.mar",
        200,
        title="a model-config.yaml that is no YAML",
        after=("DELETE /models/odd",),
    ),
    on_management(
        "POST /models?url=nowhere.mar",
        404,
        error(404, "ModelNotFoundException", "Model not found at: nowhere.mar"),
    ),
    on_management(
        "POST /models?url=https://elsewhere.example/plain.mar",
        404,
        error(
            404,
            "ModelNotFoundException",
            "Given URL https://elsewhere.example/plain.mar does not match any allowed URL(s)",
        ),
    ),
    on_management(
        "POST /models?url=file:///etc/passwd",
        404,
        error(
            404,
            "ModelNotFoundException",
            "Given URL file:///etc/passwd does not match any allowed URL(s)",
        ),
    ),
    on_management(
        "POST /models?url=store/../plain.mar",
        404,
        error(
            404,
            "ModelNotFoundException",
            "Relative path is not allowed in url: store/../plain.mar",
        ),
    ),
    *(
        on_management(
            f"POST /models?url={url}",
            400,
            error(400, "InvalidModelException", "Model name is not defined."),
            title=title,
        )
        for title, url in (
            ("a manifest without a name", "nameless.mar"),
            ("no manifest and no name", "bare.mar"),
            ("a manifest without a model", "modelless.mar"),
        )
    ),
)
def test_what_the_archiver_writes_is_served(served, case):
    served.check(case)


@table(
    refused(
        "an archive with members that lead out of it",
        "slip.mar",
        re.compile("slip.mar is refused: .*evil.*"),
        500,
        error(500, "InternalServerException", "Failed to save model: slip.mar"),
    ),
    refused(
        "a tar.gz with members that lead out of it",
        "slip.tar.gz",
        re.compile("slip.tar.gz is refused: .*evil.*"),
        500,
        error(500, "InternalServerException", "Failed to save model: slip.tar.gz"),
    ),
    refused(
        "a `.mar` that is no zip archive",
        "text.mar",
        re.compile("text.mar is refused: .*"),
        200,
        told=("400", "an archive without files, which is registered"),
        parameters="&model_name=odd",
    ),
    refused(
        "an empty `.mar`",
        "empty.mar",
        re.compile("empty.mar is refused: .*"),
        200,
        told=("400", "an archive without files, which is registered"),
        parameters="&model_name=odd",
    ),
    refused(
        "half of a `.mar`",
        "cut.mar",
        re.compile("cut.mar is refused: .*"),
        200,
        told=("400", "an archive without files, which is registered"),
        parameters="&model_name=odd",
    ),
    refused(
        "a manifest whose model is null",
        "nothing.mar",
        re.compile("nothing.mar is refused: .*model.*"),
        500,
        error(500, "NullPointerException", ANY),
    ),
    refused(
        "a manifest with an unknown runtime",
        "runtime.mar",
        re.compile("runtime.mar is refused: .*ruby.*"),
        400,
        error(400, "InvalidModelException", "Runtime is not defined or invalid."),
    ),
    refused(
        "an archive for C++",
        "lsp.mar",
        re.compile(".*LSP.*"),
        200,
        told=("400", "registered"),
    ),
    refused(
        "a manifest that is no JSON",
        "json.mar",
        re.compile("json.mar is refused: .*JSON.*"),
        400,
        error(400, "InvalidModelException", "Failed to parse signature.json."),
    ),
    refused(
        "a manifest that names a handler file that is not there",
        "lost.mar",
        re.compile("lost.mar is refused: .*lost.py.*"),
        200,
        told=("400", "registered; no worker can start"),
    ),
    refused(
        "a name that no url can hold",
        "plain.mar",
        re.compile("Model name 'a/b' is not valid.*"),
        200,
        told=("400", "registered, and out of reach"),
        parameters="&model_name=a%2Fb",
        kind="BadRequestException",
    ),
)
def test_what_is_broken_is_refused_and_leaves_nothing(served, case):
    served.check(case)
    if not served.is_torchserve:
        assert served.call("GET /models").json() == {"models": []}
        assert list(served.root.parent.rglob("evil.txt")) == []


@pytest.mark.differs(
    "an archive in any folder of the machine, by its absolute path",
    "404: only what lies in the model store",
    "a folder is served",
    "who may register models may not run code from wherever a file can be put",
)
def test_a_folder_elsewhere_is_not_served(served):
    folder = served.root / "elsewhere"
    for name, content in members("elsewhere").items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    response = served.call(f"POST /models?url={folder}")
    if served.is_torchserve:
        assert response.status == 200
        served.call("DELETE /models/elsewhere")
    else:
        assert (response.status, response.json()["message"]) == (
            404,
            f"Model not found at: {folder}",
        )


FORMS = {
    "default": "packed.mar",
    "zip-store": "packed.mar",
    "tgz": "packed.tar.gz",
    "no-archive": "packed",
}


def arguments(folder: Path, form: str, export: Path) -> list[str]:
    """The same for torch-model-archiver and for ours."""
    (folder / "extra" / "sub").mkdir(parents=True, exist_ok=True)
    (folder / "extra" / "a.txt").write_text("a")
    (folder / "extra" / "sub" / "b.txt").write_text("b")
    (folder / "c.yaml").write_text("minWorkers: 1\nmaxWorkers: 1\n")
    (folder / "r.txt").write_text("")
    (folder / "h.py").write_text(HANDLER)
    (folder / "w.pt").write_bytes(b"weights")
    return [
        *("--model-name", "packed", "--version", "1.0", "--handler", str(folder / "h.py")),
        *("--serialized-file", str(folder / "w.pt"), "--config-file", str(folder / "c.yaml")),
        *("--requirements-file", str(folder / "r.txt"), "--extra-files", str(folder / "extra")),
        *("--archive-format", form, "--export-path", str(export), "--force"),
    ]


PACKED = Subset(
    name="packed",
    files=["MAR-INF/MANIFEST.json", "a.txt", "c.yaml", "h.py", "r.txt", "sub/b.txt", "w.pt"],
    manifest=Subset(
        model=Subset(
            modelName="packed",
            modelVersion="1.0",
        )
    ),
)


@pytest.mark.parametrize("form", FORMS)
def test_what_our_archiver_packs_is_served_by_both(served, tmp_path, form):
    assert archiver(arguments(tmp_path, form, served.store)) == 0
    served.check(served_as(form, FORMS[form], "packed", PACKED))


@pytest.mark.torchserve_only
@pytest.mark.parametrize("form", FORMS)
def test_what_torchserves_archiver_packs_is_served_by_us(torchserve_home, tmp_path, form):
    ours = Target(tmp_path / "ours")
    program = torchserve_home / "bin" / "torch-model-archiver"
    command = [program, *arguments(tmp_path, form, ours.store)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    try:
        ours.start(default_workers_per_model=0)
        ours.check(served_as(form, FORMS[form], "packed", PACKED))
    finally:
        ours.end()


NAMES = {
    "odd-name.v2.mar": "odd_name_v2",
    "a.b.tar.gz": "a_b_tar_gz",
    "old.model": "old",
    "fol-der": "fol_der",
}


def test_a_model_without_a_name_gets_that_of_its_file_at_the_start(make_target):
    target = make_target()
    for file_name in NAMES:
        is_tar = file_name.endswith((".tar.gz", ".model"))
        folder = "top/" if is_tar else ""
        form = "tgz" if is_tar else "zip" if file_name.endswith(".mar") else "directory"
        target.archive(file_name, members(..., folder=folder), form)
    target.start(load_models=",".join(NAMES))
    models = target.call("GET /models").json()["models"]
    assert {model["modelUrl"]: model["modelName"] for model in models} == NAMES
    target.check(Case("POST /predictions/odd_name_v2", 200, Subset(name="odd_name_v2")))
