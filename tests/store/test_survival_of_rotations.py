"""kill -9 in the midst of rotations: each step happened whole or not at all, and can be asked for again."""

import asyncio
import signal
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from control_plane import Server, fresh_key, server_in
from exuvia.errors import ControlPlaneUnreachable, ExuviaError
from exuvia.messages import DeviceRegistered, DeviceState
from exuvia.rules.overlap import Event, Standing, decide
from exuvia.system.http import Connection
from exuvia.wg.keys import PublicKey

DEVICES = 16
KILLS = 4
REQUESTS = {Event.PUT: ("PUT", ""), Event.CONFIRM: ("POST", "/confirm"), Event.DELETE: ("DELETE", "")}


@dataclass
class Rotating:
    """A device, the keys it was told it has, and what it has asked without an answer."""

    made: DeviceRegistered
    keys: dict[bytes, Standing]
    chance: Random
    asked: list[tuple[Event, PublicKey]] = field(default_factory=list)

    def wish(self) -> tuple[Event, PublicKey]:
        """Return what it may ask next: of a new key, or of one that it has."""
        event = self.chance.choice(list(REQUESTS))
        living = [PublicKey(key) for key, standing in self.keys.items() if standing != "retired"]
        return event, self.chance.choice([*living, fresh_key()])

    def after(self, asked: list[tuple[Event, PublicKey]]) -> dict[bytes, Standing]:
        """Return how its keys stand if this is done."""
        keys = dict(self.keys)
        for event, key in asked:
            try:
                keys |= decide(event, keys, key)
            except ExuviaError:
                continue
        return keys

    async def live(self, server: Server) -> None:
        """Ask on and on, until the server is gone."""
        connection = Connection(server.url)
        try:
            while True:
                event, key = self.wish()
                self.asked = [(event, key)]
                method, what = REQUESTS[event]
                answer = await connection.request(
                    method, f"/v1/device/keys/{key.path()}{what}", bearer=self.made.token
                )
                assert answer.status in (200, 204, 404, 409, 422, 429), answer
                if answer.status < 300:
                    self.keys = self.after(self.asked)
                self.asked = []
        except ControlPlaneUnreachable:
            await connection.close()

    def check(self, server: Server) -> None:
        """Compare what the server shows with what may be true, and take it over."""
        answer = server.ask("GET", "/v1/device", bearer=self.made.token)
        shown = {PublicKey.from_text(key.public_key): key.standing for key in answer.as_(DeviceState).keys}
        possible = [self.keys, self.after(self.asked)]
        assert shown in [{k: s for k, s in keys.items() if s != "retired"} for keys in possible]
        self.keys, self.asked = dict(shown), []


async def rotate_until_killed(server: Server, devices: list[Rotating], seconds: float) -> None:
    """Let all devices rotate, and kill the server in the midst of it."""
    running = [asyncio.ensure_future(device.live(server)) for device in devices]
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.stop, signal.SIGKILL)
    await asyncio.gather(*running)


def test_p16_rotations_survive_a_server_that_is_killed(tmp_path: Path) -> None:
    """Whatever was asked when it died was done or not; nobody is left without a key, or with three."""
    with server_in(tmp_path, "--retire-every", "1") as server:
        number = server.account(devices=DEVICES)
        devices = []
        for n in range(DEVICES):
            key = fresh_key()
            devices.append(Rotating(server.register(number, key.text()), {key: "current"}, Random(n)))
        for kill in range(KILLS):
            asyncio.run(rotate_until_killed(server, devices, 0.2 + 0.3 * kill))
            server.start()
            for device in devices:
                device.check(server)

    assert all(list(device.keys.values()).count("current") == 1 for device in devices)
