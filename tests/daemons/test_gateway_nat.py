"""The rules of a gateway that is an exit."""

from exuvia.gateway import nat


def test_the_rules_replace_those_that_were_there() -> None:
    """One transaction makes sure that there is a table, deletes it, and makes it anew."""
    lines = [line.strip() for line in nat.ruleset("wg0", "eth0", 51820).splitlines()]

    assert lines[:3] == [
        "table inet exuvia-wg0 {}",
        "delete table inet exuvia-wg0",
        "table inet exuvia-wg0 {",
    ]


def test_the_rules_say_what_a_gateway_promises() -> None:
    """Own packets untracked both ways, clients apart, nobody let in unasked, and out under our address."""
    rules = nat.ruleset("wg0", "eth0", 4242)

    for rule in (
        'iifname != "wg0" udp dport 4242 fib daddr type local notrack',
        'oifname != "wg0" udp sport 4242 notrack',
        'iifname "wg0" oifname != "eth0" drop',
        'oifname "wg0" ct state != { established, related } drop',
        'iifname "wg0" oifname "eth0" masquerade',
    ):
        assert rule in rules
