"""What of an error's text strangers may read. Pure.

Exceptions of handlers and frameworks name files, addresses and processes of this machine, and a
client of a prediction can do nothing with them but learn about it. The worker's log has the whole
text and the ids of the requests it is about.
"""

from __future__ import annotations

import re
from typing import Final

_TRACEBACK: Final = re.compile(r"\s*Traceback \(most recent call last\).*", re.DOTALL)
_SOURCE: Final = re.compile(r'File "[^"\n]*", line \d+')
_PATH: Final = re.compile(r"(?<![\w.:/<])(?:file://)?/[\w.@+~%=-]+(?:/[\w.@+~%=-]+)+/?")
_ADDRESS: Final = re.compile(r"\b0x[0-9a-fA-F]{4,}\b")
_PROCESS: Final = re.compile(r"\b(pid|process|thread)([ =:]+)\d+", re.IGNORECASE)


def for_strangers(text: str) -> str:
    """`text` without places in file systems and memory, process ids and tracebacks."""
    if "Traceback" in text:
        text = _TRACEBACK.sub("", text)
    text = _PATH.sub("<path>", _SOURCE.sub("<source>", text))
    return _PROCESS.sub(r"\1\2<number>", _ADDRESS.sub("<address>", text))
