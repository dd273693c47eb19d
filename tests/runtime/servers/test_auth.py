import json
import re
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from marserve.errors import ConfigInvalid, StateNotSaved, TokenMissing, TokenRefused
from marserve.protocols.faults import fault
from marserve.servers.auth import Scope, Tokens, is_enforced

INFERENCE, MANAGEMENT = Scope.INFERENCE, Scope.MANAGEMENT
NOW_NS = 1_795_356_000_123_456_789  # 2026-11-22T14:00:00.123456789Z
STATIC = "a-static-key-of-an-operator"


class FakeClock:
    def __init__(self) -> None:
        self.ns = NOW_NS

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "key_file.json"


@pytest.fixture
def tokens(file, clock):
    tokens = Tokens(file, 3600.0, clock=clock)
    tokens.start()
    return tokens


def key(file, name: str) -> str:
    return json.loads(file.read_text())[name]["key"]


def bearer(file, name: str) -> str:
    return f"Bearer {key(file, name)}"


# --- the file --------------------------------------------------------------------------------


def test_the_key_file_has_torchserves_layout(file, tokens):
    pattern = re.compile(
        r"""\{
  "management": \{
    "key": "[\w-]{24}",
    "expiration time": "2026-11-22T15:00:00\.123456789Z"
  \},
  "inference": \{
    "key": "[\w-]{24}",
    "expiration time": "2026-11-22T15:00:00\.123456789Z"
  \},
  "API": \{
    "key": "[\w-]{24}"
  \}
\}"""
    )
    assert pattern.fullmatch(file.read_text())
    keys = {entry["key"] for entry in json.loads(file.read_text()).values()}
    assert len(keys) == 3


def test_only_its_owner_reads_the_key_file(file, tokens):
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["key_file.json"]


def test_a_file_that_everybody_reads_is_replaced_not_filled(file, clock, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("theirs")
    elsewhere.chmod(0o666)
    file.symlink_to(elsewhere)
    Tokens(file, 60.0, clock=clock).start()
    assert elsewhere.read_text() == "theirs"
    assert not file.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_each_start_draws_other_keys(file, clock, tokens):
    before = bearer(file, "inference")
    again = Tokens(file, 3600.0, clock=clock)
    again.start()
    with pytest.raises(TokenRefused):
        again.check(INFERENCE, before)
    again.check(INFERENCE, bearer(file, "inference"))


def test_keys_that_do_not_expire_have_no_expiration_time(file, clock):
    tokens = Tokens(file, None, clock=clock)
    tokens.start()
    clock.ns *= 2
    tokens.check(INFERENCE, bearer(file, "inference"))
    assert list(json.loads(file.read_text())["inference"]) == ["key"]


def test_stopping_removes_the_key_file(file, tokens):
    tokens.stop()
    assert not file.exists()
    tokens.stop()


def test_stopping_leaves_the_key_file_of_another_server(file, clock, tokens):
    other = Tokens(file, 3600.0, clock=clock)
    other.start()
    tokens.stop()
    other.check(MANAGEMENT, bearer(file, "management"))


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path, clock):
    tokens = Tokens(tmp_path / "gone" / "key_file.json", 60.0, clock=clock)
    with pytest.raises(ConfigInvalid, match=r"key_file\.json cannot be written: No such file"):
        tokens.start()


# --- checking --------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", list(Scope))
def test_the_key_of_a_scope_opens_it(scope, file, tokens):
    tokens.check(scope, bearer(file, scope.value))
    tokens.guard(scope)(bearer(file, scope.value))


@pytest.mark.parametrize(
    "form", ["Bearer {}", "Bearer   {}", "Bearer\t{}", "bearer {}", " Bearer {} "]
)
def test_forms_of_the_header_that_are_understood(form, file, tokens):
    tokens.check(INFERENCE, form.format(key(file, "inference")))


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "{}", "Basic {}", "Bearer{}", "Bearer {} x"]
)
def test_a_header_of_another_form_is_no_token(header, file, tokens):
    given = header and header.format(key(file, "inference"))
    with pytest.raises(TokenMissing) as caught:
        tokens.check(INFERENCE, given)
    assert str(caught.value) == (
        'Token Authorization failed. The inference key is needed, as "Authorization: Bearer KEY".'
    )
    assert fault(caught.value).status == 401


