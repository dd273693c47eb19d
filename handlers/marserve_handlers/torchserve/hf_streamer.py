"""Texts of a batch as a language model generates them, for handlers that stream. Needs
transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

try:
    from transformers import TextIteratorStreamer  # pyright: ignore[reportMissingImports]
    from transformers.generation.streamers import (  # pyright: ignore[reportMissingImports]
        BaseStreamer,
    )
except ImportError as error:
    raise ImportError(
        "ts.handler_utils.hf_batch_streamer needs the package transformers, which is not "
        f"installed where this worker runs ({error}): list it in the archive's requirements file, "
        "or pip install transformers.",
        name="transformers",
    ) from error


class TextIteratorStreamerBatch(BaseStreamer):  # type: ignore[misc] # transformers is optional
    """Give it to `generate(streamer=…)` in one thread, iterate over it in another.

    Each step yields a list with one text per row of the batch: what that row has got since the
    step before, "" when that is nothing that can be shown yet.

    Args:
        tokenizer: decodes the tokens.
        batch_size: rows of the batch.
        skip_prompt: whether to leave out the tokens that the model was given.
        timeout: after how many seconds without a token to give up (`queue.Empty`); None: never.
        decode_kwargs: more arguments for the tokenizer's `decode`.
    """

    def __init__(
        self,
        tokenizer: Any,
        batch_size: int,
        skip_prompt: bool = False,
        timeout: float | None = None,
        **decode_kwargs: Any,
    ) -> None:
        self.batch_size = batch_size
        self.streamers = [
            TextIteratorStreamer(tokenizer, skip_prompt, timeout, **decode_kwargs)
            for _ in range(batch_size)
        ]

    def put(self, value: Any) -> None:
        """Take the next tokens, a tensor of shape (batch,) or (batch, tokens).

        Raises:
            ValueError: the tensor has another number of rows.
        """
        if len(value) != self.batch_size:
            raise ValueError(
                f"This streamer was made for {self.batch_size} rows; it was given {len(value)}."
            )
        for row, streamer in zip(value, self.streamers, strict=True):
            streamer.put(row.reshape(-1))

    def end(self) -> None:
        """No more tokens will come."""
        for streamer in self.streamers:
            streamer.end()

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        texts = [next(streamer, None) for streamer in self.streamers]
        if all(text is None for text in texts):
            raise StopIteration
        return [text or "" for text in texts]
