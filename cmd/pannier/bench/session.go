package bench

// sessionTransfers are the transfers over a session: session-tcp, session-tls,
// session-unix, session-tcp-memory, grpc-road, session-tls-sha256. They wait
// for package rpc.
func sessionTransfers() []Case { return nil }

// sessionCalls are the calls over a session: rpc-no-effect, inline-16k-up,
// inline-16k-down. They wait for package rpc.
func sessionCalls() []Case { return nil }

// sessionMixes are the sessions a small call shares with a bulk transfer. They
// wait for package rpc.
func sessionMixes() []Case { return nil }
