import hashlib
import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marserve_archiver.errors import Malformed
from marserve_archiver.sealed_file import SealedFile

MIB = 1024 * 1024


@given(st.binary(max_size=300), st.integers(-5, 310), st.integers(-1, 310))
def test_it_reads_as_the_file_itself_does(content, offset, size_bytes):
    sealed = SealedFile(io.BytesIO(content))
    assert sealed.digest == hashlib.sha256(content).hexdigest()
    assert sealed.seek(max(0, offset)) == max(0, offset)
    assert sealed.read(size_bytes) == io.BytesIO(content[max(0, offset) :]).read(size_bytes)


def test_pieces_meet_without_a_seam():
    content = os.urandom(3 * MIB + 17)
    sealed = SealedFile(io.BytesIO(content))
    assert sealed.seek(-(2 * MIB), os.SEEK_END) == MIB + 17
    assert sealed.read() == content[MIB + 17 :]
    sealed.seek(MIB - 1)
    assert sealed.read(2) == content[MIB - 1 : MIB + 1]
    assert sealed.tell() == MIB + 1


@pytest.mark.parametrize("at", [0, 100, MIB - 1, MIB, 2 * MIB + 16])
def test_a_byte_that_changed_since_is_never_read(at):
    content = bytearray(os.urandom(2 * MIB + 17))
    file = io.BytesIO(content)
    sealed = SealedFile(file)
    file.getbuffer()[at] ^= 1
    sealed.seek(at // MIB * MIB)
    with pytest.raises(Malformed) as caught:
        sealed.read(1)
    assert caught.value.reason == "changed"


def test_a_file_that_became_shorter_is_noticed():
    file = io.BytesIO(bytes(100))
    sealed = SealedFile(file)
    file.truncate(50)
    sealed.seek(0)
    with pytest.raises(Malformed):
        sealed.read(10)


def test_what_was_added_since_does_not_exist(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"first")
    with path.open("rb") as file:
        sealed = SealedFile(file)
        with path.open("ab") as more:
            more.write(b"second")
        sealed.seek(0)
        assert sealed.read() == b"first"
