// Package node puts one node together: the state directory with its key and its
// store, an engine, the network of its partners, the socket of its operators.
//
//	config.Load -> Open -> Run until the context ends, then drained
//	config.Load -> Reload    partners and rules, while it runs
//
// It decides nothing itself; what it knows is which part needs which other, and
// in which order they begin and end.
package node
