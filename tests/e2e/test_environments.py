"""The packages that a model brings: installed from its own requirements, for it alone."""

import zipfile

import pytest

HANDLER = """\
import sys

import tiny_package


def handle(data, context):
    if data is None:
        return None
    return [f"{tiny_package.__version__} {sys.prefix != sys.base_prefix} {sys.executable}"]
"""

PROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """\
import os

with open({seen!r}, "w") as file:
    file.write("\\n".join(os.environ))
"""


def wheel(folder, version):
    """A wheel of a package of one line, so that nothing has to come from anywhere."""
    path = folder / f"tiny_package-{version}-py3-none-any.whl"
    info = f"tiny_package-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_package.py", f"__version__ = {version!r}\n")
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-package\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(
            f"{info}/RECORD",
            f"tiny_package.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
        )
    return path


def pack(server, name, version, *, use_venv=False, requirement=None):
    folder = server.root / f"{name}-files"
    folder.mkdir()
    handler = folder / f"{name}_handler.py"
    handler.write_text(HANDLER)
    requirements = folder / "requirements.txt"
    requirements.write_text(requirement or f"{wheel(folder, version)}\n")
    config = folder / "model-config.yaml"
    config.write_text(f"useVenv: {str(use_venv).lower()}\n")
    server.pack(name, str(handler), requirements_file=str(requirements), config_file=str(config))


def test_two_models_have_two_versions_of_one_package_at_the_same_time(server):
    pack(server, "old", "1.0")
    pack(server, "new", "2.0")

    server.start(load_models="old.mar,new.mar", install_py_dep_per_model="true")

    assert server.problems == []
    assert server.predict("old").body.startswith(b"1.0 ")
    assert server.predict("new").body.startswith(b"2.0 ")


def test_a_model_may_have_a_virtual_environment_that_sees_the_server_s_packages(server):
    pack(server, "own", "3.0", use_venv=True)

    server.start(load_models="own.mar", install_py_dep_per_model="true")

    assert server.problems == []
    version, is_venv, python = server.predict("own").body.decode().split()
    assert (version, is_venv) == ("3.0", "True")
    assert python.startswith(str(server.root / "cache"))


def test_what_was_installed_is_not_installed_again(server):
    pack(server, "own", "3.0")
    server.start(load_models="own.mar", install_py_dep_per_model="true")
    server.stop()
    (server.root / "own-files" / "tiny_package-3.0-py3-none-any.whl").unlink()

    server.start(install_py_dep_per_model="true")

    assert server.predict("own").body.startswith(b"3.0 ")


def test_requirements_are_not_installed_unless_the_operator_says_so(server):
    pack(server, "own", "3.0")

    server.start(load_models="own.mar")

    [problem] = server.problems
    assert "tiny_package" in problem
    assert "which is not installed: install_py_dep_per_model is false" in server.output() + "".join(
        path.read_text() for path in (server.root / "logs").glob("*.log")
    )


def test_code_that_an_archive_has_pip_run_is_handed_no_secret_of_the_server(server, monkeypatch):
    """SEC-32: a package in the archive is built by itself."""
    source, seen = server.root / "package.zip", server.root / "seen"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("package-1.0/pyproject.toml", PROJECT)
        archive.writestr("package-1.0/backend.py", BACKEND.format(seen=str(seen)))
    pack(server, "own", "3.0", requirement=f"{source}\n")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    server.start(install_py_dep_per_model="true")

    assert server.manage("POST", "/models?url=own.mar").status == 400  # it makes no package

    names = seen.read_text().split("\n")
    assert "PIP_INDEX_URL" in names
    assert "MARSERVE_SERVER" in names
    assert "AWS_SECRET_ACCESS_KEY" not in names


@pytest.mark.parametrize("use_venv", [False, True])
def test_what_cannot_be_installed_leaves_nothing_registered_and_says_why(server, use_venv):
    pack(server, "own", "3.0", use_venv=use_venv, requirement="./not-there.whl\n")
    server.start(install_py_dep_per_model="true")

    reply = server.manage("POST", "/models?url=own.mar&initial_workers=1")

    assert (reply.status, reply.json()["type"]) == (400, "ModelException")
    assert "Custom pip package installation failed for model own" in reply.json()["message"]
    assert "not-there.whl" in reply.json()["message"]
    assert server.manage("GET", "/models/own").status == 404
    assert not list((server.root / "cache").glob("*.packages")) + list(
        (server.root / "cache").glob("*.venv")
    )
