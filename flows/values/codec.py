"""How values become bytes and come back: msgspec, by the annotations, both ways.

A flow sees the decoded value, live and in a replay. So every value is decoded as soon as it is encoded, and
refused on the spot if it does not come back equal.
"""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import is_dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ..errors import FlowDefinitionError, PayloadError
from .annotations import as_annotated, parameter_hints, refuse_unstorable
from .copies import copied
from .depth import DEPTH_MAX, depth
from .duplicates import refuse_duplicates
from .location import defined_at
from .models import decoded as decoded_model
from .models import is_model
from .settings import check_count
from .value_diff import (
    encode,
    first_difference,
    first_nonfinite,
    first_unencodable,
    is_same_in_other_zones,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class PayloadLimits(msgspec.Struct, frozen=True):
    """Bounds of one payload: its size in bytes, and its nesting depth."""

    size: int = 1 << 20
    depth: int = 64

    def __post_init__(self) -> None:
        check_count("PayloadLimits", "size", self.size)
        check_count("PayloadLimits", "depth", self.depth, most=DEPTH_MAX)


DEFAULT_LIMITS = PayloadLimits()
WIDEST_LIMITS = PayloadLimits(size=2**62, depth=DEPTH_MAX)
"""For calls made before the system is known that will apply its own limits."""


def check(data: bytes, what: str, limits: PayloadLimits = DEFAULT_LIMITS) -> None:
    """Refuse bytes that are too large, too deep for a small stack, or not UTF-8.

    A decoder does not check strings that it only passes on or skips.

    Raises:
        PayloadError: it names the limit, or the byte.
    """
    size = len(data)
    if size > limits.size:
        raise PayloadError(what, "$", f"{size:,} bytes exceed the limit of {limits.size:,}")
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise PayloadError(what, "$", f"it is not UTF-8 (byte {error.start})") from error
    # Each level takes two bytes, so short payloads need no check.
    if size > 2 * limits.depth and depth(data, limits.depth) > limits.depth:
        raise PayloadError(what, "$", f"it is nested more than {limits.depth} levels deep")


class Codec:
    """Encodes and decodes values of one annotated type."""

    def __init__(self, annotation: Any, what: str) -> None:
        self.what = what
        self._annotation = annotation
        try:
            self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(annotation, dec_hook=_made_of)
        except (TypeError, ValueError) as error:
            raise FlowDefinitionError(f"{what}: its annotation cannot be stored: {plain(error)}") from error

    def encode(self, value: Any, limits: PayloadLimits = DEFAULT_LIMITS) -> bytes:
        """Encode without checking that the value comes back.

        Raises:
            PayloadError: the value has no JSON form, or is too large or too deep.
        """
        try:
            data = encode(value)
        except Exception as error:  # the user's types may raise anything
            raise PayloadError(self.what, first_unencodable(value), plain(error)) from error
        size = len(data)
        if size > limits.size or size > 2 * limits.depth:  # nothing shorter can be too deep
            check(data, self.what, limits)
        return data

    def encode_unchecked(self, value: Any) -> bytes | None:
        """Encode for a comparison; return None if the value has no JSON form."""
        try:
            return encode(value)
        except Exception:  # noqa: BLE001 - the user's types may raise anything
            return None

    def seal(self, value: Any, limits: PayloadLimits = DEFAULT_LIMITS) -> tuple[bytes, Any]:
        """Encode a value; return the bytes and the value that every later reader will see.

        Raises:
            PayloadError: the value would not come back equal; the message has the path of the culprit.
        """
        data = self.encode(value, limits)
        try:
            decoded = self._decoder.decode(data)
        except Exception as error:  # the user's types may raise anything
            path, reason = first_nonfinite(value) or _split(plain(error))
            raise PayloadError(self.what, path, reason) from error
        if (
            decoded is not value  # None, most often
            and not self._is_same(decoded, value)
            and not is_same_in_other_zones(value, decoded)
        ):
            self._look_again(value, decoded)
        return data, decoded

    def _look_again(self, value: Any, decoded: Any) -> None:
        """Refuse what comes back different, unless the annotation turns a list into a tuple or vice versa."""
        annotated = as_annotated(value, self._annotation)
        if not self._is_same(decoded, annotated) and not is_same_in_other_zones(annotated, decoded):
            path, reason = first_nonfinite(value) or first_difference(annotated, decoded)
            raise PayloadError(self.what, path, reason)

    def _is_same(self, decoded: Any, value: Any) -> bool:
        try:
            return bool(decoded == value)
        except Exception as error:
            raise PayloadError(self.what, "$", f"it cannot be compared: {plain(error)}") from error

    def are_same(self, one: bytes, other: bytes) -> bool:
        """Return whether bytes mean the same value, regardless of the order of keys and of sets.

        One of them may predate a field with a default. Bytes that do not fit are never the same.
        """
        if one == other:
            return True
        try:
            here, there = self.decode(one), self.decode(other)
            # To Python, true is 1.
            return bool(here == there) and _truths(here) == _truths(there)
        except Exception:  # noqa: BLE001 - the user's types may do anything when they are compared
            return False

    def decode(self, data: bytes | msgspec.Raw) -> Any:
        """Decode bytes from `seal`, or from outside if `check` has passed them.

        Raises:
            PayloadError: they do not fit the annotation; the message has the path.
        """
        try:
            return self._decoder.decode(data)
        except Exception as error:  # the user's types may raise anything
            path, reason = _split(plain(error))
            raise PayloadError(self.what, path, reason) from error

    def refusal(self, data: bytes) -> str | None:
        """Return why bytes do not fit the annotation, or None if they do."""
        try:
            self.decode(data)
        except PayloadError as error:
            return str(error)
        return None


def _made_of(kind: type, value: Any) -> Any:
    """Build from decoded JSON what only its class can build."""
    if is_model(kind):
        return decoded_model(kind, value)
    if isinstance(value, kind):  # an abstract class, as object
        return value
    raise TypeError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def _truths(value: Any) -> Counter[tuple[str, ...]]:
    """Count the booleans in a value by their paths, regardless of positions in lists and sets."""
    found: Counter[tuple[str, ...]] = Counter()
    ahead: list[tuple[tuple[str, ...], Any]] = [((), msgspec.json.decode(encode(value)))]
    while ahead:
        path, part = ahead.pop()
        if isinstance(part, bool):
            found[(*path, str(part))] += 1
        elif isinstance(part, dict):
            ahead += [((*path, name), inside) for name, inside in cast("dict[str, Any]", part).items()]
        elif isinstance(part, list):
            ahead += [((*path, "[]"), inside) for inside in cast("list[Any]", part)]
    return found


_encode_in_order = msgspec.json.Encoder(order="deterministic").encode


def in_one_order(value: Any) -> Any:
    """Give untyped sets an order that is the same in every process.

    Dicts keep theirs. What cannot be encoded is returned as it is; encoding it raises the error.
    """
    try:
        return _in_one_order(value)
    except Exception:  # noqa: BLE001 - the user's types may do anything
        return value


def _in_one_order(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        members = cast("set[Any]", value)
        return [msgspec.Raw(data) for data in sorted(map(_encode_in_order, members))]
    kind = cast("type[Any]", type(value))
    if kind is dict:
        return {key: _in_one_order(part) for key, part in value.items()}
    if kind is list or kind is tuple:
        return [_in_one_order(part) for part in value]
    if issubclass(kind, msgspec.Struct) or is_dataclass(kind):
        return msgspec.Raw(_encode_in_order(value))
    return value


@lru_cache(maxsize=512)
def _known_codec(annotation: Any, what: str) -> Codec:
    refuse_unstorable(annotation, what)
    return Codec(annotation, what)


def codec_of(annotation: Any, what: str) -> Codec:
    """Return the codec of an annotation, cached because building one is slow.

    Raises:
        FlowDefinitionError: the annotation cannot be stored.
    """
    try:
        return _known_codec(annotation, what)
    except TypeError as error:
        if isinstance(error, FlowDefinitionError):
            raise
    refuse_unstorable(annotation, what)  # it cannot be hashed
    return Codec(annotation, what)


class Parameters:
    """A function's parameters as one JSON object, by name.

    The constructor of a generated struct binds arguments, in C, with the function's own defaults.
    """

    def __init__(self, function: Callable[..., Any], what: str, *, skip_self: bool) -> None:
        self._function = function
        self._skip_self = skip_self
        self.what = what

    @cached_property
    def _parameters(self) -> list[inspect.Parameter]:
        parameters = list(inspect.signature(self._function).parameters.values())[self._skip_self :]
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise FlowDefinitionError(
                    f"{self.what} at {defined_at(self._function)}: {parameter} has no name to be stored"
                    " under; take a list or a dict instead"
                )
        return parameters

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return parameter_hints(self._function, self.what)

    @cached_property
    def _positional(self) -> int:
        return sum(p.kind is not p.KEYWORD_ONLY for p in self._parameters)

    @cached_property
    def _struct(self) -> type[msgspec.Struct]:
        hints = self._hints
        fields = [_field(p, hints.get(p.name, Any)) for p in self._parameters]
        named = msgspec.defstruct("named", fields[self._positional :], kw_only=True)
        return msgspec.defstruct("args", fields[: self._positional], bases=(named,))

    @cached_property
    def codec(self) -> Codec:
        return Codec(self._struct, self.what)

    @cached_property
    def _strict(self) -> Codec:
        """The codec that refuses unknown fields. Built on demand: histories are read without it."""
        strict = msgspec.defstruct("args", [], bases=(self._struct,), forbid_unknown_fields=True)
        return Codec(strict, self.what)

    def seal_json(self, data: bytes, limits: PayloadLimits) -> tuple[bytes, msgspec.Struct]:
        """Check arguments given as a JSON object; return them as `seal` would.

        Raises:
            PayloadError: a field is missing, unknown, duplicate, or does not fit; or it is too large.
        """
        check(data, self.what, limits)
        values = self._strict.decode(data)
        refuse_duplicates(data, self.what)
        return self._strict.seal(values, limits)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self._parameters)

    def prepare(self) -> None:
        """Resolve the annotations now, so that a broken definition is refused early.

        Raises:
            FlowDefinitionError: an annotation is unknown or cannot be stored, or a default does not fit.
        """
        _ = self.codec
        for parameter in self._parameters:
            if parameter.default is not parameter.empty:
                self._check_default(parameter, self._hints.get(parameter.name, Any))

    def _check_default(self, parameter: inspect.Parameter, hint: Any) -> None:
        try:
            Codec(hint, self.what).seal(parameter.default, WIDEST_LIMITS)
        except PayloadError as error:
            instead = "; annotate it `... | None`" if parameter.default is None else ""
            raise FlowDefinitionError(
                f"{self.what} at {defined_at(self._function)}: the default of {parameter.name!r} cannot be"
                f" stored as it is annotated: {error.reason}{instead}"
            ) from None

    @cached_property
    def decode(self) -> Callable[[bytes], msgspec.Struct]:
        return self.codec.decode

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> msgspec.Struct:
        """Bind arguments as the function itself would.

        Raises:
            TypeError: they do not fit the signature.
        """
        try:
            return self._struct(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.what}: {plain(error)}") from None

    def call(self, values: msgspec.Struct, *prefix: Any) -> Any:
        """Call the function with bound values, after `prefix` (the instance of a method)."""
        return self.call_other(self._function, values, *prefix)

    def call_other(self, function: Callable[..., Any], values: msgspec.Struct, *prefix: Any) -> Any:
        """Call another function with the same parameters."""
        arguments = msgspec.structs.astuple(values)
        if len(arguments) == self._positional:
            return function(*prefix, *arguments)
        names = values.__struct_fields__[self._positional :]
        keywords = dict(zip(names, arguments[self._positional :], strict=True))
        return function(*prefix, *arguments[: self._positional], **keywords)


def _field(parameter: inspect.Parameter, annotation: Any) -> Any:
    if parameter.default is parameter.empty:
        return (parameter.name, annotation)
    default = parameter.default
    return (parameter.name, annotation, msgspec.field(default_factory=lambda: copied(default)))


def _split(message: str) -> tuple[str, str]:
    reason, _, path = message.partition(" - at `")
    return (path.rstrip("`") or "$"), reason
