"""What a client asks of the control plane, and what its refusals mean here."""

import re
from collections.abc import Sequence
from functools import partial
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from pathlib import Path
from typing import NoReturn

from exuvia.client.gateways import Address
from exuvia.client.state import Device, Grant
from exuvia.errors import (
    AccountInactive,
    ControlPlaneUnreachable,
    InvalidConfiguration,
    InvalidKey,
    KeyRefused,
    Unavailable,
    UnknownCredential,
)
from exuvia.messages import (
    Applied,
    DeviceRegistered,
    DeviceState,
    GatewayListing,
    KeyRegistered,
    ProveKey,
    RegisterDevice,
    ServerKey,
)
from exuvia.rules import possession
from exuvia.system.http import Connection, Response
from exuvia.wg.keys import PresharedKey, PrivateKey, PublicKey

WAIT = 5
"""Seconds that the control plane may take to say that all gateways know a key."""


class ControlPlane:
    """The control plane as one device sees it."""

    def __init__(
        self,
        url: str,
        *,
        ca_file: str | None = None,
        token: str = "",
        addresses: Sequence[Address] = (),
        mark: int | None = None,
    ) -> None:
        """
        `token` is the device's, once it has one; `mark` goes on every packet.

        `addresses` are used instead of looking the name up.
        """
        self.token = token
        self._connect = partial(
            Connection,
            url,
            ca_file=None if ca_file is None else Path(ca_file),
            addresses=[str(address) for address in addresses],
            mark=mark,
        )
        self._connection = self._connect()
        self._worn: list[Connection] = []

    async def register(self, account: str, key: PrivateKey) -> tuple[Device, Grant]:
        """Register a device by its key; with the same account and key, the same device again."""
        if not re.fullmatch(r"[!-~]{1,256}", account):
            raise InvalidConfiguration("that is not an account number: one word of letters and digits")
        body = RegisterDevice(public_key=key.public_key().text(), proof=await self._proof(key))
        response = await self._connection.request("POST", "/v1/devices", bearer=account, body=body)
        if response.status != 201:
            _refuse_registration(response)
        answer = response.decode(DeviceRegistered)
        return Device(answer.id, answer.name, answer.token), _granted(answer)

    async def device(self) -> DeviceState:
        """Return what the control plane knows of this device."""
        response = await self._ask("GET", "/v1/device")
        _require(response, 200)
        return response.decode(DeviceState)

    async def gateways(self) -> list[GatewayListing]:
        """Return the gateways that there are."""
        response = await self._ask("GET", "/v1/gateways")
        _require(response, 200)
        return response.decode(list[GatewayListing])

    async def applied(self, grant: Grant) -> bool:
        """Say whether every live gateway knows the key of this grant; wait up to WAIT seconds for it."""
        path = f"/v1/applied?epoch={grant.epoch}&revision={grant.revision}&wait={WAIT}"
        response = await self._ask("GET", path)
        _require(response, 200)
        return response.decode(Applied).applied

    async def register_key(self, key: PrivateKey) -> Grant:
        """Register the device's next key; the same key again gets the same grant. KeyRefused: use another."""
        proof, path = await self._proof(key), f"/v1/device/keys/{key.public_key().path()}"
        response = await self._ask("PUT", path, None if proof is None else ProveKey(proof))
        if response.status in (400, 409, 422):
            raise KeyRefused(f"the control plane refused the new key: {explanation(response)}")
        _require(response, 200)
        return _granted(response.decode(KeyRegistered))

    async def confirm(self, key: PublicKey) -> bool:
        """Say that the next key works; False if the control plane does not have it as that."""
        response = await self._ask("POST", f"/v1/device/keys/{key.path()}/confirm")
        if response.status in (404, 409):
            return False
        _require(response, 204)
        return True

    async def retire(self, key: PublicKey) -> bool:
        """Delete a key, which may be gone already; False if it is the device's only one."""
        response = await self._ask("DELETE", f"/v1/device/keys/{key.path()}")
        if response.status == 409:
            return False
        _require(response, 204)
        return True

    async def log_out(self) -> None:
        """Delete the device; a token that nobody knows any more means that it is gone already."""
        response = await self._ask("DELETE", "/v1/device")
        if response.status != 401:
            _require(response, 204)

    async def close(self) -> None:
        """Close the connection."""
        for connection in (*self._worn, self._connection):
            await connection.close()

    def renew(self) -> None:
        """Use another connection from now on: the address that this one came from is gone."""
        self._worn.append(self._connection)
        self._connection = self._connect()

    async def _ask(self, method: str, path: str, body: object | None = None) -> Response:
        return await self._connection.request(method, path, bearer=self.token, body=body)

    async def _proof(self, key: PrivateKey) -> str | None:
        """Return what proves that the key is ours; None if the control plane is too old to ask for it."""
        response = await self._connection.request("GET", "/v1/possession")
        if response.status == 404:
            return None
        _require(response, 200)
        try:
            server_key = PublicKey.from_text(response.decode(ServerKey).server_key)
        except InvalidKey:
            raise ControlPlaneUnreachable("the answer is not a control plane's") from None
        return possession.text(key.shared_with(server_key), server_key, key.public_key())


def explanation(response: Response) -> str:
    """Return what a refusal says of itself, as one line that is safe to print."""
    problem = response.problem()
    text = "" if problem is None else problem.detail or problem.title
    printable = "".join(c if c.isprintable() else " " for c in text).strip()
    return printable[:200] or f"status {response.status}"


def _require(response: Response, status: int) -> None:
    if response.status == status:
        return
    if response.status == 401:
        raise UnknownCredential(
            "the control plane does not know this device: it was removed, or its account is gone"
        )
    if response.status == 403:
        raise AccountInactive(f"the account is not active: {explanation(response)}")
    _fail(response)


def _refuse_registration(response: Response) -> NoReturn:
    if response.status == 401:
        raise UnknownCredential(
            "the control plane does not accept this account number. If the account has a second factor, log "
            "in on the website, and give the device code that it shows instead of the number"
        )
    if response.status in (400, 409, 422):
        raise KeyRefused(f"the control plane refused to register this device: {explanation(response)}")
    if response.status == 403:
        raise AccountInactive(f"the control plane refused to register this device: {explanation(response)}")
    _fail(response)


def _fail(response: Response) -> NoReturn:
    if response.status == 429 or response.status >= 500:
        raise Unavailable(f"the control plane can't answer now: {explanation(response)}")
    raise ControlPlaneUnreachable(f"unexpected answer of the control plane: {explanation(response)}")


def _granted(answer: DeviceRegistered | KeyRegistered) -> Grant:
    try:
        four, six = sorted(map(ip_interface, answer.addresses), key=lambda address: address.version)
        if not (isinstance(four, IPv4Interface) and isinstance(six, IPv6Interface)):
            raise ValueError
        if (four.network.prefixlen, six.network.prefixlen) != (32, 128) or not _is_plain(answer.epoch):
            raise ValueError
        psk = PresharedKey.from_text(answer.preshared_key)
        return Grant(four.ip, six.ip, psk, answer.revision, answer.epoch)
    except (ValueError, InvalidKey):
        raise ControlPlaneUnreachable("the answer is not a control plane's") from None


def _is_plain(text: str) -> bool:
    """Say whether this may stand in a URL as it is."""
    return re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text) is not None
