"""Which network addresses an archive may be fetched from. Pure.

An own table: what the standard library calls private misses carrier-grade NAT, translated IPv4
addresses and the metadata services of clouds, which are what attackers ask servers to fetch.
"""

from __future__ import annotations

from enum import Enum, auto
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address


class Reach(Enum):
    """How far an address leads, from the most harmless to the least."""

    PUBLIC = auto()
    """Anybody can reach it; fetching from it discloses nothing."""
    PRIVATE = auto()
    """A neighbour, or this machine: only a host that the operator has named may be here."""
    SPECIAL = auto()
    """A metadata service, a broadcast, nobody: only if the operator has named the address."""


_SPECIAL: Final = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.100.100.200/32",  # a cloud's metadata service within carrier-grade NAT
        "168.63.129.16/32",  # another cloud's, within its public range
        "169.254.0.0/16",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "224.0.0.0/3",
        "::/128",
        "fd00:ec2::/32",  # a cloud's metadata service within the private range
        "fd20:ce::/32",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
_PRIVATE: Final = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.0.2.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "::1/128",
        "fc00::/7",
    )
)
_NAT64: Final = ip_network("64:ff9b::/96")
_GLOBAL_V6: Final = ip_network("2000::/3")
_NOT_GLOBAL_V6: Final = tuple(
    ip_network(text)
    for text in (
        "2001::/23",  # protocol assignments; Teredo hides IPv4 addresses in it
        "2001:db8::/32",
        "2002::/16",  # 6to4 hides IPv4 addresses too
        "3fff::/20",
    )
)


def reach(address: Address) -> Reach:
    """How far `address` leads; an IPv4 address in IPv6 clothes counts as what it is."""
    address = _undressed(address)
    if any(address in network for network in _SPECIAL):
        return Reach.SPECIAL
    if any(address in network for network in _PRIVATE):
        return Reach.PRIVATE
    if address.version == 6 and (
        address not in _GLOBAL_V6 or any(address in network for network in _NOT_GLOBAL_V6)
    ):
        return Reach.SPECIAL
    return Reach.PUBLIC


def may_connect(address: str, named_host: bool, named_address: bool) -> bool:
    """Whether to connect to what a host's name was resolved to.

    Args:
        address: what the resolver said.
        named_host: the operator has allowed this very host, not a pattern that it fits.
        named_address: and what the operator has named is an address.
    """
    try:
        parsed = ip_address(address)
    except ValueError:  # an address of one interface (fe80::1%eth0)
        return False
    match reach(parsed):
        case Reach.PUBLIC:
            return True
        case Reach.PRIVATE:
            return named_host
        case Reach.SPECIAL:
            return named_address


def _undressed(address: Address) -> Address:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
