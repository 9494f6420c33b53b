package ftpd_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest/testcert"
	"github.com/pannier/pannier/plugins/dir"
	"github.com/pannier/pannier/plugins/ftp"
	"github.com/pannier/pannier/spec/fault"
)

var errFull = fault.New("hand on", fault.NoSpace, "the disk is full")

// oneTicket keeps the ticket of a control connection, as clients do that continue its session.
type oneTicket struct {
	mu   sync.Mutex
	last *tls.ClientSessionState
	keep bool
}

func (o *oneTicket) Get(string) (*tls.ClientSessionState, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last, o.last != nil && !o.keep
}

func (o *oneTicket) Put(_ string, s *tls.ClientSessionState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last == nil {
		o.last = s
	}
}

// secure begins TLS, and has data connections continue its session.
func (r *raw) secure(version uint16) {
	r.t.Helper()
	tickets := &oneTicket{keep: true}
	conf := &tls.Config{InsecureSkipVerify: true, MaxVersion: version, ClientSessionCache: tickets, ServerName: "here"}
	c := tls.Client(r.tcp, conf)
	if err := c.Handshake(); err != nil {
		r.t.Fatal(err)
	}
	r.c, r.r = c, bufio.NewReader(c)
	r.data = conf.Clone()
	r.data.ClientSessionCache = &oneTicket{}
	r.is("NOOP", "200") // with it comes the ticket
	tickets.mu.Lock()
	r.data.ClientSessionCache = &oneTicket{last: tickets.last}
	tickets.mu.Unlock()
}

// beginTLS is begin with TLS on the data connection.
func (r *raw) beginTLS(command string, conf *tls.Config) (*tls.Conn, error) {
	r.t.Helper()
	c := tls.Client(r.begin(command), conf)
	return c, c.Handshake()
}

func (r *raw) storTLS(name, text string, conf *tls.Config) string {
	r.t.Helper()
	c, err := r.beginTLS("STOR "+name, conf)
	if err == nil {
		_, _ = c.Write([]byte(text))
		_ = c.Close()
	}
	got, err := r.reply()
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

// TestTLS: nothing in clear where TLS is required, protected data connections where the
// control connection is, and those that continue its session.
func TestTLS(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			s := serve(t, nil, "tls", "required")
			r := s.connect()
			r.is("USER "+user, "530 Say AUTH TLS first")
			r.is("PASS "+password, "503")
			r.is("PBSZ 0", "503")
			r.is("AUTH GSSAPI", "504")
			r.is("AUTH tls", "234")
			r.secure(version)
			r.is("AUTH TLS", "503")
			r.login()
			r.epsv()
			r.is("STOR f", "522 Say PROT P first")
			r.is("PBSZ 0", "200")
			r.is("PROT C", "534")
			r.is("PROT P", "200")
			if got := r.storTLS("f", "1", r.data); !strings.HasPrefix(got, "226") {
				t.Error(got)
			}
			s.holds(t, "f", []byte("1"))
			c, err := r.beginTLS("RETR f", r.data)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(c)
			if _ = c.Close(); string(b) != "1" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
			r.wants("226")

			alone := r.data.Clone()
			alone.ClientSessionCache = nil
			if got := r.storTLS("g", "2", alone); !strings.HasPrefix(got, "522 ") {
				t.Errorf("a session of its own: %s", got)
			}
			other := s.connect()
			other.is("AUTH TLS", "234")
			other.secure(version)
			if got := r.storTLS("g", "2", other.data); !strings.HasPrefix(got, "522 ") {
				t.Errorf("another client's session: %s", got)
			}
			clear := r.begin("STOR g")
			_, _ = clear.Write([]byte("in clear"))
			r.wants("425")
			s.absent(t, "g")
		})
	}
	r := serve(t, nil, "tls", "required", "tls-reuse", "optional").connect()
	r.is("AUTH TLS", "234")
	r.secure(tls.VersionTLS13)
	r.login()
	r.is("PROT P", "200")
	if got := r.storTLS("g", "2", &tls.Config{InsecureSkipVerify: true}); !strings.HasPrefix(got, "226") {
		t.Error(got)
	}
}

