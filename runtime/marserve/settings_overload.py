"""The settings that say what happens when there are more requests than can be served. Data."""

from __future__ import annotations

from marserve.config_values import (
    OPTIONAL_BOOLEAN,
    choice,
    optional_whole_number,
    whole_number,
)
from marserve.setting import Setting

OVERLOAD = (
    Setting(
        "min_available_memory",
        optional_whole_number(0, 2**53),
        "",
        "With less memory left on the machine, or in its cgroup, new requests are refused with "
        "507, so that those that run can end. 0 switches this off.",
        "min_available_bytes",
        unit="bytes",
        example="268435456",
        default_note="a hundredth of all memory, at least 32 MiB",
    ),
    Setting(
        "client_requests_per_second",
        whole_number(0),
        "0",
        "How many requests one client may send to all models together; what is more gets 429. A "
        "burst may be as large as what a second allows. 0 sets no limit.",
        "client_requests_per_second",
        unit="requests/s",
    ),
    Setting(
        "trust_client_headers",
        OPTIONAL_BOOLEAN,
        "",
        "true believes what clients say of themselves in X-Priority (critical, high, normal, low "
        "or 0 to 3) and X-Client-Id; false ignores both. Who may say it can take the places of "
        "others when a queue is full.",
        "trust_client_headers",
        example="true",
        default_note="believed where the inference port asks for a token, or where only this "
        "machine reaches it",
    ),
    Setting(
        "queue_discipline",
        choice("fifo", "codel", "adaptive_lifo"),
        "fifo",
        "fifo serves requests in the order in which they came. codel also drops those that have "
        "waited too long while a queue does not get shorter, and adaptive_lifo serves the latest "
        "first as long as that lasts: for long queues whose clients give up without a word.",
        "queue_discipline",
    ),
)
