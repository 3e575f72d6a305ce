"""How long to wait before trying again."""

FIRST = 0.2
LONGEST = 15.0


def pause(failures: int, *, chance: float, longest: float = LONGEST) -> float:
    """
    Return the seconds to wait after so many failures in a row.

    It doubles from 0.2 s up to `longest`; `chance`, between 0 and 1, spreads it over the upper
    half, so that a thousand gateways do not come back in the same instant.
    """
    # Beyond this many doublings the longest is reached in any case.
    doubled = FIRST * 2.0 ** min(max(failures, 1) - 1, 32)
    return min(doubled, longest) * (1 + chance) / 2
