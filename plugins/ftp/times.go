package ftp

import (
	"context"
	"time"
)

// Times of what is written. MFMT is the command for it; vsftpd has none, but its MDTM sets the
// time if it is given one. Other servers would take that for a name, so it is said to no other.

// timeWord is the command that sets a file's time at the server; "" if there is none, or it is
// not to be used. s.mu is not held.
func (s *session) timeWord() string {
	switch {
	case !s.times || s.whole():
	case s.feat.has("MFMT"):
		return "MFMT"
	case s.software() == "vsftpd":
		return "MDTM"
	}
	return ""
}

// timing is the command that gives a file that time; "" if the server has none, or there is no
// time. What FTP can say are years of four digits, in UTC.
func (s *session) timing(path string, t time.Time) string {
	word := s.timeWord()
	t = t.UTC()
	if word == "" || t.IsZero() || t.Year() < 1000 || t.Year() > 9999 {
		return ""
	}
	return word + " " + t.Format("20060102150405") + " " + path
}

// timed gives a file a time, and says whether the server has done it: that it has not is no
// failure of the file. An error is the connection's.
func (c *conn) timed(ctx context.Context, path string, t time.Time) (bool, error) {
	line := c.s.timing(path, t)
	if line == "" {
		return false, nil
	}
	r, err := c.command(ctx, line)
	return err == nil && r.good(), err
}
