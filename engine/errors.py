"""What can be wrong with a published file."""


class BadModelError(Exception):
    """A published file cannot be served, though its hash is right.

    The message is for everybody who asks for the model; `detail`, such as what ONNX Runtime said, is for the log.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = detail
