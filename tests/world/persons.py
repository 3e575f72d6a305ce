"""What people and operators do: they open accounts, register, log out, are suspended, and come back."""

from control import ControlPlane
from machine import EPOCH_OF_TIME
from model import Account, Broken
from scene import DAY, Scene

from exuvia.errors import (
    AccountInactive,
    AddressPoolExhausted,
    DeviceLimitReached,
    KeyRefused,
    Refused,
    UnknownCredential,
)


class Persons(Scene):
    """Accounts and devices."""

    def open_account(self) -> None:
        name = f"account {len(self.numbers) + 1}"
        alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
        id, number = self.chance.randbytes(16), "".join(self.chance.choices(alphabet, k=28))
        expires = None
        if self.chance.random() < 0.3:
            expires = (self.clocks.now // DAY + self.chance.randrange(1, 6)) * DAY
        limit = self.chance.randrange(1, 5)
        last_day = None if expires is None else self._day(expires - 1)
        if self._plane is None:
            return
        self.tell(f"{name} is opened: for {limit} devices")
        self._plane.create_account(id, number, device_limit=limit, expires=last_day)
        self.numbers[name] = (id, number)
        self.model.people.accounts[name] = Account(limit, expires)

    def register(self) -> None:
        name = self._some(self.model.people.accounts)
        if name is not None:
            self.devices += 1
            self._register(name, f"device {self.devices}", self._new_key())

    def register_again(self) -> None:
        """Somebody whose answer was lost asks again, or somebody takes another's key."""
        device = self._some(self.model.people.devices)
        account = self._some(self.model.people.accounts)
        if device is None or account is None:
            return
        known = self.model.people.devices[device]
        if known.key is None:
            return
        if self.chance.random() < 0.7:
            account = known.account
        self._register(account, device, known.key)

    def _register(self, account: str, device: str, key: bytes) -> None:
        people, plane = self.model.people, self._plane
        if plane is None:
            return
        self.tell(f"{device} registers: with {account}")
        known, now = people.accounts[account], self.clocks.now
        active = self._active(account)
        owner = next((d.account for d in people.devices.values() if d.key == key), None)
        others = {name: d for name, d in people.devices.items() if d.account == account}
        full = len(others) >= known.device_limit
        useless = [name for name, d in others.items() if d.key is None]
        granted = active and (owner == account or (owner is None and (not full or bool(useless))))
        try:
            made, token = plane.register(self.numbers[account][1], key)
        except AddressPoolExhausted:
            return
        except Refused as refusal:
            if granted:
                raise Broken(f"{device} was refused: {type(refusal).__name__}") from refusal
            expected = UnknownCredential if not active else DeviceLimitReached if full else KeyRefused
            if not isinstance(refusal, expected | KeyRefused):
                raise Broken(f"{device} got a refusal for the wrong reason") from refusal
            return
        if not granted:
            raise Broken(f"{device} was registered and should not have been")
        if full and owner is None:
            self._make_room(plane, useless)
        self.model.registered(device, account, bytes(made.peer), token, now=now)

    def _make_room(self, plane: ControlPlane, useless: list[str]) -> None:
        """Exactly one device that has no key any more has given way to the new one."""
        gone = []
        for name in useless:
            try:
                plane.device(self.model.people.devices[name].token)
            except UnknownCredential:
                gone.append(name)
        if len(gone) != 1:
            raise Broken("a device was deleted that should have stayed, or too many were let in")
        del self.model.people.devices[gone[0]]

    def _active(self, account: str) -> bool:
        """
        Say whether an account may do anything, by the time that the control plane believes it is.

        It may be some minutes late, or, started with a wrong clock, some hours.
        """
        plane, known = self._plane, self.model.people.accounts[account]
        assert plane is not None
        believed = plane.control.clock.wall - EPOCH_OF_TIME.timestamp()
        return self.model.active(known, now=believed)

    def log_out(self) -> None:
        device, plane = self._some(self.model.people.devices), self._plane
        if device is None or plane is None:
            return
        self.tell(f"{device} logs out")
        plane.log_out(self.model.people.devices[device].token)
        self._forget_device(device)

    def delete_device(self) -> None:
        device, plane = self._some(self.model.people.devices), self._plane
        if device is None or plane is None:
            return
        account = self.model.people.devices[device].account
        if not self._active(account):
            return
        self.tell(f"{device} is deleted: by its account")
        id = plane.control.hasher.device(self.model.people.devices[device].token)
        assert id is not None
        plane.delete_device(self.numbers[account][1], id.device_id)
        self._forget_device(device)

    def _forget_device(self, device: str) -> None:
        key = self.model.people.devices[device].key
        self._revoke([] if key is None else [key])
        del self.model.people.devices[device]

    def suspend(self) -> None:
        name, plane = self._some(self.model.people.accounts), self._plane
        if name is None or plane is None:
            return
        self.tell(f"{name} is suspended")
        plane.suspend(self.numbers[name][0])
        self.model.people.accounts[name].suspended = True
        self._revoke(self.model.keys_of(name))
        for known in self.model.people.devices.values():
            if known.account == name:
                try:
                    plane.device(known.token)
                except AccountInactive:
                    continue
                raise Broken("a device of a suspended account is still let in")

    def resume(self) -> None:
        suspended = [name for name, known in self.model.people.accounts.items() if known.suspended]
        name = self._some(suspended)
        if name is None or self._plane is None:
            return
        self.tell(f"{name} is resumed")
        self._plane.resume(self.numbers[name][0])
        self.model.people.accounts[name].suspended = False

    def cancel(self) -> None:
        name, people = self._some(self.model.people.accounts), self.model.people
        if name is None or self._plane is None:
            return
        self.tell(f"{name} is cancelled")
        self._plane.cancel(self.numbers[name][0])
        self._revoke(self.model.keys_of(name))
        people.devices = {n: d for n, d in people.devices.items() if d.account != name}
        del people.accounts[name]

    def come_back(self) -> None:
        """A device that lost its key logs out and in again, with the same key or a new one."""
        people, plane = self.model.people, self._plane
        device = self._some([name for name, known in people.devices.items() if known.key is None])
        if device is None or plane is None:
            return
        account = people.devices[device].account
        if not self._active(account):
            return
        self.tell(f"{device} logs in anew")
        known = people.devices.pop(device)
        plane.log_out(known.token)
        key = known.last_key if self.chance.random() < 0.6 else self._new_key()
        self._register(account, device, key)

    def _revoke(self, keys: list[bytes]) -> None:
        self.model.revoked(keys, now=self.believed_now())
        for name, site in self.sites.items():
            station = self.model.stations[name]
            is_told = site.talker is not None and site.talker.streaming
            if is_told:
                self._expect_gone(name, keys)
            if self.clocks.now < station.limbo_ends:
                station.unheard.update(keys)
                # Back and gone again, before this gateway had heard that they were back.
                back = station.first_ends.keys() & set(keys)
                station.limbo.update(dict.fromkeys(back, station.limbo_ends))
            if not site.following:
                station.mistake_the_unheard()

    def _expect_gone(self, name: str, keys: list[bytes]) -> None:
        """From a moment after a gateway was told on, it must never have these keys again."""
        station = self.model.stations[name]

        def check() -> None:
            kernel, site = self.sites[name].machine.kernel, self.sites[name]
            still = [key for key in keys if key not in self.model.people.peers]
            if (
                kernel is None
                or site.daemon is None
                or not set(still).isdisjoint([*kernel.peers, *site.known()])
            ):
                return
            station.gone.update(still)

        self.later(1.0, check)

    def _expire(self) -> None:
        """Accounts whose last day is over lose their keys, unless the wall clock is known to be wrong."""
        plane = self._plane
        if plane is None or plane.control.clock.paused:
            return
        for name, account in self.model.people.accounts.items():
            if not account.suspended and not self._active(name):
                keys = self.model.keys_of(name)
                if keys:
                    self.tell(f"{name} expires")
                self._revoke(keys)
