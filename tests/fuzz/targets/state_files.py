"""F-JRNL: any bytes in the files of the state, in SHA256SUMS and in a signature file."""

import contextlib

from marserve.model_version import Settings
from marserve.pipelines import wanted_workflows
from marserve.protocols.workflows import WorkflowRegistration
from marserve.refs import ModelRef, checked_ref
from marserve.registry import pins, snapshot
from marserve.registry.checked_document import DocumentInvalid
from marserve.registry.wanted import Wanted, WantedVersion
from marserve_archiver import signature
from marserve_archiver.errors import NotTrusted
from marserve_archiver.signature import Signature

_WANTED = Wanted().add(
    ModelRef("m", "1.0"), WantedVersion("m.mar", Settings(1, 2), sha256="a" * 64)
)

SEEDS = [
    snapshot.dump(_WANTED),
    snapshot.dump(Wanted()),
    wanted_workflows.dump({"w": WorkflowRegistration("w.war", "w")}),
    b'{"format": 1, "sha256": "", "models": {}}',
    b'{"format": 1, "models": {"m": {"default": "1", "versions": {}}}}',
    b"[" * 3000,
    b"a" * 64 + b"  m.mar\n# note\n" + b"b" * 64 + b" *./n.mar\r\n",
    b"SHA256 (m.mar) = " + b"c" * 64 + b"\n",
    signature.dump(Signature("a" * 64, "b" * 64, "2026-05-01T10:00:00Z", bytes(64))),
    b"",
]


def one_input(data: bytes) -> None:
    """Raises if a reader ends in anything but its own refusal, or takes what it did not write."""
    try:
        wanted = snapshot.load(data)
    except DocumentInvalid:
        pass
    else:
        assert snapshot.load(snapshot.dump(wanted)) == wanted
        for ref in wanted.refs():
            checked_ref(ref.name, ref.version)
    try:
        workflows = wanted_workflows.load(data)
    except DocumentInvalid:
        pass
    else:
        assert wanted_workflows.load(wanted_workflows.dump(workflows)) == workflows
    with contextlib.suppress(pins.PinsInvalid):
        assert all(len(digest) == 64 for digest in pins.parse(data).values())
    with contextlib.suppress(NotTrusted):
        assert len(signature.parse(data).signature) == 64
