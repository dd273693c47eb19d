"""F44: whatever a configuration says, it is taken or refused with sentences; nothing else happens.

There is no reload: what a server runs with is decided once, before anything is opened.
"""

from contextlib import suppress
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from marserve.config import Config, Loaded, build, load
from marserve.config_source import Source
from marserve.errors import ConfigInvalid
from marserve.settings import SETTINGS

HOME = {"HOME": "/home/me", "STORE": "/srv"}
CWD = Path("/work")

VALUES = st.one_of(
    st.text(max_size=40),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        [
            *("", "true", "FALSE", "all", "0", "-1", "1e9", "9" * 40, "$$STORE$$", "$$NOWHERE$$"),
            *("http://127.0.0.1:8080", "https://0.0.0.0:1", "http://[::1", "http://[::1]:99999"),
            *("unix:/run/a.sock", "unix:", "http://a.example:80", "127.0.0.1", "[::]", "localhost"),
            *("{", "{}", "[" * 5000, '{"a":' * 5000, '{"m": {"1.0": {"batchSize": 0}}}', "null"),
            *('{"m": {"1.0": {"marName": "../m.mar"}}}', '{"models": {"m": {"1": []}}}'),
            *("a.mar,b=c.mar", "m=http://a/m.mar", "(", "(?P<x", "a{99999999}", "https://.*", "."),
            *("\\u0041", "\\", "a\\\n b", "\x00", "\ud800", "é", "PKCS12", "prometheus", "*"),
        ]
    ),
)
LINES = st.one_of(
    st.tuples(st.sampled_from(sorted(SETTINGS)), VALUES).map("=".join),
    st.text(max_size=60),
)
TEXTS = st.lists(LINES, max_size=8).map("\n".join)


def outcome(text: str, overrides: dict[str, str], environ: dict[str, str]) -> Loaded | str:
    try:
        return build(Source(text=text), overrides, environ, CWD)
    except ConfigInvalid as error:
        return error.message


@given(TEXTS, st.dictionaries(st.sampled_from(sorted(SETTINGS)), VALUES, max_size=2))
@example("load_models=" + "a.mar," * 1000, {})
@example("models=" + '{"a":' * 100_000, {})
@example("allowed_urls=" + "(a|b)" * 60, {})
@example("disable_token_authorization=true\ntoken_for_metrics=true", {})
@settings(max_examples=400, deadline=None)
def test_a_configuration_is_taken_or_refused_in_words(text, overrides):
    found = outcome(text, overrides, HOME)
    if isinstance(found, str):
        assert found
        return
    assert isinstance(found.config, Config)
    assert all(isinstance(warning, str) for warning in found.warnings)
    assert outcome(text, overrides, HOME) == found  # it depends on nothing else


@given(st.sampled_from(sorted(SETTINGS)), VALUES)
@settings(max_examples=200, deadline=None)
def test_so_is_the_environment(key, value):
    environ = HOME | {f"TS_{key.upper()}": value}
    found = outcome("enable_envvars_config=true", {}, environ)
    assert isinstance(found, str | Loaded)


@given(st.binary(max_size=300))
@example(b"\xef\xbb\xbfbatch_size=1")
@example(b"\xff\xfe\x00")
@settings(max_examples=200, deadline=None)
def test_so_is_a_file_of_any_bytes(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "config.properties"
    file.write_bytes(content)
    with suppress(ConfigInvalid):
        assert isinstance(load(file, {}, HOME, CWD).config, Config)
