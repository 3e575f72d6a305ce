"""The fake interface keeps the contract of the real ones, and can do what they seldom do."""

import errno

import pytest

from exuvia.errors import InterfaceUnavailable
from exuvia.system.interface import WireGuardInterface
from exuvia.testing.interface import FakeInterface
from exuvia.wg.interface import Look
from exuvia.wg.peers import Sighting
from interface_contract import PORT, InterfaceContract, Meet, client, configured, seen
from wireguard_samples import ENDPOINT4, peer, private_key, table


@pytest.fixture(params=[False, True], ids=["like x86", "aligned"])
def fake(request: pytest.FixtureRequest) -> FakeInterface:
    """An interface that is not there."""
    interface = FakeInterface(padded=request.param)
    interface.configure(private_key=private_key(0), listen_port=PORT)
    return interface


@pytest.fixture
def opened(fake: FakeInterface) -> WireGuardInterface:
    """The same, as its users know it: mypy sees here that it keeps the protocol."""
    return fake


@pytest.fixture
def meet(fake: FakeInterface) -> Meet:
    """Let a client have had traffic."""

    def have_traffic(number: int) -> None:
        fake.kernel.meet(
            client(number)[:32], handshake=1_700_000_000_000_000_001, rx=180, tx=92, endpoint=ENDPOINT4
        )

    return have_traffic


class TestFakeInterface(InterfaceContract):
    """The contract, kept by the fake."""


def test_failures_are_told_by_key_and_do_not_stop_the_others(fake: FakeInterface) -> None:
    """The message of one peer fails, those before and behind it are carried out."""
    wanted = table(9)
    bad = list(wanted)[4]
    fake.kernel.refuse[bad] = errno.EINVAL

    assert fake.apply(wanted.values()) == [bad]
    assert fake.compare(wanted).equal == 8
    assert fake.purge(wanted.values()) == [bad]


def test_a_purge_that_failed_may_have_lost_the_addresses_and_is_mended_by_another(
    fake: FakeInterface,
) -> None:
    """The kernel stops in the middle of a message; what it did stays done; the same again mends it."""
    wanted = table(2)
    fake.apply(wanted.values())
    bad = next(iter(wanted))
    fake.kernel.refuse[bad] = errno.ENOMEM
    fake.purge([wanted[bad]])
    assert configured(fake)[bad].allowed_ips == ()

    fake.kernel.refuse.clear()
    assert fake.purge([wanted[bad]]) == []
    assert fake.compare(wanted).equal == 2


def test_each_peer_is_one_message_and_a_purge_too(fake: FakeInterface) -> None:
    """As many messages as peers: none holds the kernel's lock for more than one of them."""
    fake.kernel.messages.clear()
    fake.apply(table(300).values())
    fake.purge(table(300).values())

    assert len(fake.kernel.messages) == 600


def test_a_crash_between_messages_loses_no_peer(fake: FakeInterface) -> None:
    """Killed after any message of a purge, every peer is there with its addresses."""
    wanted = table(20)
    fake.apply(wanted.values())

    class Killed(BaseException):
        pass

    for allowed in range(20):
        count = 0

        def stop(message: bytes, allowed: int = allowed) -> None:
            nonlocal count
            count += 1
            if count > allowed:
                raise Killed

        fake.kernel.before_message = stop
        with pytest.raises(Killed):
            fake.purge(wanted.values())
        assert fake.compare(wanted).equal == 20


def test_a_peer_with_more_addresses_than_a_message_holds_is_told_as_failed(fake: FakeInterface) -> None:
    """It is not touched, and the others are purged."""
    huge = peer(1, *(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}/32" for n in range(2_400)))

    assert fake.purge([peer(2), huge, peer(3)]) == [huge.public_key]
    assert configured(fake).keys() == {peer(2).public_key, peer(3).public_key}


def test_a_change_by_others_is_noticed_on_the_message_after_it(fake: FakeInterface) -> None:
    """Like the kernel, the fake says NLM_F_DUMP_INTR once; the look is then not whole."""
    wanted = {bytes(one[:32]): one for one in (client(n) for n in range(1, 60))}
    fake.apply(wanted.values())
    fake.kernel.meet(client(1)[:32], rx=1)

    def interfere(sightings: list[Sighting]) -> None:
        fake.kernel.touch()

    assert fake.look(interfere, small=True) == Look(59, whole=False)


def test_a_comparison_is_tried_again_until_it_is_whole(fake: FakeInterface) -> None:
    """One interruption costs another dump; at the third, the result says that it proves nothing."""
    fake.apply(table(10).values())
    fake.kernel.interrupt_message = 0

    assert not fake.compare(table(10)).whole


def test_the_dump_ends_early_if_its_cursor_is_removed(fake: FakeInterface) -> None:
    """As in the kernel: the only sign is the interruption."""
    wanted = {bytes(one[:32]): one for one in (client(n) for n in range(1, 400))}
    fake.apply(wanted.values())
    fake.kernel.meet(client(1)[:32], rx=1)
    look = fake.look(lambda _: fake.apply(remove=list(wanted)) and None, small=True)

    assert look.peers < 399
    assert not look.whole


def test_an_interface_that_went_away_is_unavailable(fake: FakeInterface) -> None:
    """Every question ends in the same error."""
    fake.kernel.gone = True
    for ask in (
        fake.facts,
        lambda: seen(fake),
        lambda: fake.compare({}),
        lambda: fake.purge([client(1)]),
        lambda: fake.apply(remove=[bytes(32)]),
        lambda: fake.configure(listen_port=1),
    ):
        with pytest.raises(InterfaceUnavailable, match="gone"):
            ask()


def test_a_dump_that_ends_in_an_error_is_an_error(fake: FakeInterface) -> None:
    """NLMSG_DONE with an errno is not taken for an empty interface."""
    fake.kernel.dump_errno = errno.ENOMEM

    with pytest.raises(InterfaceUnavailable):
        fake.compare(table(3))


def test_nothing_of_a_dump_stays_in_the_buffer(fake: FakeInterface) -> None:
    """The buffer is zeros again after each reading, also after one that failed."""
    fake.apply(table(50).values())
    fake.kernel.meet(next(iter(table(1))), endpoint=ENDPOINT4)

    def fail(sightings: list[Sighting]) -> None:
        assert any(fake.kernel.buffer)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fake.look(fail)
    assert not any(fake.kernel.buffer)
    seen(fake)
    assert not any(fake.kernel.buffer)
