// Package relay carries sockets over a session: what one end accepts, the other
// end connects to.
//
//	client --> listener of the entry == byte stream of a session == exit --> destination
//
// A Hub is a node's share in it. It holds the node's own relays, and the Policy
// that says what partners may ask of this node. The entry is the end that
// listens, the exit the one that dials; a Relay says which of them this node is
// (Here or There). Nothing is relayed unless both ends want it: the owner by its
// Relay, the other by its Policy, whose zero value allows nothing.
//
// What travels, the limits and the reasons of refusals are in spec/relay.md.
package relay
