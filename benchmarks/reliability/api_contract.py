"""API: what the ports describe is what they do.

    pip install schemathesis
    python benchmarks/reliability/api_contract.py --n 50000

Schemathesis makes requests of the documents that the inference, management and metrics ports serve
themselves, well-formed and not, alone and in chains. Each document is tried twice: as it stands,
and with names that exist in the place of invented ones. The bar is no status, no schema and no
content type that the document does not have, so no undeclared 5xx either.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(_ROOT / "tests" / "harness")]
sys.path[:0] = [str(_ROOT / name) for name in ("runtime", "archiver", "handlers")]

from budget import Budget  # noqa: E402  it lies beside this file
from running_server import Server, end  # noqa: E402  the path is set above
from standalone import standalone  # noqa: E402  as above

PORTS = ("inference", "management", "metrics")
CHECKS = "status_code_conformance,response_schema_conformance,content_type_conformance"
KNOWN: dict[str, list[Any]] = {
    "model_name": ["echo", "spare", "nobody"],
    "model_version": ["1.0", "2.0"],
    "workflow_name": ["flow"],
    "url": ["echo.mar", "spare.mar", "nothing.mar", "http://127.0.0.1:1/a.mar"],
    "handler": ["nothing.py"],
    # a wish for a million workers would be tried
    "min_worker": [0, 1, 2, -1],
    "max_worker": [0, 1, 2, -1],
    "initial_workers": [0, 1, -1],
}
_EACH_S = 0.006
_CASES = re.compile(r"(\d+) generated, (\d+) passed")


def seeded(document: dict[str, Any], always: bool) -> dict[str, Any]:
    """The document with values that exist; `always` False: only where others would do harm."""
    document = json.loads(json.dumps(document))
    for path in document["paths"].values():
        for operation in path.values():
            schemas = {p["name"]: p["schema"] for p in operation["parameters"]}
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for name, schema in (schemas | body.get("schema", {}).get("properties", {})).items():
                if name in KNOWN and (always or schema.get("type") == "integer"):
                    schema["enum"] = KNOWN[name]
                    schema.pop("default", None)
            for response in operation["responses"].values():
                if "*/*" in response.get("content", {}):  # a handler's, who may leave the type out
                    del response["content"]
    return document


def run_one(server: Server, port: str, document: dict[str, Any], examples: int, seed: int) -> Any:
    """How many requests were made of one document, whether all was well, and what was said."""
    host, number = server.address(port)
    file = server.root / f"{port}.json"
    file.write_text(json.dumps(document))
    beside = Path(sys.executable).with_name("schemathesis")
    tool = str(beside) if beside.exists() else shutil.which("schemathesis")
    assert tool, "schemathesis is not installed"
    done = subprocess.run(
        [
            *(tool, "run", str(file), "--url", f"http://{host}:{number}", "--checks", CHECKS),
            *("--max-examples", str(examples), "--seed", str(seed), "--no-color"),
            *("--continue-on-failure", "--request-timeout", "30", "--suppress-health-check", "all"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=server.root,
    )
    match = _CASES.search(done.stdout)
    made, passed = (int(match[1]), int(match[2])) if match else (0, 0)
    is_well = done.returncode == 0 and made == passed
    return made, is_well, done.stdout[-6000:] + done.stderr[-2000:]


def run(budget: Budget) -> dict[str, object]:
    """All documents, one after the other, as often as the budget says."""
    wanted = budget.trials(most=50_000, each_s=_EACH_S)
    made, wrong, rounds = 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        for name in ("echo", "spare"):
            server.pack(name, "echo.py")
        server.start(load_models="echo.mar", ts_open_inference_protocol="true")
        documents = {port: server.call("GET", port, "/api-description").json() for port in PORTS}
        try:
            while made < wanted and not (rounds and budget.is_over):
                examples = max(2, min(200, (wanted - made) // 120))
                for port, always in ((port, always) for port in PORTS for always in (False, True)):
                    document = seeded(documents[port], always)
                    count, is_well, said = run_one(
                        server, port, document, examples, budget.seed + rounds
                    )
                    made += count
                    if not is_well:
                        wrong += 1
                        print(said, flush=True)
                    print(f"  {port}: {made} requests so far", flush=True)
                rounds += 1
            assert server.call("GET", "inference", "/ping").status in (200, 500)
        finally:
            end(server)
    return {
        "property": "described APIs: answers that their documents do not have",
        "n": made,
        "bar": "0",
        "figure": f"{wrong} documents" if wrong else "0",
        "passed": made > 0 and wrong == 0,
        "notes": f"statuses, schemas and content types of {len(PORTS)} ports, {rounds} rounds",
        "failures": wrong,
        "unit": "request",
    }


if __name__ == "__main__":
    standalone(run)
