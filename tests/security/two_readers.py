"""What two readers of HTTP make of the same bytes: ours, and h11."""

import h11

from marserve.servers.request_reader import RequestReader


class Told:
    """What a reader makes of bytes: bodies of requests, and how it was refused."""

    def __init__(self):
        self.served = []
        self.refused = []

    def on_request(self, head, body):
        self.served.append((head.method, head.target, body))

    def on_refused(self, status):
        self.refused.append(status)

    def on_expect(self):
        pass


def by_h11(data: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Target and body of the first request, and what is left; None: not accepted, or not whole."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    target, body = b"", b""
    try:
        while True:
            match connection.next_event():
                case h11.Request() as request:
                    target = bytes(request.target)
                case h11.Data() as piece:
                    body += bytes(piece.data)
                case h11.EndOfMessage():
                    return target, body, connection.trailing_data[0]
                case _:
                    return None
    except h11.RemoteProtocolError:
        return None


def by_ours(data: bytes) -> tuple[bytes, bytes, bytes] | None:
    """As `by_h11`; what is left is found by giving it less and less."""

    class First(Told):
        def on_request(self, head, body):
            super().on_request(head, body)
            reader.end()

    told = First()
    reader = RequestReader(1 << 20, told)
    for at in range(len(data)):
        reader.feed(data[at : at + 1], 0.0)
        if told.served:
            _, target, body = told.served[0]
            return target, body, data[at + 1 :]
        if told.refused:
            return None
    return None
