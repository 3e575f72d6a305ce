"""
WireGuard's own numbers, in seconds, under the names of the white paper (section 6.1).

The same names stand in the kernel's drivers/net/wireguard/messages.h.
"""

REKEY_AFTER_TIME = 120
REJECT_AFTER_TIME = 180
REKEY_TIMEOUT = 5
REKEY_ATTEMPT_TIME = 90
KEEPALIVE_TIMEOUT = 10
