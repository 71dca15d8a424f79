//! Whether an address is one of the public internet. Pure; `egress` asks for every address before it connects.
//!
//! The tables follow the registries of special-purpose addresses (IANA, RFC 6890 and its successors). They are stricter
//! in two ways: of IPv6 only the range that is given out to the public (2000::/3) counts, and an IPv6 address that carries
//! an IPv4 address is never public, because it exists to reach that one by a detour.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What is given out to the public today (IANA, "IPv6 Global Unicast Address Assignments").
const GLOBAL_V6: IpNet = v6([0x2000, 0, 0, 0], 3);

/// IPv4 ranges that are not public, and why.
const SPECIAL_V4: [(IpNet, &str); 18] = [
    (v4([0, 0, 0, 0], 8), "this network; 0.0.0.0 reaches this machine (RFC 791)"),
    (v4([10, 0, 0, 0], 8), "private (RFC 1918)"),
    (v4([100, 64, 0, 0], 10), "shared behind carriers, and cloud services (RFC 6598)"),
    (v4([127, 0, 0, 0], 8), "loopback (RFC 1122)"),
    (v4([168, 63, 129, 16], 32), "the host of every machine at Azure; looks public and is not"),
    (v4([169, 254, 0, 0], 16), "link-local, and the metadata of cloud machines (RFC 3927)"),
    (v4([172, 16, 0, 0], 12), "private (RFC 1918)"),
    (v4([192, 0, 0, 0], 24), "protocol assignments (RFC 6890)"),
    (v4([192, 0, 2, 0], 24), "documentation (RFC 5737)"),
    (v4([192, 88, 99, 0], 24), "6to4 relays (RFC 7526)"),
    (v4([192, 168, 0, 0], 16), "private (RFC 1918)"),
    (v4([198, 18, 0, 0], 15), "benchmarking (RFC 2544)"),
    (v4([198, 51, 100, 0], 24), "documentation (RFC 5737)"),
    (v4([203, 0, 113, 0], 24), "documentation (RFC 5737)"),
    (v4([224, 0, 0, 0], 4), "multicast (RFC 5771)"),
    (v4([240, 0, 0, 0], 4), "reserved, and broadcast at its end (RFC 1112, RFC 919)"),
    (v4([192, 31, 196, 0], 24), "sinkhole of reverse look-ups (RFC 7535)"),
    (v4([192, 175, 48, 0], 24), "sinkhole of reverse look-ups (RFC 7534)"),
];

/// IPv6 ranges that are not public, and why. Those outside of [`GLOBAL_V6`] stand here for the reason.
const SPECIAL_V6: [(IpNet, &str); 18] = [
    (v6([0, 0, 0, 0], 96), "unspecified, loopback, and IPv4 in an old form (RFC 4291)"),
    (v6_ending([0, 0, 0, 0, 0, 0xffff], 96), "IPv4-mapped (RFC 4291)"),
    (v6_ending([0, 0, 0, 0, 0xffff, 0], 96), "IPv4-translated (RFC 2765)"),
    (v6([0x64, 0xff9b, 0, 0], 96), "IPv4 by NAT64 (RFC 6052)"),
    (v6([0x64, 0xff9b, 1, 0], 48), "IPv4 by a NAT64 of one's own (RFC 8215)"),
    (v6([0x100, 0, 0, 0], 64), "discarded (RFC 6666)"),
    (v6([0x100, 0, 0, 1], 64), "a prefix that stands for none (RFC 9780)"),
    (v6([0x2001, 0, 0, 0], 32), "IPv4 by Teredo (RFC 4380)"),
    (v6([0x2001, 0, 0, 0], 23), "protocol assignments: benchmarking, ORCHID and others (RFC 2928)"),
    (v6([0x2001, 0xdb8, 0, 0], 32), "documentation (RFC 3849)"),
    (v6([0x2002, 0, 0, 0], 16), "IPv4 by 6to4 (RFC 3056)"),
    (v6([0x2620, 0x4f, 0x8000, 0], 48), "sinkhole of reverse look-ups (RFC 7534)"),
    (v6([0x3fff, 0, 0, 0], 20), "documentation (RFC 9637)"),
    (v6([0x5f00, 0, 0, 0], 16), "segment routing (RFC 9602)"),
    (v6([0xfc00, 0, 0, 0], 7), "unique local, and the metadata of cloud machines (RFC 4193)"),
    (v6([0xfe80, 0, 0, 0], 10), "link-local (RFC 4291)"),
    (v6([0xfec0, 0, 0, 0], 10), "site-local (RFC 3879)"),
    (v6([0xff00, 0, 0, 0], 8), "multicast (RFC 4291)"),
];

