package relay

import "net/netip"

// special are the addresses that lead into the host itself or its link, or to the
// metadata service of a cloud. They are relayed to only if a pattern lists them
// literally: who may reach "everything" through a host does not mean the host's
// own administration, and a name may lead anywhere.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),          // "this host"; Linux connects 0.0.0.0 to itself
	netip.MustParsePrefix("127.0.0.0/8"),        // loopback
	netip.MustParsePrefix("169.254.0.0/16"),     // link-local, metadata of most clouds
	netip.MustParsePrefix("100.100.100.200/32"), // metadata: Alibaba
	netip.MustParsePrefix("168.63.129.16/32"),   // metadata: Azure
	netip.MustParsePrefix("192.0.0.192/32"),     // metadata: Oracle
	netip.MustParsePrefix("224.0.0.0/4"),        // multicast
	netip.MustParsePrefix("255.255.255.255/32"), // broadcast
	netip.MustParsePrefix("::/127"),             // unspecified and loopback
	netip.MustParsePrefix("fe80::/10"),          // link-local
	netip.MustParsePrefix("fd00:ec2::/32"),      // metadata, credentials, names: Amazon
	netip.MustParsePrefix("fd20:ce::254/128"),   // metadata: Google
	netip.MustParsePrefix("fd00:42::42/128"),    // metadata: Scaleway
	netip.MustParsePrefix("ff00::/8"),           // multicast
}

// These prefixes carry an IPv4 address inside, whose rules count.
var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	nat64Here  = netip.MustParsePrefix("64:ff9b:1::/48")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	compatible = netip.MustParsePrefix("::/96") // but for :: and ::1
	translated = netip.MustParsePrefix("::ffff:0:0:0/96")
)

// plain is the address that is really meant.
func plain(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	b := a.As16()
	switch {
	case nat64.Contains(a), nat64Here.Contains(a), translated.Contains(a), compatible.Contains(a) && a.Compare(netip.IPv6Loopback()) > 0:
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return a
}

func isSpecial(a netip.Addr) bool {
	for _, p := range special {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// allSpecial reports whether a prefix has no other addresses.
func allSpecial(q netip.Prefix) bool {
	for _, p := range special {
		if p.Bits() <= q.Bits() && p.Contains(q.Addr()) {
			return true
		}
	}
	return false
}
