"""Zip files as odd as honest packers write them, which must be read: name → content."""

from __future__ import annotations

import stat

from forged_zip import (
    DATA,
    DEFLATED,
    Entry,
    build,
    deflate,
    descriptor,
    streamed,
    unix,
    wide,
    with_end64,
)

HONEST: dict[str, bytes] = {
    "one stored file": build(Entry()),
    "one deflated file": build(Entry(data=DATA, method=DEFLATED)),
    "no file at all": build(),
    "an empty file": build(Entry(data=b"")),
    "a directory": build(Entry(b"d/", b""), Entry(b"d/a", b"x")),
    "a directory as an empty stream": build(Entry(b"d/", b"", DEFLATED)),
    "a directory with a method but no bytes": build(Entry(b"d/", b"", DEFLATED, packed=b"")),
    "a directory with inherited setgid": build(Entry(b"d/", b"", attributes=unix(0o42755))),
    "a file with a mode": build(Entry(attributes=unix(stat.S_IFREG | 0o644))),
    "a comment": build(Entry(), comment=b"packed by hand"),
    "a comment on a member": build(Entry(comment=b"note")),
    "padding in the extra field": build(Entry(extra=b"\0\0\0", local_extra=b"\0")),
    "a name in UTF-8, flagged": build(Entry("naïve".encode(), flags=0x800)),
    "a name in UTF-8, not flagged": build(Entry("naïve".encode())),
    "a name in code page 437": build(Entry(b"na\x8bve")),
    "descriptor with mark": build(streamed(DATA, descriptor(DATA, deflate(DATA)))),
    "descriptor without mark": build(streamed(DATA, descriptor(DATA, deflate(DATA), mark=False))),
    "long descriptor": build(streamed(DATA, descriptor(DATA, deflate(DATA), is_long=True))),
    "long descriptor without mark": build(
        streamed(DATA, descriptor(DATA, deflate(DATA), is_long=True, mark=False))
    ),
    "descriptor flag, but all told in the header": build(
        Entry(data=DATA, method=DEFLATED, flags=8, descriptor=descriptor(DATA, deflate(DATA)))
    ),
    "descriptor flag without descriptor": build(Entry(data=DATA, method=DEFLATED, flags=8)),
    "descriptor of an empty file": build(streamed(b"", descriptor(b"", deflate(b"")))),
    "ZIP64 end records": with_end64(Entry()),
    "ZIP64 sizes": build(
        Entry(
            extra=wide(5, 5),
            local_extra=wide(5, 5),
            local={"packed": 0xFFFFFFFF, "size": 0xFFFFFFFF},
            central={"packed": 0xFFFFFFFF, "size": 0xFFFFFFFF},
        )
    ),
    "ZIP64 offset": build(Entry(extra=wide(0), central={"offset": 0xFFFFFFFF})),
    "Deflate64": build(Entry(data=b"hello", method=9, packed=deflate(b"hello"))),
    "an end record inside a stored member": build(Entry(b"inner.zip", build(Entry()))),
}
