// Package peer is the network of an engine: the service pannier.peer.v1.Peer
// over package rpc. The document is spec/engine.md, "The calls on the wire".
//
//	engine -> Line   -> rpc.ClientConn, one for each partner
//	engine <- Server <- rpc.Server, the caller's name from its proven key
//
// # Who the other end is
//
// A name is what a key of the book proves. Over tls both ends do. Over a unix
// socket the kernel names the caller's user, which Options.UnixPartner turns into
// a partner, and the file's permissions are what the caller trusts. tcp proves
// nothing and is neither listened on nor dialled. Who is no partner is refused
// with fault.Unauthenticated before a byte of the call is read.
//
// # What is believed
//
// Nothing that arrives: lengths, numbers, names and texts are held to their limits
// here, so that an engine sees only what a record can hold. What a failure says to
// the partner is the engine's to make fit for travel (fault.Text); this package
// only cuts it.
package peer
