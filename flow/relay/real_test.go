package relay

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/proxy"

	"github.com/pannier/pannier/flow/flowtest/freeport"
)

// echo is a server of the system that sends back what it gets, by halves.
func echo(t testing.TB, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				io.Copy(c, c)
				c.(halfCloser).CloseWrite()
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l
}

// bound is the n-th place where west's relay listens.
func (w *two) bound(n int) string {
	w.t.Helper()
	var s Stats
	for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(time.Millisecond) {
		if s = w.west.Stats()[0]; len(s.Bound) > n {
			_, address, _ := strings.Cut(s.Bound[n], "://")
			return address
		}
	}
	w.t.Fatalf("%+v", s)
	return ""
}

// roundTrip sends size bytes and wants them back before the end.
func roundTrip(t testing.TB, c net.Conn, size int) {
	t.Helper()
	data := bytes.Repeat([]byte("pannier "), size/8)
	var wg sync.WaitGroup
	wg.Go(func() { c.Write(data); c.(halfCloser).CloseWrite() })
	got, err := io.ReadAll(c)
	wg.Wait()
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d of %d bytes came back, %v", len(got), len(data), err)
	}
	c.Close()
}

func TestRealTCPAndUnix(t *testing.T) {
	dir := t.TempDir()
	tcp := echo(t, "tcp", "127.0.0.1:0").Addr().String()
	path := filepath.Join(dir, "to")
	echo(t, "unix", path)
	for _, accept := range []string{"tcp://127.0.0.1:0", "unix://" + filepath.Join(dir, "from")} {
		for _, to := range []string{"tcp://" + tcp, "unix://" + path} {
			for _, at := range []Place{Here, There} {
				t.Run(accept[:4]+" "+to[:4]+" "+at.String(), func(t *testing.T) {
					cfg := allowAll(to)
					cfg.Policy[0].Listen = []string{"tcp://127.0.0.1:*", "unix://" + dir + "/*"}
					w := join(t, Config{}, cfg, true)
					w.add(accept, to, func(r *Relay) { r.At = at })
					network, _, _ := strings.Cut(accept, ":")
					c, err := net.Dial(network, w.bound(0))
					if err != nil {
						t.Fatal(err)
					}
					roundTrip(t, c, 8<<20)
				})
			}
		}
	}
}

// TestPorts: a range is accepted at, {port} is the accepted one, and ports may
// lead elsewhere.
func TestPorts(t *testing.T) {
	one, two := echo(t, "tcp", "127.0.0.2:0"), echo(t, "tcp", "127.0.0.1:0")
	port := one.Addr().(*net.TCPAddr).Port
	w := join(t, Config{}, allowAll("tcp://127.0.0.2:*", "tcp://"+two.Addr().String()), true)
	special := freePort(t)
	w.add(fmt.Sprintf("tcp://127.0.0.3:%d,%d", port, special), "tcp://127.0.0.2:{port}", func(r *Relay) {
		r.Ports = map[uint16]Endpoint{special: mustTo(t, "tcp://"+two.Addr().String())}
	})
	for i := range 2 {
		c, err := net.Dial("tcp", w.bound(i))
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, c, 80)
	}
	if w.west.Stats()[0].Opened != 2 {
		t.Errorf("%+v", w.west.Stats()[0])
	}
}

