"""Answers each row with the size of its body: large in, small out."""


class SizeHandler:
    """How many bytes came, as text."""

    def initialize(self, context):
        """Nothing to load."""

    def handle(self, data, context):
        """One count per row."""
        return [str(len(row.get("body", row.get("data")))) for row in data]
