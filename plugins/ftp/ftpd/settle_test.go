package ftpd

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

// TestSettleDefault: what is waited by default is longer than Linux needs to send an end again that
// was lost: 200 ms, the least that it waits (RTO_MIN), and what the line takes.
func TestSettleDefault(t *testing.T) {
	cfg, err := configure(map[string]string{"tls": "off"})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.settle < 400*time.Millisecond {
		t.Errorf("%v are waited for the end of a client that was killed", cfg.settle)
	}
	ours, theirs := tcpPair(t)
	for range 10 {
		if _, err := ours.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(theirs, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	c := &client{s: &server{config: cfg}, raw: ours}
	if rtt := roundTrip(ours); runtime.GOOS == "linux" && (rtt <= 0 || rtt > time.Minute) {
		t.Errorf("a round trip takes %v", rtt)
	}
	if c.settle() < cfg.settle || runtime.GOOS == "linux" && c.settle() == cfg.settle {
		t.Errorf("%v are waited, without what the line takes", c.settle())
	}
	if cfg.settle = 0; c.settle() != 0 {
		t.Errorf("settle=0s waits %v", c.settle())
	}
}

func tcpPair(t *testing.T) (ours, theirs net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if ours, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if theirs, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	return ours, theirs
}
