class Count:
    """A model of fewer words: how many there are."""

    def handle(self, data, context):
        return [str(len(text(row).split())) for row in data]


def text(row):
    value = row.get("data") or row.get("body")
    return value.decode() if isinstance(value, (bytes, bytearray)) else value
