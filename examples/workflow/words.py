class Upper:
    """A model of few words: in capitals."""

    def handle(self, data, context):
        return [text(row).upper() for row in data]


def text(row):
    value = row.get("data") or row.get("body")
    return value.decode() if isinstance(value, (bytes, bytearray)) else value
