"""Logging in and out: how a device comes into being, and how nothing of it stays."""

from collections.abc import Callable

from exuvia.client.control import ControlPlane
from exuvia.client.gateways import Known, addresses_of, locate
from exuvia.client.state import FORMAT, ClientKey, ClientState, Device, StateFolder
from exuvia.errors import AlreadyLoggedIn, ControlPlaneUnreachable, KeyRefused, Unavailable
from exuvia.rules import schedule
from exuvia.rules.schedule import Moment
from exuvia.system import clock, entropy, files
from exuvia.system.http import location
from exuvia.wg.keys import KEY_LENGTH, PrivateKey

Say = Callable[[str], None]


async def log_in(
    folder: StateFolder, url: str, *, ca_file: str | None, account: Callable[[], str], say: Say
) -> None:
    """
    Make a key, register it, and keep what the control plane gives for it.

    `account` returns the account number, which is used once and not kept. After a failure at
    any point the same login can be tried again: it leads to the same device.
    """
    location(url)
    folder.create()
    with folder.lock():
        _require_logged_out(folder.load())
        control = ControlPlane(url, ca_file=ca_file)
        try:
            await _register(folder, control, url, ca_file, account())
            await _get_ready(folder, control, say)
        finally:
            await control.close()


async def learn(control: ControlPlane, *, known: Known, look_up: bool = True) -> Known:
    """
    Return what is said of the network now; `known` has the control plane's addresses.

    Without looking up, which a closed kill switch would not let through, a gateway with a name
    is where it was.
    """
    listings = await control.gateways()
    return Known(known.control, await locate(listings, known=None if look_up else known.gateways))


async def log_out(folder: StateFolder, *, offline: bool, say: Say) -> None:
    """
    Delete the device at the control plane, then everything of it here.

    With `offline` the control plane is not told, and the state may even be damaged.
    """
    if not folder.folder.is_dir():
        raise folder.not_logged_in()
    with folder.lock():
        state = None if offline else folder.load()
        if state is None and not offline:
            # An earlier logout may have been cut short.
            folder.erase()
            raise folder.not_logged_in()
        if state is not None and state.device is not None:
            await _delete(state, state.device)
        folder.erase()
    if offline:
        say("forgotten here; the control plane was not told, and keeps the device until it is removed there")
    else:
        say("logged out: the device is deleted, and its keys are erased")


async def _register(
    folder: StateFolder, control: ControlPlane, url: str, ca_file: str | None, account: str
) -> None:
    saved = folder.load()
    reusable = saved.pending if saved is not None and saved.control == url else None
    key = _new_key() if reusable is None else reusable.private_key
    folder.save(ClientState(FORMAT, "registering", url, ca_file, pending=ClientKey(key)))
    try:
        device, grant = await control.register(account, key)
    except KeyRefused:
        # This key will never do for this account. Another may: an earlier login may have
        # registered it with another account and lost the answer.
        folder.erase()
        if reusable is None:
            raise
        await _register(folder, control, url, ca_file, account)
        return
    now = Moment(clock.wall().timestamp(), clock.boottime(), clock.boot())
    due = schedule.drawn(schedule.USUAL, chance=entropy.bits(32) / 2**32, now=now)
    folder.save(ClientState(FORMAT, "settled", url, ca_file, device, ClientKey(key, grant), due=due))


async def _get_ready(folder: StateFolder, control: ControlPlane, say: Say) -> None:
    """Learn where to connect to, and wait a little until one can; neither is needed to be logged in."""
    state, device, _, grant = folder.require()
    say(f"logged in: this device is called {device.name}")
    try:
        known = Known(control=await addresses_of(*location(state.control)))
        control.token = device.token
        known = await learn(control, known=known)
        files.write(folder.known, known.encode())
        if not known.gateways:
            say("the control plane has no gateway yet")
        elif not await control.applied(grant):
            say("not every gateway knows the new key yet: `exuvia client up` waits for them")
    except Unavailable as error:
        say(f"what gateways there are is not known yet: {error}")


async def _delete(state: ClientState, device: Device) -> None:
    control = ControlPlane(state.control, ca_file=state.ca_file, token=device.token)
    try:
        await control.log_out()
    except Unavailable as error:
        raise ControlPlaneUnreachable(
            f"{error}; nothing was erased. Try again, or use --offline to forget the device here only"
        ) from None
    finally:
        await control.close()


def _new_key() -> PrivateKey:
    return PrivateKey(entropy.octets(KEY_LENGTH))


def _require_logged_out(state: ClientState | None) -> None:
    if state is not None and state.device is not None:
        raise AlreadyLoggedIn(
            f"already logged in: this device is called {state.device.name}; `exuvia client logout` first"
        )