func freePort(t testing.TB) uint16 {
	t.Helper()
	port, err := strconv.ParseUint(freeport.Port(t, "127.0.0.3"), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(port)
}

// TestExec: a command has the socket as its fd 0 and 1, sees the end of input, and
// is reaped; one that does not end by itself is killed with its group.
func TestExec(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	stubborn := `exec:["/bin/sh","-c","trap '' TERM HUP; sleep 1000 & echo $$ $! >` + pids + `; echo ready; while :; do sleep 0.1; done"]`
	cat := `exec:["/bin/sh","-c","echo $PANNIER_PARTNER $PANNIER_RELAY; cat"]`
	cfg := allowAll(cat, stubborn)
	cfg.Grace = 50 * time.Millisecond
	w := join(t, Config{}, cfg, true)
	w.add("tcp://127.0.0.1:0", cat)
	c, err := net.Dial("tcp", w.bound(0))
	if err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("hello"))
	c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "west r\nhello" {
		t.Errorf("%q, %v", got, err)
	}
	c.Close()
	w.west.Remove("r")
	w.add("tcp://127.0.0.1:0", stubborn)
	if c, err = net.Dial("tcp", w.bound(0)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	w.stop() // waits for the child
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range strings.Fields(string(text)) {
		pid, _ := strconv.Atoi(word)
		for began := time.Now(); syscall.Kill(pid, 0) == nil && !isZombie(pid); time.Sleep(time.Millisecond) {
			if time.Since(began) > 5*time.Second {
				t.Fatalf("process %d is alive", pid)
			}
		}
	}
	if children, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid())); err == nil && len(bytes.TrimSpace(children)) > 0 {
		t.Errorf("children left: %s", children)
	}
}

// isZombie: a grandchild that has ended waits for the init process of wherever
// this runs.
func isZombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(b), ") Z ")
}

func TestSOCKS5(t *testing.T) {
	to := echo(t, "tcp", "127.0.0.1:0").Addr().String()
	w := join(t, Config{}, allowAll("tcp://"+to), true)
	w.add("socks5://127.0.0.1:0", "")
	d, err := proxy.SOCKS5("tcp", w.bound(0), nil, proxy.Direct)
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("hello"))
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Error(err)
	}
	c.Close()
	if _, err := d.Dial("tcp", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("forbidden destination: %v", err)
	}
	for _, bad := range []string{"\x04\x01", "\x05\x01\x02", "\x05\x01\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", "\x05\x01\x00\x05\x01\x00\x09\x00", "GET / HTTP/1.0\r\n\r\n"} {
		c, err := net.Dial("tcp", w.bound(0))
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte(bad))
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
		c.Close()
	}
	waitFor(t, func() bool { s := w.west.Stats()[0]; return s.Open == 0 && s.Refused == 6 })
}

func TestHTTPConnect(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })}
	go server.Serve(l)
	defer server.Close()
	w := join(t, Config{}, allowAll("tcp://"+l.Addr().String()), true)
	w.add("http://127.0.0.1:0", "")
	c, err := net.Dial("tcp", w.bound(0))
	if err != nil {
		t.Fatal(err)
	}
	// the request of the tunnel comes with CONNECT, before its answer
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.0\r\n\r\n", l.Addr())
	got, err := io.ReadAll(c)
	if err != nil || !bytes.HasPrefix(got, []byte("HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.0 200 OK")) || !bytes.HasSuffix(got, []byte("hello")) {
		t.Errorf("%q, %v", got, err)
	}
	c.Close()
	proxyURL, _ := url.Parse("http://" + w.bound(0))
	tr := &http.Transport{Proxy: http.ProxyURL(proxyURL)}
	defer tr.CloseIdleConnections()
	if _, err := (&http.Client{Transport: tr}).Get("https://127.0.0.1:1/"); err == nil || !strings.Contains(err.Error(), "Forbidden") {
		t.Errorf("forbidden destination: %v", err)
	}
	answer, err := (&http.Client{Transport: tr}).Get("http://127.0.0.1:1/") // which a client asks a proxy for itself
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); answer.StatusCode != http.StatusMethodNotAllowed || answer.Header.Get("Allow") != "CONNECT" || !strings.Contains(string(body), "CONNECT HOST:PORT only") || err != nil {
		t.Errorf("%v, %q, %v", answer.Status, body, err)
	}
}

func waitFor(t testing.TB, f func() bool) {
	t.Helper()
	for began := time.Now(); !f(); time.Sleep(time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatal("it did not come about")
		}
	}
}

