package flow

import (
	"testing"
	"testing/synctest"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// TestFramesBeforeResume: a peer that comes back and says anything about a stream before it says RESUME loses its
// session; what is about the connection alone may come before.
func TestFramesBeforeResume(t *testing.T) {
	resume := control(wire.TypeResume, 0, &wire.Resume{Epoch: 2, Streams: []wire.ResumeStream{{ID: 1}}}) // of the one that was opened before, if it was
	for _, tc := range []struct {
		what  string
		frame func(p *rawPeer) []byte
		fine  bool
	}{
		{"OPEN", func(p *rawPeer) []byte { return openFrame(1, wire.Open{Kind: "x", Class: 1}) }, false},
		{"OPEN for gRPC", func(p *rawPeer) []byte { return openFrame(1, wire.Open{Kind: kindRPC, Class: 1}) }, false},
		{"ACCEPT", func(p *rawPeer) []byte { return control(wire.TypeAccept, 2, &wire.Accept{}) }, false},
		{"BLOCK", func(p *rawPeer) []byte { return block(1, 0, []byte("x")) }, false},
		{"DATA", func(p *rawPeer) []byte { return data(1, 0, []byte("x"), 0) }, false},
		{"CREDIT", func(p *rawPeer) []byte { return wire.AppendCredit(nil, 1, 1<<20, 0) }, false},
		{"DURABLE", func(p *rawPeer) []byte { return wire.AppendDurable(nil, 1, 1) }, false},
		{"END", func(p *rawPeer) []byte { return control(wire.TypeEnd, 1, &wire.End{}) }, false},
		{"VERDICT", func(p *rawPeer) []byte { return control(wire.TypeVerdict, 1, &wire.Verdict{}) }, false},
		{"RESET", func(p *rawPeer) []byte { return resetFrame(1, nil) }, false},
		{"GOAWAY", func(p *rawPeer) []byte { return control(wire.TypeGoAway, 0, &wire.GoAway{}) }, false},
		{"PING", func(p *rawPeer) []byte { return wire.AppendPing(nil, 7) }, true},
		{"PONG", func(p *rawPeer) []byte { return wire.AppendPong(nil, 7) }, true},
		{"PIPEACK", func(p *rawPeer) []byte { return wire.AppendPipeAck(nil, 0) }, true},
	} {
		t.Run(tc.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDuel(t, true, Config{})
				defer d.end()
				h := rawHello(2)
				h.Session, h.Token = d.ack.Session, d.ack.Token
				p, _, err := rawConnect(t, d.link, h)
				if err != nil {
					t.Fatal(err)
				}
				defer p.conn.Close()
				p.listen(&d.wg)
				p.send(append(tc.frame(p), resume...))
				settle()
				if err := d.victim.Err(); tc.fine != (err == nil) || !tc.fine && fault.KindOf(err) != fault.Protocol {
					t.Errorf("the session ended with %v", err)
				}
			})
		})
	}
}
