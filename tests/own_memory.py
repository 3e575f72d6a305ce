"""Searching a process's own memory for what it should not hold."""

TURNED_OVER = bytes(range(255, -1, -1))


def masked(secret: bytes) -> bytes:
    """Return bytes with all their bits turned over: a search for them must not find itself."""
    return secret.translate(TURNED_OVER)


def copies_of(mask: bytes) -> int:
    """Count what has been masked in all writable memory of this process, leaving no copy behind."""
    window = bytearray(1 << 20)
    count = 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps.read().splitlines():
            span, mode, *_ = line.split()
            place, end = (int(number, 16) for number in span.split("-"))
            while place < end and mode.startswith("rw"):
                try:
                    memory.seek(place)
                    length = memory.readinto(memoryview(window)[: end - place])
                except OSError:
                    break
                turned = window.translate(TURNED_OVER)
                window[:] = bytes(len(window))
                count += turned.count(mask, 0, length)
                place += length
    return count
