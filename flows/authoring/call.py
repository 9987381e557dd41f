"""Calls: a handler of a flow or an actor with its arguments, ready to be sent to one."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

A_contra = TypeVar("A_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Call(msgspec.Struct, Generic[A_contra, R_co], frozen=True):
    """A call that an `A` takes, and answers with an `R`. What its class takes, a subclass takes, too."""
