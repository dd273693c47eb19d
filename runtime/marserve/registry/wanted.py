"""Which versions are wanted, with which settings, and which is the default. Pure.

A frozen value: every change gives a new one, which its owner (`registry.py`) makes durable before
it takes effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from marserve.errors import (
    DefaultVersionInUse,
    ModelNotFound,
    VersionConflict,
    VersionNotFound,
)
from marserve.model_version import Settings
from marserve.refs import ModelRef


@dataclass(frozen=True, slots=True)
class Node:
    """That a version is a node of a workflow, which registers it again at each start."""

    workflow: str
    is_function: bool = False
    """Of the workflow's own handler; the list of models leaves it out."""


@dataclass(frozen=True, slots=True)
class WantedVersion:
    """Where the archive is, and what is wanted of it."""

    url: str
    settings: Settings
    node: Node | None = None
    """None: it was registered for itself."""
    sha256: str | None = None
    """The digest of the archive that was registered; None: not known, or it is a folder."""


@dataclass(frozen=True, slots=True)
class WantedModel:
    """The versions of one name; `default` is one of them."""

    default: str
    versions: Mapping[str, WantedVersion]


@dataclass(frozen=True, slots=True)
class Wanted:
    """All that is wanted of the server."""

    models: Mapping[str, WantedModel] = field(default_factory=dict)

    def refs(self) -> Iterator[ModelRef]:
        """Every wanted version."""
        for name, model in self.models.items():
            for version in model.versions:
                yield ModelRef(name, version)

    def __contains__(self, ref: ModelRef) -> bool:
        model = self.models.get(ref.name)
        return model is not None and ref.version in model.versions

    def model(self, name: str) -> WantedModel:
        """The model called `name`.

        Raises:
            ModelNotFound: there is none.
        """
        try:
            return self.models[name]
        except KeyError:
            raise ModelNotFound(name) from None

    def resolve(self, name: str, version: str | None) -> ModelRef:
        """The ref that a name and perhaps a version mean; without version, the default's.

        Raises:
            ModelNotFound, VersionNotFound: there is none.
        """
        model = self.model(name)
        if version is None:
            return ModelRef(name, model.default)
        if version not in model.versions:
            raise VersionNotFound(name, version)
        return ModelRef(name, version)

    def __getitem__(self, ref: ModelRef) -> WantedVersion:
        return self.models[ref.name].versions[ref.version]

    def add(self, ref: ModelRef, version: WantedVersion) -> Wanted:
        """With one more version; the first of its name becomes the default.

        Raises:
            VersionConflict: it is wanted already.
        """
        if ref in self:
            raise VersionConflict(ref.name, ref.version)
        model = self.models.get(ref.name) or WantedModel(ref.version, {})
        return self._with(ref, replace(model, versions={**model.versions, ref.version: version}))

    def resettle(self, ref: ModelRef, settings: Settings) -> Wanted:
        """With other settings for one version."""
        model = self.model(ref.name)
        changed = replace(model.versions[ref.version], settings=settings)
        return self._with(ref, replace(model, versions={**model.versions, ref.version: changed}))

    def make_default(self, ref: ModelRef) -> Wanted:
        """With this version as its model's default."""
        return self._with(ref, replace(self.model(ref.name), default=ref.version))

    def remove(self, ref: ModelRef) -> Wanted:
        """Without this version; without the name when it was the last.

        Raises:
            DefaultVersionInUse: it is the default, and others would be left without one.
        """
        model = self.model(ref.name)
        left = {v: wanted for v, wanted in model.versions.items() if v != ref.version}
        if not left:
            return Wanted({name: m for name, m in self.models.items() if name != ref.name})
        if ref.version == model.default:
            raise DefaultVersionInUse(ref.name)
        return self._with(ref, replace(model, versions=left))

    def durable(self) -> Wanted:
        """What the next start has to know: all but nodes of workflows."""
        return self._only(lambda version: version.node is None)

    def nodes(self, workflow: str) -> tuple[ModelRef, ...]:
        """The versions that are nodes of a workflow."""
        return tuple(ref for ref in self.refs() if _is_node(self[ref], workflow))

    def without_nodes(self, workflow: str) -> Wanted:
        """Without the nodes of a workflow.

        A model that has other versions keeps them; the last one becomes the default if that goes.
        """
        return self._only(lambda version: not _is_node(version, workflow))

    def _only(self, keeps: Callable[[WantedVersion], bool]) -> Wanted:
        models = {}
        for name, model in self.models.items():
            left = {v: wanted for v, wanted in model.versions.items() if keeps(wanted)}
            if left:
                default = model.default if model.default in left else list(left)[-1]
                models[name] = WantedModel(default, left)
        return Wanted(models)

    def _with(self, ref: ModelRef, model: WantedModel) -> Wanted:
        return Wanted({**self.models, ref.name: model})


def _is_node(version: WantedVersion, workflow: str) -> bool:
    return version.node is not None and version.node.workflow == workflow
