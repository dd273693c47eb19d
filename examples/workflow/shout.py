import json


def clean(data, context):
    """First: the client's text, without what surrounds it."""
    if data is None:
        return None
    return [text(row.get("data") or row.get("body")).strip() for row in data]


def report(data, context):
    """Last: what both models answered, by the names of their nodes."""
    if data is None:
        return None
    return [
        json.dumps({"text": text(row["upper"]), "words": int(text(row["count"]))}) for row in data
    ]


def text(value):
    return value.decode() if isinstance(value, (bytes, bytearray)) else value
