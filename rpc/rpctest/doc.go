// Package rpctest is the one matrix of calls with side effects that every
// carrier has to pass: whatever the bytes are read from and written to, the two
// ends see the same outcome on every road.
//
//	rpctest.Run(t, func(t testing.TB, register func(*rpc.Server)) rpctest.Pair {
//		// a server on the carrier, register(server), a client connected to it
//	}, rpctest.Options{})
//
// Run compares each call with Expect, a model that knows only what the
// documents promise. The Trap functions are the mistakes of the original
// (Coda's RPC2/SFTP), one each, and the Fault functions break something on
// purpose; they take the same Connect.
package rpctest