// udpEcho answers every datagram with itself, as often as its first byte says.
func udpEcho(t testing.TB) string {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	enlarge(c)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 70000)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			c.WriteTo(buf[:n], from)
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return "udp://" + c.LocalAddr().String()
}

// TestUDP: each datagram comes out as it went in, in order within a source, to
// the source it is for, at either place.
func TestUDP(t *testing.T) {
	for _, at := range []Place{Here, There} {
		t.Run(at.String(), func(t *testing.T) {
			to := udpEcho(t)
			cfg := allowAll(to)
			cfg.Policy[0].Listen = []string{"udp://127.0.0.1:*"}
			w := join(t, Config{}, cfg, true)
			w.add("udp://127.0.0.1:0", to, func(r *Relay) { r.At = at })
			var wg sync.WaitGroup
			var large sync.Mutex // the kernel has room for a few of these
			for source := range 10 {
				c, err := net.Dial("udp", w.bound(0))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				wg.Go(func() { exchange(t, c, byte(source), &large) })
			}
			wg.Wait()
			if at == Here {
				waitFor(t, func() bool {
					s := w.west.Stats()[0]
					return s.Sent == 10*len64(udpSizes) && s.Dropped == 0 && s.Open == 10
				})
			}
		})
	}
}

var udpSizes = []int{1, 0, 200, 1472, 1473, 9000, 65507, 2, 16384, 0, 3}

func len64(s []int) int64 { return int64(len(s)) }

// exchange sends datagrams of many sizes, one after another, and wants each back.
func exchange(t *testing.T, c net.Conn, mark byte, large *sync.Mutex) {
	buf := make([]byte, 70000)
	one := func(i, size int) {
		if size > 2000 {
			large.Lock()
			defer large.Unlock()
		}
		out := bytes.Repeat([]byte{mark, byte(i)}, size)[:size]
		if _, err := c.Write(out); err != nil {
			t.Error(err)
			return
		}
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := c.Read(buf)
		if err != nil || !bytes.Equal(buf[:n], out) {
			t.Errorf("source %d: %d bytes instead of %d, %v", mark, n, size, err)
		}
	}
	for i, size := range udpSizes {
		one(i, size)
	}
}

// TestUDPLargest: what is larger than the other end takes is dropped whole and
// counted, in both directions.
func TestUDPLargest(t *testing.T) {
	to := udpEcho(t)
	cfg := allowAll(to)
	cfg.Policy[0].Limits.Datagram = 1000
	w := join(t, Config{}, cfg, true)
	w.add("udp://127.0.0.1:0", to, func(r *Relay) { r.Limits.Datagram = 500 })
	c, err := net.Dial("udp", w.bound(0))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 2000)
	for i, size := range []int{1001, 400, 1001, 1000, 501, 500} { // 1001: before the exit's limit is known, and after
		c.Write(buf[:size])
		if size > 500 {
			continue
		}
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := c.Read(buf); n != size || err != nil {
			t.Errorf("%d: %d bytes, %v; want %d", i, n, err, size)
		}
	}
	west, east := w.west.Stats()[0], w.east.Stats()[0]
	if west.Dropped+east.Dropped != 4 || west.Dropped < 1 || east.Dropped < 2 {
		t.Errorf("dropped %d at the entry and %d at the exit", west.Dropped, east.Dropped)
	}
}

// TestUDPNobodyThere: a destination without a listener harms nothing.
func TestUDPNobodyThere(t *testing.T) {
	dead, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := dead.LocalAddr().String()
	dead.Close()
	w := join(t, Config{}, allowAll("udp://"+address), true)
	w.add("udp://127.0.0.1:0", "udp://"+address)
	c, err := net.Dial("udp", w.bound(0))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 10 {
		c.Write([]byte("x"))
		time.Sleep(time.Millisecond)
	}
	alive, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	waitFor(t, func() bool {
		c.Write([]byte("y"))
		alive.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		buf := make([]byte, 10)
		n, _, err := alive.ReadFrom(buf)
		return err == nil && string(buf[:n]) == "y"
	})
}
