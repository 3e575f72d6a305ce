"""Another key in a configuration file: the rest stays as somebody wrote it."""

import pytest

from exuvia.errors import InvalidConfiguration
from exuvia.wg import conf
from exuvia.wg.keys import PresharedKey, PrivateKey
from exuvia.wg.rekeying import is_saved_by_wg_quick, noted, notes, rekeyed

KEY = PrivateKey(bytes([7]) * 32)
PRESHARED = PresharedKey(bytes([8]) * 32)
OLD = f"""# my tunnel
[interface]
privatekey={PrivateKey(bytes(32)).text()}
  Address = 10.0.0.5/32
Address = fd00::5/128
DNS = 10.0.0.1   # theirs
PostUp = echo hello = world

[Peer]
# Amsterdam
PublicKey = {PrivateKey(bytes([9]) * 32).public_key().text()}
Endpoint = gw.example:51820
AllowedIPs = 0.0.0.0/0, ::/0
"""


def test_only_keys_and_addresses_change() -> None:
    """The file has the new key, addresses and preshared key, and each other line as before."""
    new = rekeyed(OLD, KEY, ["10.9.9.9/32", "fd00::9/128"], PRESHARED)
    found = conf.read(new)
    assert found.private_key == KEY
    assert [str(address) for address in found.addresses] == ["10.9.9.9/32", "fd00::9/128"]
    assert found.peers[0].peer.preshared_key == PRESHARED
    kept = [line for line in OLD.splitlines() if "rivatekey" not in line and "Address =" not in line]

    assert [line for line in new.splitlines() if line in kept] == kept
    assert rekeyed(new, KEY, ["10.9.9.9/32", "fd00::9/128"], PRESHARED) == new


def test_notes_are_comments() -> None:
    """What is noted is read again, replaces what was noted before, and is passed over by wg-quick."""
    once = noted(OLD, {"control": "https://a.example", "token": "first"})
    again = noted(once, {"control": "https://b.example", "token": "second"})
    assert notes(again) == {"control": "https://b.example", "token": "second"}
    assert conf.read(again) == conf.read(OLD)
    assert notes(OLD) == {}

    with pytest.raises(InvalidConfiguration):
        noted(OLD, {"token": "two words"})


def test_a_file_that_wg_quick_writes_itself_is_known() -> None:
    """SaveConfig is seen in any spelling, and not in a comment."""
    assert is_saved_by_wg_quick(OLD.replace("DNS", "saveconfig=TRUE\nDNS"))
    assert not is_saved_by_wg_quick(OLD.replace("DNS", "# SaveConfig = true\nDNS"))
