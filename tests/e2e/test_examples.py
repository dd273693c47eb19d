"""The examples, as their READMEs tell users to run them, and the demo."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CONFIG = """\
inference_address=http://127.0.0.1:0
management_address=http://127.0.0.1:0
metrics_address=http://127.0.0.1:0
grpc_inference_port=0
grpc_management_port=0
cache_dir=cache
default_workers_per_model=1
"""


class Reader:
    """Does what a README says, command by command, in a copy of its folder."""

    def __init__(self, example: str, folder: Path) -> None:
        self.folder = folder / example
        shutil.copytree(EXAMPLES / example, self.folder)
        (self.folder / "config.properties").write_text(CONFIG)
        block = re.search(r"```sh\n(.*?)```", (self.folder / "README.md").read_text(), re.DOTALL)
        assert block is not None
        joined = re.sub(r"\\\n\s*", " ", block[1])
        self.commands = [c.strip() for c in re.split(r"\n(?! )", joined) if c.strip()]
        site = self.folder / "site"
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(site),
        }

    def run(self) -> list[str]:
        """What each `curl` printed."""
        answers = []
        try:
            for command in self.commands:
                output = self._shell(command)
                if command.startswith("curl"):
                    answers.append(output)
        finally:
            self._shell("marserve stop")
        return answers

    def _shell(self, command: str) -> str:
        command = command.replace("pip install", "python -m pip install -q --target site")
        command = command.replace("curl ", "curl -sS ")
        run_file = self.folder / "logs" / "marserve.json"
        if run_file.exists():
            addresses = json.loads(run_file.read_text())["addresses"]
            command = command.replace("http://127.0.0.1:8080", addresses["inference"])
            command = command.replace("http://127.0.0.1:8081", addresses["management"])
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


def test_the_custom_image_handler_of_a_torchserve_user_runs_unchanged(tmp_path):
    answers = Reader("custom_image_handler", tmp_path).run()

    raw, form = (json.loads(answer) for answer in answers)
    assert raw == form
    assert set(raw) == {"class", "probability"}


def test_a_scikit_learn_model_needs_no_code(tmp_path):
    answers = Reader("sklearn_iris", tmp_path).run()

    assert json.loads(answers[0])["prediction"] == "setosa"
    assert len(json.loads(answers[1])["predictions"]) == 2


def test_a_third_party_package_brings_a_handler_through_the_same_door(tmp_path):
    answers = Reader("third_party_handler", tmp_path).run()

    assert answers == ["HELLO!!!"]


def test_a_workflow_of_two_branches_gives_one_answer(tmp_path):
    _, answer = Reader("workflow", tmp_path).run()

    assert json.loads(answer) == {"text": "HELLO YOU THREE", "words": 3}


def test_the_digits_are_recognised(tmp_path):
    reader = Reader("digits", tmp_path)

    first, second, numbers = (json.loads(answer) for answer in reader.run())

    labels = json.loads((reader.folder / "out" / "held_out" / "labels.json").read_text())
    assert [first["digit"], second["digit"]] == [labels["000.png"], labels["001.png"]]
    assert numbers["digit"] == 0


@pytest.mark.timeout(180)
def test_the_demo_trains_packs_serves_and_leaves_nothing_running(tmp_path):
    demo = [sys.executable, str(EXAMPLES / "digits" / "demo.py"), "--once", "--work", str(tmp_path)]

    first = subprocess.run(demo, capture_output=True, text=True, timeout=170)
    again = subprocess.run(demo, capture_output=True, text=True, timeout=60)

    assert (first.returncode, again.returncode) == (0, 0), first.stdout + first.stderr
    accuracy = re.search(r"accuracy\s+([\d.]+)", first.stdout)
    assert accuracy is not None
    assert float(accuracy[1]) >= 0.97
    for expected in ("p50", "p99", "ts_inference_requests_total", "curl http://127.0.0.1:"):
        assert expected in first.stdout
    assert "The model is trained already" in again.stdout
    assert not any(str(tmp_path) in " ".join(p.info["cmdline"] or []) for p in _processes())


def _processes():
    return psutil.process_iter(["cmdline"])
