package ftpserver

import (
	"net"
	"testing"
	"time"
)

// TestRestart kills servers while clients connect, and starts each again at once: nothing of
// the killed one may be there any more, or its port is taken.
func TestRestart(t *testing.T) {
	for _, kind := range Kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := Start(t, kind)
			for round := range 30 {
				for range 6 {
					c, err := net.Dial("tcp", s.Address)
					if err != nil {
						t.Fatal(err)
					}
					defer func() { _ = c.Close() }()
				}
				time.Sleep(time.Duration(round%5) * time.Millisecond) // some are forked, some not
				s.Kill()
				if c, err := net.Dial("tcp", s.Address); err == nil {
					_ = c.Close()
					t.Fatalf("round %d: somebody listens there after it was killed", round)
				}
				s.Restart()
			}
		})
	}
}
