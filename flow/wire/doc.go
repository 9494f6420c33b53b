// Package wire is the bytes of flow: what a frame looks like, and which frames
// a peer may send. It does no I/O, keeps no state and starts no goroutine;
// whatever it accepts is within the limits named here, and everything else is
// an error that ends the connection or the session. spec/flow.md, "The wire",
// is its prose and spec/vectors its examples.
package wire
