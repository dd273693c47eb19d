from ipaddress import ip_address

import pytest

from marserve.registry.sources.addresses import Reach, may_connect, reach

PUBLIC, PRIVATE, SPECIAL = Reach.PUBLIC, Reach.PRIVATE, Reach.SPECIAL
TABLE = [
    ("93.184.216.34", PUBLIC),
    ("8.8.8.8", PUBLIC),
    ("172.15.255.255", PUBLIC),
    ("172.32.0.0", PUBLIC),
    ("2606:2800:220:1::1", PUBLIC),
    ("::ffff:8.8.8.8", PUBLIC),
    ("64:ff9b::808:808", PUBLIC),
    ("10.0.0.1", PRIVATE),
    ("100.64.0.1", PRIVATE),
    ("127.0.0.1", PRIVATE),
    ("127.255.255.254", PRIVATE),
    ("172.16.0.1", PRIVATE),
    ("192.168.1.1", PRIVATE),
    ("198.18.0.1", PRIVATE),
    ("::1", PRIVATE),
    ("fd12::1", PRIVATE),
    ("::ffff:127.0.0.1", PRIVATE),
    ("::ffff:10.0.0.1", PRIVATE),
    ("64:ff9b::7f00:1", PRIVATE),
    ("0.0.0.0", SPECIAL),
    ("100.100.100.200", SPECIAL),
    ("168.63.129.16", SPECIAL),
    ("169.254.169.254", SPECIAL),
    ("192.0.0.192", SPECIAL),
    ("224.0.0.1", SPECIAL),
    ("255.255.255.255", SPECIAL),
    ("::", SPECIAL),
    ("::127.0.0.1", SPECIAL),
    ("::ffff:169.254.169.254", SPECIAL),
    ("64:ff9b::a9fe:a9fe", SPECIAL),
    ("64:ff9b:1::1", SPECIAL),
    ("2001::7f00:1", SPECIAL),
    ("2001:db8::1", SPECIAL),
    ("2002:7f00:1::", SPECIAL),
    ("fd00:ec2::254", SPECIAL),
    ("fe80::1", SPECIAL),
    ("ff02::1", SPECIAL),
]


@pytest.mark.parametrize(("address", "expected"), TABLE)
def test_how_far_an_address_leads(address, expected):
    assert reach(ip_address(address)) is expected


@pytest.mark.parametrize(("address", "far"), TABLE)
def test_only_what_the_operator_named_may_be_nearer(address, far):
    assert may_connect(address, False, False) is (far is PUBLIC)
    assert may_connect(address, True, False) is (far is not SPECIAL)
    assert may_connect(address, True, True) is True


@pytest.mark.parametrize("address", ["fe80::1%eth0", "h", ""])
def test_what_is_no_plain_address_is_not_connected_to(address):
    # Python reads a zone id as part of an address; link-local ones are special without it too
    assert may_connect(address, True, False) is False
