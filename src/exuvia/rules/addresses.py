"""
A set of numbers that takes a few bytes for each, where Python's own would take a hundred.

A gateway has to know for a hundred thousand peers which addresses are taken.
"""

from array import array

_EMPTY = 0
_SMALLEST = 64
_BITS = 64
_ALL_BITS = (1 << _BITS) - 1
# 2^64 divided by the golden ratio: neighbours are spread over the whole table (Knuth, 6.4).
_SPREAD = 0x9E3779B97F4A7C15


class AddressSet:
    """
    A set of numbers of 32 bits (typecode "I") or 64 bits ("Q"): 0 is taken for 1.

    Open addressing with linear probing, at most half full. What is removed leaves no mark: those
    behind it move up.
    """

    __slots__ = ("_count", "_mask", "_shift", "_slots")

    def __init__(self, typecode: str) -> None:
        self._count = 0
        self._make(array(typecode, [_EMPTY]) * _SMALLEST)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, number: int) -> bool:
        return self._slots[self._place(number or 1)] != _EMPTY

    def add(self, number: int) -> None:
        """Add a number, if it isn't there yet."""
        number = number or 1
        place = self._place(number)
        if self._slots[place] != _EMPTY:
            return
        self._slots[place] = number
        self._count += 1
        if 2 * self._count > len(self._slots):
            self._grow()

    def discard(self, number: int) -> None:
        """Remove a number, if it is there."""
        slots, mask = self._slots, self._mask
        hole = self._place(number or 1)
        if slots[hole] == _EMPTY:
            return
        self._count -= 1
        behind = (hole + 1) & mask
        while (other := slots[behind]) != _EMPTY:
            # It may move up unless its own place lies behind the hole.
            if (behind - self._home(other)) & mask >= (behind - hole) & mask:
                slots[hole], hole = other, behind
            behind = (behind + 1) & mask
        slots[hole] = _EMPTY

    def copy(self) -> "AddressSet":
        """Return a set of the same numbers."""
        copy = AddressSet.__new__(AddressSet)
        copy._count = self._count
        copy._make(self._slots[:])
        return copy

    def _make(self, slots: "array[int]") -> None:
        self._slots = slots
        self._mask = len(slots) - 1
        self._shift = _BITS - self._mask.bit_length()

    def _home(self, number: int) -> int:
        return (number * _SPREAD & _ALL_BITS) >> self._shift

    def _place(self, number: int) -> int:
        """Return where a number is, or would be."""
        slots, mask = self._slots, self._mask
        place = (number * _SPREAD & _ALL_BITS) >> self._shift
        while (found := slots[place]) != _EMPTY and found != number:
            place = (place + 1) & mask
        return place

    def _grow(self) -> None:
        old = self._slots
        self._make(array(old.typecode, [_EMPTY]) * (2 * len(old)))
        for number in old:
            if number != _EMPTY:
                self._slots[self._place(number)] = number
