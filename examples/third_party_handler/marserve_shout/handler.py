"""The handler itself."""

import unicodedata


class ShoutHandler:
    """Answers each text in capitals, with as many exclamation marks as the model's YAML says."""

    def initialize(self, context):
        settings = context.model_yaml_config.get("handler", {})
        self.ending = "!" * settings.get("exclamation_marks", 1)

    def handle(self, data, context):
        return [self._shout(row.get("data", row.get("body", ""))) for row in data]

    def _shout(self, sent):
        text = sent.decode() if isinstance(sent, bytes | bytearray) else str(sent)
        return unicodedata.normalize("NFC", text).upper() + self.ending
