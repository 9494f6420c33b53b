package rpc

import (
	"context"
	"errors"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// Stop ends everything at once: calls, sessions, connections, and waits for what
// serves them. As with gRPC, the contexts of handlers that run end, and it waits for their
// return only with the option grpc.WaitForHandlers. It does wait for the sources and sinks of side
// effects: a Read of a Reader that does not return holds it up, unless the Reader has SetDeadline or Interrupt.
func (s *Server) Stop() {
	s.sever()
	s.wg.wait()
}

// sever is Stop that does not wait for sources and sinks.
func (s *Server) sever() {
	s.halt()
	_ = s.acceptor.Close()
	s.Server.Stop()
	s.conns.Close()
}

// returnTime is how long Shutdown waits for sources and sinks to return when its time is up and they have been interrupted.
const returnTime = time.Second

// GracefulStop is Shutdown without a limit.
func (s *Server) GracefulStop() { _ = s.Shutdown(context.Background()) }

// Shutdown takes nothing new, waits for the calls and side effects that run,
// and stops. Clients make their next calls on new sessions, which are for whoever
// listens at the address then. If ctx ends first they are cut off, and the error says so; then, as
// after Stop, a handler that does not heed its context may still run. So may a source or sink, unlike after Stop: for one whose
// Read or Write does not return Shutdown waits a second more, and its error says so, too (fault.Deadline).
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
	s.sever()
	switch {
	case !over:
		s.wg.wait()
		<-drained
	case !s.wg.waitFor(returnTime):
		err = errors.Join(err, fault.New("shut down", fault.Deadline, "a source or sink of a side effect still runs").
			Advise("give its Reader or Writer SetDeadline, so that what waits in it can be ended"))
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