/// Why the address is not public; none if it is.
pub(super) fn special(ip: IpAddr) -> Option<&'static str> {
    let table: &[(IpNet, &'static str)] = if ip.is_ipv4() { &SPECIAL_V4 } else { &SPECIAL_V6 };
    let reason = table.iter().find(|(network, _)| network.contains(&ip)).map(|(_, reason)| *reason);
    let outside = ip.is_ipv6() && !GLOBAL_V6.contains(&ip);
    reason.or(outside.then_some("not given out to anybody"))
}

const fn v4([a, b, c, d]: [u8; 4], bits: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::new(a, b, c, d), bits))
}

const fn v6([a, b, c, d]: [u16; 4], bits: u8) -> IpNet {
    v6_ending([a, b, c, d, 0, 0], bits)
}

const fn v6_ending([a, b, c, d, e, f]: [u16; 6], bits: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::new(a, b, c, d, e, f, 0, 0), bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First and last address of every range, so that a wrong length is noticed.
    const NOT_PUBLIC: &str = "0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 100.100.100.200
        127.0.0.1 127.255.255.255 168.63.129.16 169.254.0.0 169.254.169.254 169.254.255.255 172.16.0.0 172.31.255.255
        192.0.0.0 192.0.0.192 192.0.0.255 192.0.2.0 192.0.2.255 192.31.196.1 192.88.99.0 192.88.99.255 192.168.0.0
        192.168.255.255 192.175.48.1 198.18.0.0 198.19.255.255 198.51.100.0 198.51.100.255 203.0.113.0 203.0.113.255
        224.0.0.0 239.255.255.255 240.0.0.0 255.255.255.255
        :: ::1 ::7f00:1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:7f00:1 64:ff9b::7f00:1 64:ff9b::808:808
        64:ff9b:1::1 64:ff9b:1:ffff:ffff:ffff:ffff:ffff 100::1 100:0:0:1::1 2001::1 2001:0:7f00:1:: 2001:2::1 2001:10::1
        2001:20::1 2001:30::1 2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff 2001:db8::1 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff
        2002:7f00:1:: 2002:a00:1::1 2002:808:808::1 2620:4f:8000::1 3fff::1 3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff
        5f00::1 fc00::1 fd00:ec2::254 fd20:ce::254 fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff fe80::1
        febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff fec0::1 feff::1 ff02::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
        200::1 400::1 1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 4000::1 8000::1 e000::1";

    /// The nearest neighbours of the ranges, and some that everybody knows.
    const PUBLIC: &str = "1.0.0.0 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255
        128.0.0.0 168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255
        192.0.1.0 192.0.3.0 192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0
        198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255
        2000::1 2001:200::1 2001:4860:4860::8888 2001:db7:ffff:ffff:ffff:ffff:ffff:ffff 2001:db9::1 2003::1
        2606:4700:4700::1111 2a00:1450::1 3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff 3fff:1000::1";

    #[test]
    fn special_ranges_are_known_to_their_ends() {
        for ip in NOT_PUBLIC.split_whitespace() {
            assert!(special(ip.parse().unwrap()).is_some(), "{ip} is not public");
        }
        for ip in PUBLIC.split_whitespace() {
            assert_eq!(special(ip.parse().unwrap()), None, "{ip} is public");
        }
    }

    #[test]
    fn every_range_is_needed_and_written_from_its_start() {
        for (network, reason) in SPECIAL_V4.iter().chain(&SPECIAL_V6) {
            assert_eq!(network.trunc(), *network, "{reason}");
            assert!(special(network.network()).is_some() && special(network.broadcast()).is_some(), "{network}");
        }
    }
}
