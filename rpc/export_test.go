package rpc

// RememberCalls makes the server remember no more than n calls of a session
// that are over, for tests.
func (s *Server) RememberCalls(n int) { s.recent = newRecent(rememberTime, n) }
