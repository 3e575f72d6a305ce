"""What each byte of a SQLite file is there for, read as sqlite.org/fileformat2.html says."""

from collections.abc import Iterator
from struct import unpack_from

PAGE = 4096
INTERIOR_INDEX, INTERIOR_TABLE, LEAF_INDEX, LEAF_TABLE = 2, 5, 10, 13


def strays(data: bytes) -> dict[int, bytes]:
    """Return the bytes of a file, by page, that nothing leads to and that are not zero."""
    found = {}
    for start in range(0, len(data), PAGE):
        page = data[start : start + PAGE]
        used = bytearray(PAGE)
        for begin, end in _in_use(page, 100 if start == 0 else 0, len(data) // PAGE):
            assert begin <= end <= PAGE
            used[begin:end] = b"\1" * (end - begin)
        stray = bytes(byte for byte, taken in zip(page, used, strict=True) if byte and not taken)
        if stray:
            found[start] = stray
    return found


def _in_use(page: bytes, header: int, pages: int) -> Iterator[tuple[int, int]]:
    """Yield what is in use of a page, as begin and end; the whole of it if it is none of a b-tree."""
    kind = page[header]
    yield 0, header
    if kind not in (INTERIOR_INDEX, INTERIOR_TABLE, LEAF_INDEX, LEAF_TABLE):
        yield from _numbers_of_free_pages(page, pages)
        return
    length = 12 if kind in (INTERIOR_INDEX, INTERIOR_TABLE) else 8
    freeblock, cells = unpack_from(">HH", page, header + 1)
    yield header, header + length + 2 * cells
    for at in unpack_from(f">{cells}H", page, header + length):
        yield at, at + max(4, _cell_length(page, at, kind))
    while freeblock:
        yield freeblock, freeblock + 4
        (freeblock,) = unpack_from(">H", page, freeblock)


def _numbers_of_free_pages(page: bytes, pages: int) -> Iterator[tuple[int, int]]:
    """Yield where the number of a page stands: there are lists of free ones, longer before than now."""
    for at in range(0, PAGE, 4):
        if unpack_from(">I", page, at)[0] <= pages:
            yield at, at + 4


def _cell_length(page: bytes, at: int, kind: int) -> int:
    begin = at
    if kind in (INTERIOR_INDEX, INTERIOR_TABLE):
        at += 4
    if kind == INTERIOR_TABLE:
        return _varint(page, at)[1] - begin
    payload, at = _varint(page, at)
    if kind == LEAF_TABLE:
        _row, at = _varint(page, at)
    assert payload < 1000 or kind == LEAF_TABLE, "rows of ours are never so long that they overflow"
    return at + payload - begin


def _varint(page: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length, and where it ends."""
    number = 0
    for length in range(1, 9):
        number = number << 7 | page[at + length - 1] & 0x7F
        if page[at + length - 1] < 0x80:
            return number, at + length
    return number << 8 | page[at + 8], at + 9