@pytest.mark.parametrize(
    ("scope", "name"),
    [
        (INFERENCE, "management"),
        (INFERENCE, "API"),
        (MANAGEMENT, "inference"),
        (MANAGEMENT, "API"),
    ],
)
def test_keys_are_not_interchangeable(scope, name, file, tokens):
    with pytest.raises(TokenRefused) as caught:
        tokens.check(scope, bearer(file, name))
    assert str(caught.value) == (
        f"Token Authorization failed. The key is not the {scope.value} key."
    )
    assert fault(caught.value).status == 403


@pytest.mark.parametrize("wrong", ["x", "é", "\udcff", "x" * 100_000])
def test_any_other_text_is_refused(wrong, tokens):
    with pytest.raises(TokenRefused):
        tokens.check(INFERENCE, f"Bearer {wrong}")


def test_a_key_is_good_until_it_expires(file, clock, tokens):
    clock.ns = NOW_NS + 3600 * 10**9 - 1
    tokens.check(INFERENCE, bearer(file, "inference"))
    clock.ns += 1
    with pytest.raises(TokenRefused, match="has expired; GET /token\\?type=inference"):
        tokens.check(INFERENCE, bearer(file, "inference"))
    with pytest.raises(TokenRefused, match="is not the inference key"):
        tokens.check(INFERENCE, "Bearer guessed")  # strangers do not learn when it expired


def test_refusals_look_like_torchserves_where_that_is_asked(file, clock):
    tokens = Tokens(file, 60.0, errors_as_400=True, clock=clock)
    tokens.start()
    text = "Token {} failed. Token either incorrect, expired, or not provided correctly"
    for call, header, action in (
        (tokens.check, None, "Authorization"),
        (tokens.check, "Bearer x", "Authorization"),
        (tokens.renew, None, "Authentication"),
        (tokens.renew, "Bearer x", "Authentication"),
    ):
        with pytest.raises((TokenMissing, TokenRefused)) as caught:
            call(INFERENCE, header)
        told = fault(caught.value)
        assert (told.status, told.type) == (400, "InvalidKeyException")
        assert told.message == text.format(action)


# --- renewing --------------------------------------------------------------------------------


def test_a_renewed_key_replaces_the_old_one_at_once(file, clock, tokens):
    old, other = bearer(file, "inference"), bearer(file, "management")
    api = bearer(file, "API")
    clock.ns += 3600 * 10**9  # the API key does not expire
    tokens.renew(INFERENCE, api)
    with pytest.raises(TokenRefused):
        tokens.check(INFERENCE, old)
    tokens.check(INFERENCE, bearer(file, "inference"))
    entries = json.loads(file.read_text())
    assert entries["inference"]["expiration time"] == "2026-11-22T16:00:00.123456789Z"
    assert (bearer(file, "management"), bearer(file, "API")) == (other, api)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("scope", "header", "message"),
    [
        (INFERENCE, None, 'The API key is needed, as "Authorization: Bearer KEY".'),
        (INFERENCE, "inference", "The key is not the API key."),
        (None, "inference", "The key is not the API key."),
        (None, "API", "The type must be inference or management."),
    ],
)
def test_renewal_is_refused_without_the_api_key_or_a_type(scope, header, message, file, tokens):
    before = file.read_text()
    with pytest.raises((TokenMissing, TokenRefused)) as caught:
        tokens.renew(scope, header and bearer(file, header))
    assert str(caught.value) == f"Token Authentication failed. {message}"
    assert file.read_text() == before


def test_a_renewal_that_cannot_be_written_changes_nothing(tmp_path, clock):
    folder = tmp_path / "run"
    folder.mkdir()
    file = folder / "key_file.json"
    tokens = Tokens(file, 60.0, clock=clock)
    tokens.start()
    inference, api = bearer(file, "inference"), bearer(file, "API")
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(StateNotSaved, match="The inference key is as before"):
        tokens.renew(INFERENCE, api)
    tokens.check(INFERENCE, inference)


