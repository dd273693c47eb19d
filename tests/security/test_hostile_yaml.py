"""SEC-03: YAML of strangers builds no objects, runs nothing, takes next to no time or memory."""

import sys
import time
import tracemalloc

import pytest

from marserve.registry import model_config
from marserve.registry.yaml_document import MAX_ALIASES, MAX_DEPTH, YamlInvalid, read_yaml

MAX_ONE_S = 0.25
"""The worst, a thousand open brackets on one line, take a third of it: YAML looks so far ahead."""
MAX_MEMORY_MIB = 20
FORBIDDEN = ("import", "exec", "compile", "os.system", "os.exec", "subprocess.Popen", "open")


def laughs(levels: int, each: int) -> bytes:
    lines = [b"a0: &a0 [lol, lol]"]
    for level in range(1, levels):
        aliases = b", ".join([b"*a%d" % (level - 1)] * each)
        lines.append(b"a%d: &a%d [%s]" % (level, level, aliases))
    return b"\n".join(lines)


def merges(levels: int, each: int) -> bytes:
    lines = [b"a0: &a0 {k: 1}"]
    for level in range(1, levels):
        aliases = b", ".join([b"*a%d" % (level - 1)] * each)
        lines.append(b"a%d: &a%d {<<: [%s], k%d: 1}" % (level, level, aliases, level))
    return b"\n".join(lines)


REFUSED = {
    "apply": b"a: !!python/object/apply:os.system ['id']",
    "new": b"a: !!python/object/new:os.system [id]",
    "object": b"a: !!python/object:subprocess.Popen {args: id}",
    "name": b"a: !!python/name:os.system",
    "module": b"a: !!python/module:this",
    "tuple": b"a: !!python/tuple [1]",
    "a verbatim tag": b"a: !<tag:yaml.org,2002:python/object/apply:os.system> [id]",
    "a declared tag": b"%TAG !x! tag:yaml.org,2002:python/\n---\na: !x!object/apply:os.system [id]",
    "a tag of Java": b"a: !!javax.script.ScriptEngineManager [!!java.net.URL ['http://x']]",
    "a local tag": b"a: !ENV $HOME",
    "a set": b"a: !!set {x, y}",
    "pairs": b"a: !!omap [x: 1]",
    "binary": b"a: !!binary AAAA",
    "a thousand million laughs": laughs(12, 10),
    "merges of merges": merges(30, 10),
    "65 aliases": b"a: &a 1\nb: [%s]" % b", ".join([b"*a"] * (MAX_ALIASES + 1)),
    "33 levels": b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    "a hundred thousand levels": b"[" * 100_000,
    "a hundred thousand maps": b"{a: " * 50_000,
    "more than 256 KiB": b"a: " + b"x" * (1 << 18),
    "very many lines": b"\n" * 100_000,
    "a number of sixties": b"a: 1" + b":59" * 10_000,
    "a number without end": b"a: " + b"9" * 20_000,
    "a float of sixties": b"a: 1" + b":59" * 10_000 + b".5",
}
TAKEN = {
    "laughs that stay few": laughs(7, 10),
    "merges that stay few": merges(7, 10),
    "a list in itself": b"&a [*a, *a]",
    "64 aliases": b"a: &a 1\nb: [%s]" % b", ".join([b"*a"] * MAX_ALIASES),
    "32 levels": b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
    "tags of the core schema": b"a: !!str 1\nb: !!int '2'\nc: !!map {}\nd: !!seq []",
}


@pytest.fixture(scope="module")
def audited():
    """What the interpreter was asked to do while `watching` holds True."""
    seen: list[str] = []
    watching = [False]

    def hook(event: str, _: object) -> None:
        if watching[0] and event.startswith(FORBIDDEN):
            seen.append(event)

    sys.addaudithook(hook)
    return seen, watching


def read(text: bytes) -> bool:
    try:
        read_yaml(text)
    except YamlInvalid as error:
        return "\n" in str(error)  # one line
    return True


@pytest.mark.parametrize(
    ("text", "is_taken"),
    [pytest.param(text, False, id=name) for name, text in REFUSED.items()]
    + [pytest.param(text, True, id=name) for name, text in TAKEN.items()],
)
def test_a_hostile_document_is_refused_or_harmless(text, is_taken, audited):
    seen, watching = audited
    read(b"a: 1")  # what PyYAML does once it has done
    watching[0] = True
    try:
        assert read(text) == is_taken
    finally:
        watching[0] = False
    assert seen == []
    # measured by itself: the hook takes time
    assert cpu_s(text) < MAX_ONE_S or cpu_s(text) < MAX_ONE_S


@pytest.mark.parametrize(
    "text",
    [laughs(12, 10), merges(30, 10), laughs(7, 10), merges(7, 10), b"a: 1" + b":59" * 10_000],
    ids=["laughs", "merges", "few laughs", "few merges", "sixties"],
)
def test_no_document_takes_much_memory(text):
    tracemalloc.start()
    read(text)
    peak_mib = tracemalloc.get_traced_memory()[1] / (1 << 20)
    tracemalloc.stop()
    assert peak_mib < MAX_MEMORY_MIB


def cpu_s(text: bytes) -> float:
    began = time.process_time()
    read(text)
    return time.process_time() - began


def test_a_document_of_many_values_ends_at_the_limit():
    """It takes longer than the tricks, for it is read up to the limit, but not without end."""
    began = time.process_time()
    with pytest.raises(YamlInvalid, match="more than 20000 values"):
        read_yaml(b"[" + b"1," * 100_000 + b"]")
    assert time.process_time() - began < 8 * MAX_ONE_S


def test_a_refused_model_config_is_a_warning_and_no_setting():
    config, [warning] = model_config.parse(b"minWorkers: 3\nx: !!python/name:os.system")
    assert config == model_config.ModelConfig()
    assert "the tag 'tag:yaml.org,2002:python/name:os.system'" in warning
