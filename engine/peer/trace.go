package peer

// isTraceparent reports whether s is a traceparent of version 00 of W3C Trace
// Context: 00-<32 hex digits>-<16 hex digits>-<2 hex digits>. What is none is passed
// over, as that document wants: nothing of a request depends on it.
func isTraceparent(s string) bool {
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return false
	}
	for i := 3; i < len(s); i++ {
		hex := s[i] >= '0' && s[i] <= '9' || s[i] >= 'a' && s[i] <= 'f'
		if i != 35 && i != 52 && !hex {
			return false
		}
	}
	return true
}