def test_checks_and_renewals_from_many_threads_agree_with_the_file(file, tokens):
    api, gate = bearer(file, "API"), threading.Barrier(8)
    management = bearer(file, "management")

    def renew() -> None:
        gate.wait()
        for _ in range(5):
            tokens.renew(INFERENCE, api)
            tokens.check(MANAGEMENT, management)
            json.loads(file.read_text())  # complete at any moment

    with ThreadPoolExecutor(8) as threads:
        for future in [threads.submit(renew) for _ in range(8)]:
            future.result()
    tokens.check(INFERENCE, bearer(file, "inference"))


# --- static keys -----------------------------------------------------------------------------


def test_a_static_key_opens_its_scope_and_is_never_written(file, clock):
    tokens = Tokens(file, 60.0, static={INFERENCE: STATIC}, clock=clock)
    tokens.start()
    clock.ns *= 2
    tokens.check(INFERENCE, f"Bearer {STATIC}")
    assert STATIC not in file.read_text()
    assert list(json.loads(file.read_text())) == ["management", "API"]
    assert STATIC not in repr(vars(tokens))


def test_a_static_key_is_not_renewed(file, clock):
    tokens = Tokens(file, 60.0, static={INFERENCE: STATIC}, clock=clock)
    tokens.start()
    with pytest.raises(TokenRefused, match="The inference key is set in the configuration"):
        tokens.renew(INFERENCE, bearer(file, "API"))
    tokens.check(INFERENCE, f"Bearer {STATIC}")


@pytest.mark.parametrize("text", ["", "short", "x" * 15, "with a blank in it", "é" * 20, "x" * 513])
def test_a_weak_or_unsendable_static_key_is_refused_without_being_shown(text, file):
    with pytest.raises(ConfigInvalid) as caught:
        Tokens(file, 60.0, static={MANAGEMENT: text})
    assert "The static management key cannot be used" in str(caught.value)
    assert text == "" or text not in str(caught.value)


# --- where tokens are asked for --------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "only_this_machine", "enforced"),
    [
        (None, True, False),
        (None, False, True),
        (True, True, True),
        (True, False, True),
        (False, True, False),
        (False, False, False),
    ],
)
def test_ports_that_others_reach_ask_for_tokens_unless_told_otherwise(
    setting, only_this_machine, enforced
):
    assert is_enforced(setting, only_this_machine) is enforced


def test_the_operator_is_told_where_the_keys_are(file, tokens):
    first, second = tokens.announcement(True)
    assert first.startswith("Token authorization is on")
    assert second == f"Key file located at {file}"
    assert tokens.announcement(False)[0] != first


def test_a_successor_goes_on_with_the_keys_of_the_server_before_it(tmp_path):
    """F14: whoever holds a key need not hear of a restart."""
    former = Tokens(tmp_path / "one.json", 3600.0)
    successor = Tokens(tmp_path / "two.json", 3600.0)
    with pytest.raises(TokenRefused):
        successor.check(Scope.INFERENCE, f"Bearer {_key(former, 'inference')}")

    successor.adopt(former.document())

    assert successor.document() == former.document()  # with the time at which they expire
    for scope in Scope:
        successor.check(scope, f"Bearer {_key(former, scope.value)}")


def test_a_key_that_the_operator_has_set_anew_is_not_replaced_by_the_former_one(tmp_path):
    former = Tokens(tmp_path / "one.json", None)
    static = {Scope.INFERENCE: "x" * 32}
    successor = Tokens(tmp_path / "two.json", None, static=static)

    successor.adopt(former.document())

    successor.check(Scope.INFERENCE, f"Bearer {'x' * 32}")
    successor.check(Scope.MANAGEMENT, f"Bearer {_key(former, 'management')}")


def _key(tokens, name):
    return json.loads(tokens.document())[name]["key"]
