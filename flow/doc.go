// Package flow moves bytes between two nodes: sessions of one or more
// connections, with streams on them that never wait for each other.
//
//	Dialer --dial--> connection --handshake--> lane --of--> Session --has--> streams
//
// A Session is a lasting, authenticated relation. Connect makes one from the
// dialling side, an Acceptor from the listening side; after that both are
// equal, and either may open streams. A session survives the loss of its
// connections: the dialling side dials again, and block streams go on where the
// receiver stands.
//
// A ByteStream is a net.Conn with half-close. A BlockStream carries the blocks
// of one file in one direction, with offsets, digests, two acknowledgements
// (received, durable) and a verdict at the end.
//
// Invariants, for every stream, in bytes and absolute:
//
//	durable <= consumed <= received <= granted
//
// Nothing is sent that was not granted, so a reader of a connection never has
// to wait for a consumer, and it never writes. The wire is in spec/flow.md.
package flow
