package peer

// Sessions is how many sessions partners have dialled that are not over.
func (s *Server) Sessions() int {
	s.came.mu.Lock()
	defer s.came.mu.Unlock()
	return len(s.came.of)
}

// Sessions is how many sessions this node has dialled, those being made among them, that
// are not over or still used.
func (l *Line) Sessions() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.roads) + len(l.old)
}
