"""Finds handlers: the built-in ones by dotted name, everybody else's by entry point.

Built-ins keep their names whatever a stranger claims. A plugin that fails is named in the log and
stops nobody else.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final

import pluggy

from marserve.frameworks import imported_frameworks
from marserve_archiver.manifest import Manifest
from marserve_handlers import builtin, hookspecs
from marserve_handlers.errors import HandlerLoadFailed
from marserve_handlers.model_files import find_file

ENTRY_POINT_GROUP: Final = "marserve"

BUILT_INS: Final = ("marserve_handlers.builtin",)
"""Dotted names: registered like this they are found even when nothing is installed."""

_log = logging.getLogger("marserve.plugins")


class Plugins:
    """All plugins of this process, asked one by one: built-ins first, then by name.

    Owns the order; pluggy would let the last one registered win.
    """

    def __init__(self, plugins: Iterable[tuple[str, object]]) -> None:
        self._pluggy = pluggy.PluginManager(hookspecs.PROJECT)
        self._pluggy.add_hookspecs(hookspecs)
        self._names: list[str] = []
        self._owners: dict[str, str] = {}
        for name, plugin in plugins:
            self._register(name, plugin)

    def find_handler(self, name: str) -> object | None:
        """The handler called `name`, or None.

        Raises:
            HandlerLoadFailed: nobody has it, but a plugin failed when it was asked.
        """
        failed: HandlerLoadFailed | None = None
        for plugin in self._names:
            try:
                found: object | None = self._hook("marserve_handler", plugin)(name=name)
            except Exception as error:
                if plugin in BUILT_INS:
                    raise
                failed = failed or _blame(plugin, f"was asked for the handler {name}", error)
                continue
            if found is not None:
                return found
        if failed is not None:
            raise failed
        return None

    def handler_names(self) -> tuple[str, ...]:
        """The names of all handlers, sorted."""
        return tuple(sorted(self._owners))

    def preload_modules(self, handler: str, model_dir: Path, manifest: Manifest) -> tuple[str, ...]:
        """Modules to import before the workers of a model are forked; sorted, installed ones only.

        Runs in the server: plugins say what their handlers use, and a model's own files are read,
        never imported.

        Args:
            handler: a file of `model_dir`, or the name of an installed handler.
            model_dir: where the model's files are.
            manifest: what the model says about itself; its model file counts.
        """
        files = [handler.partition(":")[0]]
        if manifest.model_file is not None:
            files.append(manifest.model_file)
        wanted = imported_frameworks(model_dir, files)
        if find_file(model_dir, files[0]) is None:
            wanted.update(self._preload(handler.removesuffix(".py")))
        return tuple(sorted(name for name in wanted if _is_installed(name)))

    def _preload(self, handler: str) -> list[str]:
        for plugin in self._names:
            try:
                found = self._hook("marserve_preload", plugin)(name=handler)
            except Exception as error:  # noqa: BLE001 - a stranger's code; logged
                _blame(plugin, f"was asked what to preload for {handler}", error)
                continue
            if found is not None:
                return [str(name) for name in found]
        return []

    def _register(self, name: str, plugin: object) -> None:
        try:
            self._pluggy.register(plugin, name=name)
            offered = [n for names in self._hook("marserve_handler_names", name)() for n in names]
        except Exception as error:  # noqa: BLE001 - a stranger's code; logged
            _blame(name, "was registered", error)
            if name not in self._names and self._pluggy.has_plugin(name):
                # pluggy registers before it looks at the hooks
                self._pluggy.unregister(name=name)
            return
        self._names.append(name)
        self._warn_of_unknown_hooks(name, plugin)
        for handler in offered:
            owner = self._owners.setdefault(handler, name)
            if owner != name:
                _log.warning(
                    "the plugin %s offers a handler %s, but the one of %s is used",
                    name,
                    handler,
                    owner,
                )

    def _warn_of_unknown_hooks(self, name: str, plugin: object) -> None:
        for caller in self._pluggy.get_hookcallers(plugin) or ():
            if not caller.has_spec():
                _log.warning(
                    "the plugin %s implements a hook %s, which does not exist", name, caller.name
                )

    def _hook(self, hook: str, plugin: str) -> Callable[..., Any]:
        """The hook as implemented by one plugin alone."""
        others = [
            other for name, other in self._pluggy.list_name_plugin() if name != plugin and other
        ]
        return self._pluggy.subset_hook_caller(hook, others)


def find_handler(name: str) -> object | None:
    """The handler called `name`, or None. Plugins are loaded unless a built-in has the name.

    Raises:
        HandlerLoadFailed: nobody has it, but a plugin failed when it was asked.
    """
    if name in builtin.BUILT_INS:
        return builtin.marserve_handler(name)
    return load_plugins().find_handler(name)


def load_plugins() -> Plugins:
    """The built-in plugins and all installed ones."""
    built_in = [(name, importlib.import_module(name)) for name in BUILT_INS]
    found = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name)
    strangers = [(_label(entry), plugin) for entry in found if (plugin := _load(entry)) is not None]
    return Plugins([*built_in, *strangers])


def _load(entry: EntryPoint) -> object | None:
    try:
        loaded: object = entry.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code; logged
        _blame(_label(entry), "was imported", error)
        return None
    return loaded


def _label(entry: EntryPoint) -> str:
    distribution = entry.dist.name if entry.dist is not None else entry.value
    return f"{entry.name} (of {distribution})"


def _blame(plugin: str, moment: str, error: BaseException) -> HandlerLoadFailed:
    text = f"the plugin {plugin} failed when it {moment}: {type(error).__name__}: {error}"
    _log.warning("%s", text, exc_info=error)
    blamed = HandlerLoadFailed(text)
    blamed.__cause__ = error
    return blamed


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False
