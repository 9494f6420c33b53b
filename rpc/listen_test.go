package rpc_test

import (
	"strings"
	"testing"

	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/spec/fault"
)

// TestServeWithoutAddress: a server that nobody can reach says so instead of
// waiting for ever.
func TestServeWithoutAddress(t *testing.T) {
	for name, serve := range map[string]func(*rpc.Server) error{
		"Serve":          (*rpc.Server).Serve,
		"ListenAndServe": func(s *rpc.Server) error { return s.ListenAndServe() },
		"empty address":  func(s *rpc.Server) error { return s.ListenAndServe("") },
	} {
		t.Run(name, func(t *testing.T) {
			s := must(rpc.NewServer(rpc.ServerConfig{}))
			defer s.Stop()
			err := make(chan error, 1)
			go func() { err <- serve(s) }()
			select {
			case err := <-err:
				wantKind(t, err, fault.Invalid)
				if !strings.Contains(err.Error(), "tls://") {
					t.Errorf("%v does not say what to give", err)
				}
			case <-within(t).Done():
				s.Stop()
				t.Fatalf("it waits; when stopped: %v", <-err)
			}
		})
	}
}
