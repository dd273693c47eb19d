"""What can go wrong.

ModelArchiverError
└── InputMissing   also a FileNotFoundError, as some callers expect
"""


class ModelArchiverError(Exception):
    """The archive could not be written; the message says why."""


class InputMissing(ModelArchiverError, FileNotFoundError):
    """A file that was named does not exist; some callers expect a FileNotFoundError."""
