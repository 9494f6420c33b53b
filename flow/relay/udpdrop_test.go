package relay

import (
	"net"
	"sync"
	"testing"
	"time"
)

// TestUDPDroppedWhileAnswered: a source that is forgotten while its answers come holds up
// neither the others nor the end of the stream.
func TestUDPDroppedWhileAnswered(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for buf := make([]byte, 100); ; {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			for range 50 {
				server.WriteTo(buf[:n], from)
			}
		}
	})
	defer func() { server.Close(); wg.Wait() }()
	to := "udp://" + server.LocalAddr().String()
	w := join(t, Config{}, allowAll(to), true)
	w.add("udp://127.0.0.1:0", to, func(r *Relay) { r.Limits.Sources = 1 }) // the other one is forgotten with each datagram
	var clients [2]net.Conn
	for i := range clients {
		if clients[i], err = net.Dial("udp", w.bound(0)); err != nil {
			t.Fatal(err)
		}
		defer clients[i].Close()
	}
	for range 500 {
		for _, c := range clients {
			c.Write([]byte("question"))
			time.Sleep(200 * time.Microsecond)
		}
	}
	buf := make([]byte, 100)
	for {
		clients[0].SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := clients[0].Read(buf); err != nil {
			break
		}
	}
	waitFor(t, func() bool {
		clients[0].Write([]byte("last"))
		clients[0].SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		n, err := clients[0].Read(buf)
		return err == nil && string(buf[:n]) == "last"
	})
	w.west.Remove("r")
	waitFor(t, func() bool { return len(w.eastLog.with("datagrams relayed")) == 1 })
}
