"""The hooks. Light: the server imports this module at start, the handler only in workers."""

from marserve_handlers import hookimpl


@hookimpl
def marserve_handler(name):
    if name != "shout":
        return None
    from marserve_shout.handler import ShoutHandler

    return ShoutHandler


@hookimpl
def marserve_handler_names():
    return ["shout"]


@hookimpl
def marserve_preload(name):
    return ["unicodedata"] if name == "shout" else None