// TestTLSCut: an upload that TLS has not ended is none; with tls-close=optional it is one.
func TestTLSCut(t *testing.T) {
	for option, code := range map[string]string{"required": "426", "optional": "226"} {
		s := serve(t, nil, "tls", "implicit", "tls-close", option)
		r := s.connectFrom("127.0.0.1")
		r.secureImplicit()
		r.login()
		r.is("PROT P", "200")
		d, err := r.beginTLS("STOR f", r.data)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = d.Write([]byte("half"))
		_ = d.NetConn().(*net.TCPConn).CloseWrite()
		r.wants(code)
		if _, commits, _ := s.counts(); commits != map[string]int{"426": 0, "226": 1}[code] {
			t.Errorf("%d commits", commits)
		}
	}
}

// secureImplicit is secure on a connection that begins with it.
func (r *raw) secureImplicit() {
	r.t.Helper()
	tickets := &oneTicket{keep: true}
	conf := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tickets, ServerName: "here"}
	c := tls.Client(r.tcp, conf)
	r.c, r.r = c, bufio.NewReader(c)
	r.wants("220")
	tickets.mu.Lock()
	r.data = conf.Clone()
	r.data.ClientSessionCache = &oneTicket{last: tickets.last}
	tickets.mu.Unlock()
}

// TestInjection: what was said in clear behind AUTH is not taken for said within TLS.
func TestInjection(t *testing.T) {
	s := serve(t, nil, "tls", "required")
	r := s.connect()
	r.send("AUTH TLS\r\nUSER " + user + "\r\n")
	r.wants("421")
	r.gone()
	r = s.connect()
	r.is("AUTH TLS", "234")
	r.send("USER " + user + "\r\n") // in place of TLS
	r.gone()
	r = s.connect()
	r.is("AUTH TLS", "234")
	r.secure(tls.VersionTLS13)
	r.login()
}

// TestCertificates: those of files, and options that make no sense.
func TestCertificates(t *testing.T) {
	first := testcert.New(t, t.TempDir(), "here")
	cert := first.Both
	s := serve(t, nil, "tls", "implicit", "cert", cert)
	is := func(want string) {
		t.Helper()
		c, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		got := sha256.Sum256(c.ConnectionState().PeerCertificates[0].Raw)
		if hex.EncodeToString(got[:]) != want {
			t.Error("it is another certificate")
		}
	}
	is(first.Pin)
	renewed := testcert.New(t, t.TempDir(), "here")
	if err := os.Rename(renewed.Both, cert); err != nil {
		t.Fatal(err)
	}
	is(renewed.Pin)
	if err := os.WriteFile(cert, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	is(renewed.Pin)
	if c, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		_ = c.Close()
		t.Error("TLS 1.1 is spoken")
	}
	for _, bad := range []map[string]string{
		{"cert": "/nowhere"}, {"key": "x"}, {"tls": "off", "cert": "x"}, {"tls": "yes"}, {"none": "x"}, {"idle": "0s"}, {"idle": "x"}, {"connections": "0"},
		{"passive-ports": "1000-2000"}, {"passive-ports": "3000-2000"}, {"passive-ports": "x"}, {"passive-address": "::1"}, {"passive-address": "x"}, {"cert": cert},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err = ftp.Driver{}.Listen(ctx, l, bad, dir.Driver{})
		cancel()
		if k := fault.KindOf(err); err == nil || k != fault.Invalid && k != fault.NotFound {
			t.Errorf("%v: %v, %v", bad, k, err)
		}
		if _, err := l.Accept(); err == nil {
			t.Error("the listener is left open")
		}
	}
	for _, o := range (ftp.Driver{}).Describe().Listen {
		if o.Name == "" || o.Help == "" {
			t.Errorf("%+v", o)
		}
	}
}
