// Package bridge is the other end of a request whose partner is a server of another
// protocol, which knows nothing of requests: it answers the requester as a node would
// (engine.Line), and moves the bytes with the sessions of package plugins.
//
//	line.go    who is called, and what is answered in which phase
//	push.go    a file goes to the server
//	pull.go    a file comes from it
//	copy.go    one server sends to another
//	file.go    a file at a server, as what a descriptor names
//	parts.go   what a push leaves when a process dies, and its end
//	notes.go   what has to be remembered of a push over a crash
//
// A server keeps no record, so nearly all that this end answers follows from the phase
// that the requester is in. Only while a file is pushed more is needed, and kept in a
// file of this package's own (spec/plugin.md, "Partners"): how the server goes on with the
// bytes it has, and that a file may have got its name.
package bridge
