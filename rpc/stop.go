package rpc

import (
	"context"
	"errors"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// Stop ends everything at once: calls, sessions, connections, and waits for what
// serves them. As with gRPC, the contexts of handlers that run end, and it waits for their
// return only with the option grpc.WaitForHandlers.
func (s *Server) Stop() {
	s.halt()
	_ = s.acceptor.Close()
	s.Server.Stop()
	s.conns.Close()
	s.wg.Wait()
}

// GracefulStop is Shutdown without a limit.
func (s *Server) GracefulStop() { _ = s.Shutdown(context.Background()) }

// Shutdown takes nothing new, waits for the calls and side effects that run,
// and stops. Clients make their next calls on new sessions, which are for whoever
// listens at the address then. If ctx ends first they are cut off, and the error says so; then, as
// after Stop, a handler that does not heed its context may still run.
func (s *Server) Shutdown(ctx context.Context) error {
	s.halt()
	s.acceptor.GoAway() // before gRPC's own: who is sent away by that makes a new session
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.Server.GracefulStop()
	}()
	var err error
	over := false
	select {
	case <-s.idle:
		err = s.acceptor.Drain(ctx) // ends Carry, for which GracefulStop waits
	case <-ctx.Done():
	}
	select {
	case <-drained:
	case <-ctx.Done():
		err, over = errors.Join(err, cause("shut down", ctx)), true
	}
	s.Stop()
	if !over {
		<-drained
	}
	return fault.Wrap("shut down", "", err)
}

// halt closes the listeners and takes no new calls with side effects.
func (s *Server) halt() {
	s.mu.Lock()
	listeners := s.listeners
	s.listeners = nil
	if !s.stopping {
		s.stopping = true
		if s.asking == 0 {
			close(s.idle)
		}
	}
	s.mu.Unlock()
	for _, l := range listeners {
		_ = l.Close()
	}
	s.over.Do(func() { close(s.ended) })
}

// enter and leave count the calls that need their sessions.
func (s *Server) enter() {
	s.mu.Lock()
	s.asking++
	s.mu.Unlock()
}

func (s *Server) leave(c *serverCall) {
	s.recent.end(c.caller, c.ask.call, time.Now())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking--
	if s.stopping && s.asking == 0 {
		select {
		case <-s.idle:
		default:
			close(s.idle)
		}
	}
}
