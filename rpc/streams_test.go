package rpc_test

import (
	"errors"
	"io"
	"testing"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/spec/fault"
)

// ends keeps the sessions it is told of and answers each stream with its kind.
type ends struct{ came, over chan *flow.Session }

func newEnds() ends { return ends{make(chan *flow.Session, 1), make(chan *flow.Session, 1)} }

func (e ends) Attach(s *flow.Session) { e.came <- s }
func (e ends) Over(s *flow.Session)   { e.over <- s }

func (e ends) Handle(s *flow.Session, in *flow.Incoming) {
	go func() {
		st, err := in.AcceptBytes(nil)
		if err == nil {
			_, _ = st.Write([]byte(in.Kind))
			_ = st.CloseWrite()
			_, _ = io.Copy(io.Discard, st)
			_ = st.Close()
		}
	}()
}

// TestStreams: both ends of a session open streams of a kind of their own, which the
// other's Streams answers; without one they are refused, and so are streams of side
// effects that no call has asked for.
func TestStreams(t *testing.T) {
	for _, with := range []bool{true, false} {
		pipe := carrier.NewPipe()
		client, server := newEnds(), newEnds()
		sc, cc := rpc.ServerConfig{Pipe: pipe, Streams: server}, rpc.ClientConfig{Pipe: pipe, Streams: client}
		if !with {
			cc.Streams = nil
		}
		s := must(rpc.NewServer(sc))
		must(s.Listen("pipe:"))
		go s.Serve()
		conn := must(rpc.Dial("pipe:", cc))
		dialled := must(conn.Connect(within(t)))
		accepted := <-server.came
		if with {
			if got := <-client.came; got != dialled {
				t.Errorf("the client was told of %v, want %v", got, dialled)
			}
		}
		for from, session := range map[string]*flow.Session{"client": dialled, "server": accepted} {
			st, err := session.OpenBytes(within(t), flow.Open{Kind: "own"})
			if !with && from == "server" {
				wantKind(t, err, fault.Unsupported)
				continue
			}
			if err != nil {
				t.Fatal(from, err)
			}
			_ = st.CloseWrite()
			if got, err := io.ReadAll(st); string(got) != "own" || err != nil {
				t.Errorf("%s: %q, %v", from, got, err)
			}
			_ = st.Close()
		}
		if _, err := dialled.OpenBytes(within(t), flow.Open{Kind: "effect"}); !errors.Is(err, fault.Unsupported) {
			t.Errorf("an effect that the client opens: %v", err)
		}
		if _, err := accepted.OpenBytes(within(t), flow.Open{Kind: "effect"}); err == nil {
			t.Error("an effect that no call has asked for was taken")
		}
		conn.Close()
		s.Stop()
		if got := <-server.over; got != accepted || with && <-client.over != dialled {
			t.Error("the end was told of another session")
		}
	}
}
