"""F-ARC: any bytes are settings and warnings of one line, or a refusal of one line (SEC-03)."""

import contextlib

from marserve.errors import WorkflowInvalid
from marserve.pipelines import spec
from marserve.registry import model_config
from marserve.registry.yaml_document import YamlInvalid, read_yaml

SEEDS = [
    b"minWorkers: 1\nmaxWorkers: 2\nbatchSize: 8\ndeviceType: cpu\ndeviceIds: [0, 1]\n",
    b"torchrun:\n  nproc-per-node: 2\n  rdzv-backend: c10d\nparallelType: pp\n",
    b"models:\n  min-workers: 1\n  a:\n    url: a.mar\n  b:\n    url: b.mar\ndag:\n  a: [b]\n",
    b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n<<: {d: 1}\n",
    b"x: &x {batchSize: 7}\n<<: [*x, {batchSize: 8}]\n? [a]\n: b\n",
    b"a: !!python/object/apply:os.system [id]\n",
    b"a: !!int ''\nb: 1:2:3\nc: 2001-01-01\nd: .inf\ne: 0x_\nf: !!binary x\n",
    b"'': ''\n\"\\u0000\": |\n  x\n>-\n",
    b"&a [*a]",
    b"%YAML 1.1\n%TAG ! tag:x,2000:\n---\n!x y\n...\n",
    b"- " * 40,
    b"{" * 40,
]


def one_input(data: bytes) -> None:
    """Raises if anything but the two refusals comes out, or a message has more than one line."""
    with contextlib.suppress(YamlInvalid):
        read_yaml(data)
    _, warnings = model_config.parse(data)
    assert all("\n" not in warning for warning in warnings)
    with contextlib.suppress(WorkflowInvalid):
        spec.parse(data, None)
