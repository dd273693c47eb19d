"""When does a client send a request again? Pure.

Only what was surely not served: nobody was connected to, or the server refused and said when to
come back. At most three attempts. A client may spend a tenth of its requests on retries, and a few
at its start: clients that retry whatever fails keep an overload alive after its cause has gone.
"""

from __future__ import annotations

from typing import Final

MAX_ATTEMPTS: Final = 3
MAX_PAUSE_S: Final = 10.0
_SHARE = 0.1
_RESERVE = 3.0
_FIRST_PAUSE_S = 0.2


class Retries:
    """The budget of one client."""

    def __init__(self) -> None:
        self._left = _RESERVE

    def asked(self) -> None:
        """A request is sent for the first time: a tenth of a retry is earned."""
        self._left = min(_RESERVE, self._left + _SHARE)

    def pause_s(self, attempt: int, retry_after_s: float, roll: float) -> float | None:
        """After how long to send a request again whose `attempt` (1, 2, …) failed; None: not.

        Args:
            attempt: how often it was sent.
            retry_after_s: what the server said; 0: nobody was there to say it.
            roll: 0 to 1; spreads clients over all of the pause.
        """
        if attempt >= MAX_ATTEMPTS or self._left < 1.0 or retry_after_s > MAX_PAUSE_S:
            return None
        self._left -= 1.0
        return retry_after_s + roll * _FIRST_PAUSE_S * 2.0 ** (attempt - 1)
