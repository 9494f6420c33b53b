package carrier

import "github.com/pannier/pannier/flow"

// What flow asks of its carriers.
var (
	_ flow.Dialer     = (*Dialer)(nil)
	_ flow.Dialer     = (*Pipe)(nil)
	_ flow.Identified = Conn(nil)
	_ Conn            = (*plainConn)(nil)
	_ Conn            = (*tlsConn)(nil)
	_ Conn            = (*pipeConn)(nil)
)
