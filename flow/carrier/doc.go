// Package carrier makes the connections that sessions run over: it dials and
// listens on tcp, tls, unix sockets, in-memory pipes and single pipes (FIFOs,
// commands, stdin and stdout, serial lines), proves who the peer is where the carrier can, and tells lanes from ordinary gRPC clients on one
// port.
//
// # Who the peer is
//
// A node is its key: "sha256:" and the SHA-256 of its public key (the SPKI of
// RFC 5280, as in RFC 7469). Over tls both ends present a certificate; the
// dialer accepts the pinned keys (or a chain to given roots), the listener the
// keys it is told to allow. Over unix sockets the kernel names the user of the
// peer process. tcp and pipe prove nothing. Single pipes carry tls unless their
// address begins with "plain+".
//
// # One port
//
// A listener hands every connection to one of two functions: lanes of sessions
// (ALPN "pannier/1", or wire.Preface as the first bytes) and HTTP/2 (ALPN "h2",
// or the HTTP/2 preface). Everything else is closed. Whoever has not got that
// far is bounded in number and time: see Options.
package carrier
