"""What goes wrong in the life of a client."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from landscape import YEAR
from office import HOUR

from exuvia.rules.schedule import DAY

if TYPE_CHECKING:
    from biography import Biography

Mishap = Callable[["Biography"], None]


def _for_a_while(life: "Biography") -> float:
    """Most things last for minutes, some for an hour."""
    return life.random.choice((5.0, 60.0, 200.0, 200.0, 400.0, HOUR)) * (0.5 + life.random.random())


def _set(life: "Biography", thing: object, name: str, value: object, what: str) -> None:
    before = getattr(thing, name)
    if life.goes_wrong(what, _for_a_while(life), lambda: setattr(thing, name, before)):
        setattr(thing, name, value)


def control_plane_away(life: "Biography") -> None:
    """The control plane can't be reached by anybody."""
    _set(life, life.office, "up", False, "control plane away")


def direct_way_blocked(life: "Biography") -> None:
    """A hotel lets nothing through to the control plane but what goes through the tunnel."""
    _set(life, life.trouble, "direct_blocked", True, "direct way blocked")


def offline(life: "Biography") -> None:
    """There is no network."""
    _set(life, life.trouble, "offline", True, "offline")


def answers_lost(life: "Biography") -> None:
    """What is asked is done, but the answer is lost, every other time."""
    _set(life, life.trouble, "lose", 0.5, "answers lost")


def asked_twice(life: "Biography") -> None:
    """Every request arrives twice, from now on or no more: that is no excuse for anything."""
    life.trouble.twice = 1.0 - life.trouble.twice
    life.tell("asked twice")


def disk_full(life: "Biography") -> None:
    """Nothing can be saved."""
    _set(life, life.trouble, "disk_full", True, "disk full")


def gateways_late(life: "Biography") -> None:
    """Every gateway takes its time to learn of changes."""
    for gateway in life.office.gateways:
        _set(life, gateway, "lag", 5 + 85 * life.random.random(), f"{gateway.name} late")


def gateway_deaf(life: "Biography") -> None:
    """A gateway learns of nothing, though it is there."""
    gateway = life.random.choice(life.office.gateways)

    def undo() -> None:
        gateway.follows = True
        life.office.follow(gateway)

    if life.goes_wrong(f"{gateway.name} deaf", _for_a_while(life), undo):
        gateway.follows = False


def gateway_forgets(life: "Biography") -> None:
    """A gateway loses its keys, until somebody notices."""
    gateway = life.random.choice(life.office.gateways)
    if life.goes_wrong(f"{gateway.name} forgets", _for_a_while(life), lambda: life.office.follow(gateway)):
        gateway.table.clear()


def locked_out(life: "Biography") -> None:
    """No gateway accepts the key that the client connects with ever again, though all know it."""
    for gateway in life.office.gateways:
        gateway.locked.add(bytes(life.keeper.current[0].public_key()))
    life.disturbed("locked out")


def gateway_down(life: "Biography") -> None:
    """A gateway is not there."""
    gateway = life.random.choice(life.office.gateways)

    def undo() -> None:
        gateway.up = True
        life.office.follow(gateway)

    if life.goes_wrong(f"{gateway.name} down", _for_a_while(life), undo):
        gateway.up, gateway.down_since = False, life.true.now


def suspended(life: "Biography") -> None:
    """The account is suspended, and resumed."""
    if life.goes_wrong("suspended", _for_a_while(life), lambda: setattr(life.office, "active", True)):
        life.office.suspend()
        life.put_back("every key is deleted")


def restored(life: "Biography") -> None:
    """A backup is put back, which holds devices but no keys."""
    life.office.restore(with_keys=False)
    life.put_back("restored without keys")


def rewound(life: "Biography") -> None:
    """A copy of the database from a while ago is put back, with the keys of then."""
    life.office.back_up()

    def put_back() -> None:
        if life.office.active:
            life.office.restore(with_keys=True)
            life.put_back("rewound")

    life.later(life.random.choice((0.05, 0.5, 5.0, HOUR)) * life.random.random(), put_back)


def killed(life: "Biography") -> None:
    """The client is killed, now or soon."""

    def kill() -> None:
        life.trouble.dead = True
        life.disturbed("killed")

    life.later(life.random.choice((0.0, 0.3, 2.0, 20.0)) * life.random.random(), kill)


def power_cut_while_saving(life: "Biography") -> None:
    """The power is cut in the middle of the next write."""
    life.disk.cut = True
    life.disturbed("power is about to be cut")


def power_cut(life: "Biography") -> None:
    """The machine is off for a while, and comes back with a clock that may be wrong."""
    _clock(life, life.random.choice((0.0, 0.0, -YEAR, YEAR)))
    life.switch_off(life.random.choice((5.0, 300.0, 8 * HOUR, 3 * DAY, 40 * DAY)) * life.random.random())


def asleep(life: "Biography") -> None:
    """The machine is suspended."""
    seconds = life.random.choice((5.0, 30.0, HOUR, 8 * HOUR, 3 * DAY, 40 * DAY))
    life.true.sleep_through(seconds)
    life.office.tick()
    life.disturbed(f"asleep: for {seconds:.0f} s")


def clock_stepped(life: "Biography") -> None:
    """The time of day steps while the machine runs."""
    _clock(life, life.random.choice((-HOUR, HOUR, -YEAR, YEAR, -40 * DAY, 40 * DAY)))


def _clock(life: "Biography", wrong: float) -> None:
    if wrong and life.goes_wrong(
        "clock wrong", _for_a_while(life), lambda: setattr(life.clock, "wrong", 0.0)
    ):
        life.clock.wrong = wrong


MISHAPS: tuple[Mishap, ...] = (
    *(control_plane_away, direct_way_blocked, offline, answers_lost, asked_twice, disk_full),
    *(gateways_late, gateway_deaf, gateway_forgets, gateway_down, locked_out),
    *(suspended, restored, rewound),
    *(killed, killed, killed, power_cut_while_saving, power_cut, asleep, clock_stepped),
)
