package relay

import (
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/pannier/pannier/spec/fault"
)

// The PROXY header, version 2, with which the exit tells a destination whose
// connection it is. Only an exit that was told to by its own policy, or its own
// relay, writes one: a destination that reads it believes it, and what it says is
// the entry's word.

// tellProxy writes the header of a wish to its destination, which has not been
// sent anything yet.
func tellProxy(c net.Conn, o connAsk, limit time.Duration) error {
	_ = c.SetWriteDeadline(time.Now().Add(limit))
	_, err := proxyHeader(o).WriteTo(c)
	if err == nil {
		err = c.SetWriteDeadline(time.Time{})
	}
	return fault.Wrap("write PROXY header", "", err)
}

// proxyHeader says From and At. A client without an address, as one of a unix socket, is
// LOCAL and without one there, too. An At that is unknown is the unspecified address.
func proxyHeader(o connAsk) *proxyproto.Header {
	from, err := netip.ParseAddrPort(o.From)
	if err != nil {
		return proxyproto.HeaderProxyFromAddrs(2, nil, nil)
	}
	at, err := netip.ParseAddrPort(o.At)
	if err != nil {
		at = netip.AddrPortFrom(netip.IPv4Unspecified(), o.Port)
		if from.Addr().Unmap().Is6() {
			at = netip.AddrPortFrom(netip.IPv6Unspecified(), o.Port)
		}
	}
	return proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(from), net.TCPAddrFromAddrPort(at))
}
