"""Request ids are UUIDs of version 4, and no two are the same."""

import uuid

from marserve.servers.request_ids import RequestIds


def test_every_id_is_a_uuid4_as_the_standard_library_prints_it():
    ids = RequestIds()

    drawn = [ids.draw() for _ in range(2000)]

    assert [str(uuid.UUID(text)) for text in drawn] == drawn
    assert {uuid.UUID(text).version for text in drawn} == {4}
    assert {uuid.UUID(text).variant for text in drawn} == {uuid.RFC_4122}


def test_no_id_is_drawn_twice():
    ids, others = RequestIds(), RequestIds()

    drawn = [ids.draw() for _ in range(5000)] + [others.draw() for _ in range(5000)]

    assert len(set(drawn)) == 10_000
