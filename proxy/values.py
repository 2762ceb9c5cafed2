"""Values that are made for every call."""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def value(cls: type[T]) -> type[T]:
    """A frozen dataclass with slots and keyword arguments, frozen for the type checkers alone.

    A dataclass that is frozen at run time too sets each field through ``object.__setattr__`` when it is made, which
    takes three times as long: of all that a miss costs, a twelfth. Values that are made once stay frozen in earnest.
    """
    return dataclass(slots=True, kw_only=True, unsafe_hash=True)(cls)
