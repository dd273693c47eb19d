"""Builds a torch module without filling its parameters with random numbers that weights replace.

Filling takes most of the time that building takes, and makes memory private that is thrown away
at once. Here the fills of parameters wait while the module is built. They happen after all, in
their order, as soon as anything looks at such a parameter or draws a random number for something
else; what is built is therefore the same, as far as anybody could tell.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.overrides import (
    TorchFunctionMode,
    handle_torch_function,
    has_torch_function_variadic,
)

_FILLS: Final = frozenset(
    {
        "cauchy_",
        "exponential_",
        "geometric_",
        "kaiming_uniform_",
        "log_normal_",
        "normal_",
        "random_",
        "trunc_normal_",
        "uniform_",
    }
)
"""What gives all of a tensor random numbers, in place, by the name of the function or method."""

_CHANGES: Final = frozenset(
    {"add_", "clamp_", "constant_", "div_", "erfinv_", "fill_", "mul_", "neg_", "sub_", "zero_"}
)
"""What may follow a fill, in place: it waits with it."""

_DRAWS: Final = _FILLS | {
    "alpha_dropout",
    "bernoulli",
    "bernoulli_",
    "dropout",
    "feature_alpha_dropout",
    "gumbel_softmax",
    "multinomial",
    "normal",
    "poisson",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "randperm",
    "rrelu",
}
"""What takes random numbers, which must be those that it would have got."""

_LOOKS: Final = frozenset(
    {"dim", "element_size", "is_floating_point", "ndimension", "numel", "requires_grad_", "size"}
)
"""Methods that do not care what is in a tensor."""

_DATA: Final[Any] = torch.Tensor.__dict__.get("data") or torch.Tensor.data
_PROPERTIES: Final = frozenset(
    getattr(torch.Tensor, name).__get__
    for name in (
        *("device", "dtype", "grad_fn", "is_leaf", "is_sparse"),
        *("layout", "ndim", "requires_grad", "shape"),
    )
)
"""Attributes that do not care either."""


def build(make: Callable[[], Any]) -> tuple[Any, DeferredFills]:
    """What `make` returns, and the fills of its parameters that have not happened.

    Whoever gives all of the parameters their values may `drop` the fills; everybody else has them
    `catch_up`.
    """
    fills = DeferredFills()
    try:
        with fills:
            made = make()
    except Exception:  # noqa: BLE001  user code: it is tried again as it stands, and that counts
        return make(), DeferredFills()
    return made, fills


@dataclass(frozen=True, slots=True)
class _Fill:
    """A call that waits."""

    run: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    seed: int
    """What the random numbers started from when it should have run."""


class DeferredFills(TorchFunctionMode):
    """Keeps random fills of parameters back while it is entered. Not to be entered twice."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[_Fill] = []
        self._states: dict[int, torch.Tensor] = {}
        """Where the random numbers stood before the first fill that waits, by their seed."""
        self._unset: dict[int, torch.Tensor] = {}
        """Parameters whose fills wait, by identity."""
        self._views: dict[int, torch.Tensor] = {}
        """What `parameter.data` returned: the same numbers under another identity."""
        self._trunc_normal: Any = None

    def __enter__(self) -> DeferredFills:
        """Alone among the fills that torch offers, this one does not announce itself to modes."""
        self._trunc_normal = torch.nn.init.trunc_normal_
        torch.nn.init.trunc_normal_ = _announced(self._trunc_normal)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: object) -> None:
        """From here on torch is as it was."""
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        torch.nn.init.trunc_normal_ = self._trunc_normal

    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch in place of `func`, which is any function or method of it."""
        given = kwargs or {}
        name: str = getattr(func, "__name__", "")
        target: Any = args[0] if args else given.get("tensor")
        if self._may_wait(name, target, args, given):
            seed = torch.initial_seed()
            if seed not in self._states:
                self._states[seed] = torch.get_rng_state()
            self._waiting.append(_Fill(func, args, given, seed))
            self._unset[id(target)] = target
            return target
        if name == "__get__" and func == _DATA.__get__ and isinstance(target, torch.nn.Parameter):
            alias = func(*args, **given)
            self._views[id(alias)] = alias
            return alias
        if self._waiting and (name in _DRAWS or self._looks_inside(func, name, args, given)):
            self.catch_up()
        return func(*args, **given)

    def catch_up(self) -> None:
        """Do all that waits, in order."""
        waiting, states = list(self._waiting), dict(self._states)
        self.drop()
        seed = torch.initial_seed()
        with torch._C.DisableTorchFunction(), torch.no_grad():
            for earlier in states.keys() - {seed}:
                now = torch.get_rng_state()
                torch.set_rng_state(states[earlier])
                _run(fill for fill in waiting if fill.seed == earlier)
                torch.set_rng_state(now)
            _run(fill for fill in waiting if fill.seed == seed)

    def drop(self) -> None:
        """Let go of all that waits."""
        self._waiting.clear()
        self._states.clear()
        self._unset.clear()
        self._views.clear()

    def _may_wait(
        self, name: str, target: object, args: tuple[Any, ...], given: Mapping[str, Any]
    ) -> bool:
        if name not in _FILLS and name not in _CHANGES:
            return False
        if given.get("generator") is not None or any(map(_is_tensor, args[1:])):
            return False
        if id(target) in self._unset:
            return True
        is_whole = isinstance(target, torch.nn.Parameter) or id(target) in self._views
        return is_whole and name in _FILLS and target.device.type == "cpu"  # type: ignore[attr-defined]

    def _looks_inside(
        self, func: Any, name: str, args: tuple[Any, ...], given: Mapping[str, Any]
    ) -> bool:
        if name in _LOOKS or (name == "__get__" and func in _PROPERTIES):
            return False
        return any(map(self._is_unset, (*args, *given.values())))

    def _is_unset(self, value: object) -> bool:
        """Whether a tensor that waits is in an argument."""
        if isinstance(value, list | tuple):
            return any(map(self._is_unset, value))
        if isinstance(value, dict):
            return any(map(self._is_unset, value.values()))
        return id(value) in self._unset or id(value) in self._views


def _run(fills: Iterable[_Fill]) -> None:
    for fill in fills:
        fill.run(*fill.args, **fill.kwargs)


def _announced(fill: Any) -> Any:
    @functools.wraps(fill)
    def announcing(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if has_torch_function_variadic(tensor):
            return handle_torch_function(announcing, (tensor,), tensor, *args, **kwargs)
        return fill(tensor, *args, **kwargs)

    return announcing


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)
