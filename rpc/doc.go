// Package rpc makes gRPC calls that carry files: a call travels, and its side
// effect rides along.
//
// A client attaches descriptors to a call of a generated stub:
//
//	cc, err := rpc.Dial("tls://files.example:6610", rpc.ClientConfig{Identity: id, Pins: pins})
//	d := sideeffect.Descriptor{Direction: sideeffect.ClientToServer,
//		Local: sideeffect.File(root, "movie.mov"), Quota: sideeffect.NoQuota}
//	reply, err := pb.NewStoreClient(cc).Put(ctx, request, rpc.With(&d))
//	// d.BytesTransferred, d.Digest, d.LocalStatus, d.RemoteStatus ...
//
// The server's handler decides whether and where the bytes go, with a
// descriptor of its own:
//
//	se, err := rpc.SideEffect(ctx)
//	d := sideeffect.Descriptor{Direction: sideeffect.ClientToServer,
//		Local: sideeffect.File(root, request.Name), Quota: 10 << 30}
//	err = se.Run(ctx, &d, sideeffect.AwaitLocal)
//
// Descriptors never travel: either end says only what it has to. No .proto
// changes. Nothing moves unless both ends want it, and nothing is a success
// before it is stored and verified.
//
// # Roads
//
// Contents of up to MaxInline bytes ride inside the message of a unary call,
// in one round trip. Larger ones take a stream of the session that the call came
// over; where only HTTP/2 gets through, that session runs over a gRPC stream.
// Which road was taken is in Result.Road; Descriptor.Road insists on one.
//
// # Errors
//
// A call whose handler fails returns the handler's status. A call that
// succeeds, but whose side effect does not, returns an error in which errors.As
// finds the *fault.Error and status.FromError a status of the code that Code
// gives. A handler may return a *fault.Error as it is; the client finds it, with
// Side Peer, or Here when it was the client that failed. Texts that travel have no
// names of the end they come from: of a fault, strings that were put into its text
// with New stay there. For words with names, a handler returns a status.
//
// A server that does not know side effects would run the call without them,
// so a call with one that is not Optional is refused before it is made.
//
// # Panics
//
// A user's Reader, Writer or callback runs on a goroutine of this package, where no recover of the user's
// would catch its panic. So it is raised, as a *sideeffect.Panic with the first one's stack, where
// somebody waits for the effect: in Invoke, in the stream's method that finds its end, in Fanout.Call, in Run and
// Check of a handler. Until then the effect is a failed one, for the other end too, and the session goes on.
//
// # Goroutines
//
// A ClientConn's end with Close, a Server's with Stop. Those of a call have ended
// when the call returns; at the server, a source may await its verdict for some
// time after the handler has returned.
//
// After the side effects of Coda's RPC2 (SE descriptors, MultiRPC). What travels
// is in spec/rpc.md.
package rpc
