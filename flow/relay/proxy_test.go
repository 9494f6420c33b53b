package relay

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// teller is a server that says what PROXY header came before the first line, and the line.
func teller(t *testing.T, network, address string) net.Listener {
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			in := bufio.NewReader(c)
			h, err := proxyproto.Read(in)
			rest, _ := io.ReadAll(in)
			switch {
			case err != nil:
				fmt.Fprintf(c, "none %v %s", err, rest)
			case h.Command.IsLocal():
				fmt.Fprintf(c, "local %d %s", h.Version, rest)
			default:
				fmt.Fprintf(c, "from %v at %v %d %s", h.SourceAddr, h.DestinationAddr, h.Version, rest)
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l
}

// TestProxyProtocol: a destination is told who the client is, and where it came in, by an exit
// that was told to, and by no other; first of all, and once.
func TestProxyProtocol(t *testing.T) {
	dir := t.TempDir()
	tcp := "tcp://" + teller(t, "tcp", "127.0.0.1:0").Addr().String()
	path := filepath.Join(dir, "to")
	teller(t, "unix", path)
	for _, accept := range []string{"tcp://127.0.0.1:0", "tcp://[::1]:0", "unix://" + filepath.Join(dir, "from")} {
		for _, to := range []string{tcp, "unix://" + path} {
			for _, at := range []Place{Here, There} {
				for _, tell := range []bool{true, false} {
					t.Run(fmt.Sprint(accept[:8], to[:4], at, tell), func(t *testing.T) {
						cfg := allowAll(to)
						cfg.Policy[0].Listen = []string{"tcp://*:*", "unix://" + dir + "/*"}
						// the listening end's wish is not the connecting end's
						cfg.Policy[0].ProxyProtocol = tell == (at == Here)
						w := join(t, Config{}, cfg, true)
						w.add(accept, to, func(r *Relay) { r.At, r.ProxyProtocol = at, tell && at == There })
						network, _, _ := strings.Cut(accept, ":")
						c, err := net.Dial(network, w.bound(0))
						if err != nil {
							t.Fatal(err)
						}
						defer c.Close()
						io.WriteString(c, "hello")
						c.(halfCloser).CloseWrite()
						got, err := io.ReadAll(c)
						want := fmt.Sprintf("from %v at %v 2 hello", c.LocalAddr(), c.RemoteAddr())
						switch {
						case !tell:
							want = "none proxyproto: proxy protocol signature not present hello"
						case network == "unix":
							want = "local 2 hello"
						}
						if err != nil || string(got) != want {
							t.Errorf("%q, %v; want %q", got, err, want)
						}
					})
				}
			}
		}
	}
}

// TestProxyProtocolTry: a connection that is only a try is nobody's, and said to be so.
func TestProxyProtocolTry(t *testing.T) {
	to := "tcp://" + teller(t, "tcp", "127.0.0.1:0").Addr().String()
	cfg := allowAll(to)
	cfg.Policy[0].ProxyProtocol = true
	w := join(t, Config{}, cfg, true)
	meta, err := wire.AppendMeta(nil, &connAsk{Relay: "r", To: to, From: tryFrom})
	if err != nil {
		t.Fatal(err)
	}
	st, err := w.near.OpenBytes(t.Context(), flow.Open{Kind: KindConn, Meta: meta})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	st.CloseWrite()
	if got, err := io.ReadAll(st); err != nil || string(got) != "local 2 " {
		t.Errorf("%q, %v", got, err)
	}
}

// TestProxyHeader: whatever a partner says the client is, what is written is one header that
// every reader takes, and says nothing that was not an address.
func TestProxyHeader(t *testing.T) {
	for _, tc := range []struct {
		ask  connAsk
		want string // source, destination; "": LOCAL
	}{
		{connAsk{From: "192.0.2.9:999", At: "198.51.100.1:80"}, "192.0.2.9:999 198.51.100.1:80"},
		{connAsk{From: "[2001:db8::9]:999", At: "[2001:db8::1]:80"}, "[2001:db8::9]:999 [2001:db8::1]:80"},
		{connAsk{From: "[::ffff:192.0.2.9]:999", At: "198.51.100.1:80"}, "192.0.2.9:999 198.51.100.1:80"},
		{connAsk{From: "192.0.2.9:999", Port: 80}, "192.0.2.9:999 0.0.0.0:80"},
		{connAsk{From: "[2001:db8::9]:999", Port: 80}, "[2001:db8::9]:999 [::]:80"},
		{connAsk{From: "192.0.2.9:999", At: "PROXY TCP4", Port: 80}, "192.0.2.9:999 0.0.0.0:80"},
		{connAsk{From: "[2001:db8::9]:999", At: "192.0.2.1:80"}, "[2001:db8::9]:999 192.0.2.1:80"}, // mapped
		{connAsk{From: "unix", At: "192.0.2.1:80"}, ""},
		{connAsk{From: "host:80", At: "192.0.2.1:80"}, ""},
		{connAsk{From: "192.0.2.9", At: "192.0.2.1:80"}, ""},
		{connAsk{From: "[fe80::1%\r\nx]:1", At: "[fe80::2]:80"}, "[fe80::1]:1 [fe80::2]:80"},
		{connAsk{}, ""},
	} {
		var b bytes.Buffer
		if _, err := proxyHeader(tc.ask).WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(b.Bytes())))
		if err != nil {
			t.Errorf("%+v: %v", tc.ask, err)
			continue
		}
		got := ""
		if h.Command.IsProxy() {
			got = fmt.Sprint(h.SourceAddr, " ", h.DestinationAddr)
		}
		if got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.ask, got, tc.want)
		}
	}
}

// TestProxyProtocolFTP: a server of FTP hears its client, and no header, which it would read as commands, whatever other
// destinations of the policy or the relay are sent.
func TestProxyProtocolFTP(t *testing.T) {
	for _, at := range places {
		t.Run(at.String(), func(t *testing.T) {
			l := listenAt(t, ftpServerHost)
			to := "ftp://" + l.Addr().String()
			cfg := allowAll("tcp://127.0.0.1:80", to)
			cfg.Policy[0].Listen = []string{"tcp://" + ftpEntryHost + ":*"}
			cfg.Policy[0].ProxyProtocol = at == Here
			k := &talk{two: join(t, Config{}, cfg, true), listener: l}
			k.add("tcp://"+ftpEntryHost+":0", to, func(r *Relay) {
				if r.At = at; at == There {
					r.ProxyProtocol, r.Ports = true, map[uint16]Endpoint{80: mustTo(t, "tcp://127.0.0.1:80")}
				}
			})
			k.begin()
			k.commands("USER somebody", "USER somebody")
		})
	}
	r := Relay{Name: "r", Partner: "east", At: There, Accept: mustAccept(t, "tcp://127.0.0.1:21"), To: mustTo(t, "ftp://127.0.0.2:21"), ProxyProtocol: true}
	if err := r.Check(); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a header for FTP alone: %v", err)
	}
}
