"""Gets an archive from wherever a url points, if it may: the one door to other places.

Every redirect is checked like the url that was asked for, from the top.
"""

from __future__ import annotations

import os
import ssl
import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import urljoin

from marserve.errors import ArchiveNotFound
from marserve.registry.sources import http, s3
from marserve.registry.sources.allowed import AllowedUrls, Permission
from marserve.registry.sources.http import HttpSource, Redirect, Resolve
from marserve.registry.sources.landing import CannotFetch, Landing, Limits, shown
from marserve.registry.sources.remote_url import RemoteUrl, UrlRefused, parse_url

_PIECE_BYTES: Final = 1 << 20
_OPEN_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Fetcher:
    """Knows what may be fetched, and how. Calls block; for any number of threads."""

    def __init__(
        self,
        allowed: AllowedUrls,
        limits: Limits | None = None,
        credentials: s3.Credentials | None = None,
        *,
        resolve: Resolve = http.resolve,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`credentials` sign requests for S3; without them such requests fail."""
        self._allowed = allowed
        self._limits = limits or Limits()
        self._credentials = credentials
        self._http = HttpSource(self._limits, clock, resolve, tls)
        self._clock = clock

    def close(self) -> None:
        """End the downloads that are under way, and begin none any more."""
        self._http.close()

    def permission(self, text: str) -> Permission:
        """The url, taken apart, if it may be fetched.

        Raises:
            ArchiveNotFound: it is no url that is fetched, or no entry of allowed_urls allows it.
        """
        refusal = f"Given URL {text} does not match any allowed URL(s)"
        try:
            url = parse_url(text)
        except UrlRefused as error:
            raise ArchiveNotFound(f"{refusal}: it {error}.") from error
        permission = self._allowed.permit(url)
        if permission is None:
            raise ArchiveNotFound(refusal)
        return permission

    def fetch(self, permission: Permission, is_signed: bool, file: BinaryIO) -> None:
        """Write what is at the url into the empty `file`.

        Args:
            permission: of the url.
            is_signed: whether to sign the request for S3.
            file: gets the bytes; may hold a part of them after an error.

        Raises:
            CannotFetch: it cannot be had.
        """
        landing = Landing(file, self._limits.max_bytes)
        if permission.url.scheme == "file":
            self._copy(permission.url, landing)
            return
        if is_signed and self._credentials is None:
            raise CannotFetch(
                "s3_sse_kms needs the environment variables AWS_ACCESS_KEY_ID, "
                "AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION"
            )
        deadline = self._clock() + self._limits.total_s
        first, known = permission.url, dict[str, list[str]]()
        for _ in range(self._limits.max_redirects + 1):
            url = permission.url
            # who signed in at one place has not signed in at the next
            headers = self._signature(url) if is_signed and url.same_origin(first) else {}
            redirect = self._http.get(permission, headers, landing, deadline, known)
            if redirect is None:
                return
            permission = self._followed(url, redirect)
        raise CannotFetch(f"it was redirected more than {self._limits.max_redirects} times")

    def _signature(self, url: RemoteUrl) -> dict[str, str]:
        assert self._credentials is not None
        return s3.signed_get(self._credentials, url.host_header, url.target, datetime.now(UTC))

    def _followed(self, url: RemoteUrl, redirect: Redirect) -> Permission:
        try:
            target = parse_url(urljoin(url.text, redirect.location))
        except ValueError as error:
            raise CannotFetch(f"{url.host} redirected to what is no url") from error
        if target.scheme == "file" or (url.scheme, target.scheme) == ("https", "http"):
            raise CannotFetch(f"{url.host} redirected from {url.scheme} to {target.scheme}")
        permission = self._allowed.permit(target)
        if permission is None:
            raise CannotFetch(
                f"{url.host} redirected to {target.scheme}://{target.host_header}, "
                "where no entry of allowed_urls lets it go"
            )
        return permission

    def _copy(self, url: RemoteUrl, landing: Landing) -> None:
        with _opened_file(url) as source:
            # links may have led anywhere: what counts is what has been opened
            real = Path(f"/proc/self/fd/{source.fileno()}").readlink()
            if not self._allowed.allows_file(str(real)):
                raise CannotFetch("it is a link to where no entry of allowed_urls points")
            landing.announce(os.fstat(source.fileno()).st_size)
            try:
                while piece := source.read(_PIECE_BYTES):
                    landing.add(piece)
            except OSError as error:
                raise CannotFetch(f"the file cannot be read: {shown(error)}") from error


def _opened_file(url: RemoteUrl) -> FileIO:
    try:
        descriptor = os.open(url.file_path, _OPEN_FILE)
    except (OSError, ValueError) as error:
        raise CannotFetch(f"the file cannot be opened: {shown(error)}") from error
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return FileIO(descriptor, "rb")
    os.close(descriptor)
    raise CannotFetch("it is no regular file")
