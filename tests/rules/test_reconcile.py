"""From the interface there is to the peer table there should be."""

from exuvia.rules.reconcile import ATTEMPTS, Plan, Reconciler
from exuvia.wg.interface import Comparison

A, B, C, D = (letter * 32 for letter in (b"a", b"b", b"c", b"d"))


def found(**what: object) -> Comparison:
    """Return what a whole reading found."""
    return Comparison(**{"whole": True, **what})  # type: ignore[arg-type]


def test_an_interface_that_is_right_is_left_alone() -> None:
    """Where nothing differs nothing is done, and there is no need to look again soon."""
    assert Reconciler().plan(found(equal=3, bare=[A], foreign=2)) == Plan([], [], again=False)


def test_what_differs_or_is_missing_is_put_and_strangers_go() -> None:
    """Peers of the table are mended, and peers in the pools that are not in the table are removed."""
    plan = Reconciler().plan(found(different=[A], missing=[B], strangers=[C], bare=[D], foreign=1))

    assert plan == Plan([A, B], [C], again=True)


def test_from_an_interrupted_reading_nothing_is_removed_and_nothing_added() -> None:
    """What it says of a peer of the table is used; what it leaves out proves nothing."""
    plan = Reconciler().plan(found(whole=False, different=[A], missing=[B], strangers=[C]))

    assert plan == Plan([A], [], again=True)


def test_an_interrupted_reading_is_repeated_even_if_it_found_nothing() -> None:
    """Only a whole reading shows that an interface is right."""
    assert Reconciler().plan(found(whole=False)).again


def test_what_was_mended_is_looked_at_again() -> None:
    """After a change the interface is read again, to see that it worked; and then no more."""
    reconciler = Reconciler()

    assert reconciler.plan(found(missing=[A])).again
    assert not reconciler.plan(found()).again


def test_a_key_that_does_not_stay_mended_is_no_reason_to_look_again_and_again() -> None:
    """It is counted as stubborn and tried at the regular readings only, but it is tried."""
    reconciler = Reconciler()
    plans = [reconciler.plan(found(strangers=[A])) for _ in range(ATTEMPTS + 2)]

    assert [plan.again for plan in plans] == [True, True, False, False, False]
    assert all(plan.remove == [A] for plan in plans)
    assert reconciler.stubborn == 1


def test_another_key_is_still_looked_at_again() -> None:
    """A stubborn key does not keep others from being checked after they were mended."""
    reconciler = Reconciler()
    for _ in range(ATTEMPTS):
        reconciler.plan(found(different=[A]))

    assert reconciler.plan(found(different=[A], missing=[B])).again
    assert reconciler.stubborn == 1


def test_a_key_that_stays_is_stubborn_no_more() -> None:
    """Once a whole reading finds it right it starts anew; an interrupted one proves nothing."""
    reconciler = Reconciler()
    for _ in range(ATTEMPTS):
        reconciler.plan(found(missing=[A]))
    reconciler.plan(found(whole=False))
    assert reconciler.stubborn == 1
    reconciler.plan(found())

    assert reconciler.stubborn == 0
