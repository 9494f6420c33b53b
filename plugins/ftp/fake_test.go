package ftp

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest/testcert"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// fake is a server that lies as its script says; otherwise it is a small honest one.
type fake struct {
	t        *testing.T
	l        net.Listener
	cert     *tls.Config
	implicit bool

	// say is asked first what to reply to a command. "" is the honest answer; lines are
	// sent as they are, with an end of line; silence says nothing, hangUp closes.
	say func(c *fakeConn, word, arg string) string

	mu    sync.Mutex
	files map[string][]byte
	times map[string]string // that it was told by MFMT
	heard []string
	size  map[string]int // of files whose size it lies about
	feat  string
	drops bool           // what comes together with a command is lost
	most  int            // connections that it lets in at a time; 0: any
	now   int            // connections that are there
	ears  []net.Listener // for data; what waits there ends with the fake
}

const (
	silence = "silence"
	hangUp  = "hang up"
)

type fakeConn struct {
	f    *fake
	c    net.Conn
	data net.Listener
	to   string // of EPRT, PORT
	rest int
	from string
	more bool   // the command came together with the one before
	prot bool   // PROT P is in force
	cpsv bool   // it is the client of TLS, at the next data connection
	next string // what PRET has named
}

func newFake(t *testing.T, say func(c *fakeConn, word, arg string) string) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, l: l, say: say, files: map[string][]byte{}, times: map[string]string{}, size: map[string]int{}, feat: " MLST type*;size*;modify*;\r\n SIZE\r\n MDTM\r\n REST STREAM\r\n EPSV\r\n"}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer func() { _ = c.Close() }()
				f.serve(&fakeConn{f: f, c: c})
			}()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		f.mu.Lock()
		for _, l := range f.ears {
			_ = l.Close()
		}
		f.mu.Unlock()
		wg.Wait()
	})
	return f
}

func (f *fake) serve(c *fakeConn) {
	f.mu.Lock()
	implicit := f.implicit
	full := f.most > 0 && f.now >= f.most
	f.now++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.now--
		f.mu.Unlock()
	}()
	if full {
		c.say("421 Too many connections")
		return
	}
	if implicit {
		c.c = tls.Server(c.c, f.cert)
	}
	r := bufio.NewReader(c.c)
	defer func() {
		if c.data != nil {
			_ = c.data.Close()
		}
	}()
	word, arg := "BANNER", ""
	for {
		f.mu.Lock()
		f.heard = append(f.heard, strings.TrimSpace(word+" "+arg))
		f.mu.Unlock()
		answer := ""
		if f.say != nil {
			answer = f.say(c, word, arg)
		}
		if answer == "" {
			answer = f.honest(c, word, arg)
		}
		switch answer {
		case hangUp:
			return
		case silence:
		default:
			if _, err := io.WriteString(c.c, answer+"\r\n"); err != nil {
				return
			}
		}
		if word == "AUTH" && strings.HasPrefix(answer, "234") {
			c.c = tls.Server(c.c, f.cert)
			r = bufio.NewReader(c.c)
		}
		c.more = r.Buffered() > 0
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if f.drops {
			_, _ = r.Discard(r.Buffered())
		}
		if word, arg, _ = strings.Cut(strings.TrimRight(line, "\r\n"), " "); strings.HasSuffix(word, "ABOR") {
			word = "ABOR"
		}
	}
}

func (c *fakeConn) say(format string, args ...any) { fmt.Fprintf(c.c, format+"\r\n", args...) }

// connect is the data connection of a transfer.
func (c *fakeConn) connect() net.Conn {
	d := c.dial()
	switch {
	case d == nil || !c.prot:
	case c.cpsv:
		return tls.Client(d, &tls.Config{InsecureSkipVerify: true})
	default:
		return tls.Server(d, c.f.cert)
	}
	return d
}

func (c *fakeConn) dial() net.Conn {
	if c.to != "" {
		d, err := net.Dial("tcp", c.to)
		if err != nil {
			return nil
		}
		return d
	}
	if c.data == nil {
		return nil
	}
	_ = c.data.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute))
	d, err := c.data.Accept()
	if err != nil {
		return nil
	}
	return d
}

func (c *fakeConn) listen() int {
	if c.data == nil {
		c.data, _ = net.Listen("tcp", "127.0.0.1:0")
		c.f.mu.Lock()
		c.f.ears = append(c.f.ears, c.data)
		c.f.mu.Unlock()
	}
	c.to, c.cpsv = "", false
	return c.data.Addr().(*net.TCPAddr).Port
}

func (f *fake) file(name string) ([]byte, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, ok := f.files[name]
	return b, ok
}

func (f *fake) honest(c *fakeConn, word, arg string) string {
	b, there := f.file(arg)
	none := "550 No such file."
	switch word {
	case "BANNER":
		return "220 ready"
	case "USER":
		return "331 and who says so?"
	case "PASS":
		return "230 come in"
	case "FEAT":
		return "211-Features\r\n" + f.feat + "211 End"
	case "PWD":
		return `257 "/" is here`
	case "AUTH":
		if f.cert == nil {
			return "500 no"
		}
		return "234 go on"
	case "PROT":
		c.prot = arg == "P"
		return "200 fine"
	case "TYPE", "NOOP", "CWD", "PBSZ", "OPTS":
		return "200 fine"
	case "SIZE":
		if !there {
			return none
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if n, ok := f.size[arg]; ok {
			return "213 " + strconv.Itoa(n)
		}
		return "213 " + strconv.Itoa(len(b))
	case "MDTM":
		return "213 20260102030405"
	case "EPSV":
		return fmt.Sprintf("229 come (|||%d|)", c.listen())
	case "EPRT":
		p := strings.Split(arg, "|")
		c.to, c.cpsv = net.JoinHostPort(p[2], p[3]), false
		return "200 fine"
	case "REST":
		c.rest, _ = strconv.Atoi(arg)
		return "350 then"
	case "RETR", "MLSD":
		if word == "RETR" && !there {
			return none
		}
		return c.sends(b[min(c.rest, len(b)):])
	case "STOR":
		return c.takes(arg)
	case "APPE":
		c.rest = len(b)
		return c.takes(arg)
	case "DELE":
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.files, arg)
		return "250 gone"
	case "RNFR":
		c.from = arg
		return "350 to what?"
	case "RNTO":
		f.mu.Lock()
		defer f.mu.Unlock()
		f.files[arg], f.times[arg] = f.files[c.from], f.times[c.from]
		delete(f.files, c.from)
		return "250 done"
	case "MLST":
		if !there {
			return none
		}
		return fmt.Sprintf("250-so\r\n type=file;size=%d; %s\r\n250 End", len(b), arg)
	case "MFMT":
		when, name, _ := strings.Cut(arg, " ")
		if !strings.Contains(f.feat, "MFMT") {
			return "500 what?"
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.times[name] = when
		return "213 Modify=" + when + "; " + name
	}
	return "500 what?"
}

// sends is RETR with some bytes.
func (c *fakeConn) sends(b []byte) string {
	d := c.connect()
	if d == nil {
		return "425 no"
	}
	c.say("150 here it comes")
	_, _ = d.Write(b)
	_ = d.Close()
	c.rest = 0
	return "226 that was it"
}

func (c *fakeConn) takes(name string) string {
	d := c.connect()
	if d == nil {
		return "425 no"
	}
	c.say("150 go on")
	b, _ := io.ReadAll(d)
	_ = d.Close()
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.f.files[name] = append(c.f.files[name][:c.rest:c.rest], b...)
	c.rest = 0
	return "226 got it"
}

func (f *fake) put(name string, b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[name] = b
}

// serves sets how the fake speaks, before anybody connects.
func (f *fake) serves(cert *tls.Config, implicit bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cert, f.implicit = cert, implicit
}

// patient is a timeout for what is expected: short only where it is to run out.
func patient(kind fault.Kind) string {
	if kind == fault.DeadPeer {
		return "1s"
	}
	return "20s"
}

// open logs in at a fake. Options as of opens.
func (f *fake) open(options ...string) (plugins.Session, error) {
	e := plugins.Endpoint{URL: "ftp://" + f.l.Addr().String(), User: "u", Password: "p", Options: map[string]string{"timeout": "20s"}}
	if f.implicit {
		e.URL = "ftps://" + f.l.Addr().String()
	}
	for i := 0; i < len(options); i += 2 {
		e.Options[options[i]] = options[i+1]
	}
	s, err := Driver{}.Open(f.t.Context(), e)
	if err == nil {
		f.t.Cleanup(func() { _ = s.Close() })
	}
	return s, err
}

func (f *fake) mustOpen(options ...string) *session {
	f.t.Helper()
	s, err := f.open(options...)
	if err != nil {
		f.t.Fatal(err)
	}
	return s.(*session)
}

// soon fails when f takes longer than a test of bounded waits may.
func soon(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
}

func on(word, answer string) func(*fakeConn, string, string) string {
	return func(_ *fakeConn, w, _ string) string {
		if w == word {
			return answer
		}
		return ""
	}
}

func TestLogin(t *testing.T) {
	long := "220-" + strings.Repeat("x", maxLine) + "\r\n220 hello"
	for _, c := range []struct {
		name string
		say  func(*fakeConn, string, string) string
		kind fault.Kind
		has  string
	}{
		{"endless banner", func(c *fakeConn, w, _ string) string {
			for w == "BANNER" {
				if _, err := io.WriteString(c.c, "220-and another thing\r\n"); err != nil {
					return hangUp
				}
			}
			return ""
		}, fault.Protocol, "lines"},
		{"long line", on("BANNER", long), fault.Protocol, "longer"},
		{"no banner", on("BANNER", silence), fault.DeadPeer, "connect"},
		{"not FTP", on("BANNER", "SSH-2.0-OpenSSH"), fault.Protocol, "no reply of FTP"},
		{"hangs up", on("BANNER", hangUp), fault.Lost, "connect"},
		{"full", on("BANNER", "421 Too many users"), fault.Overloaded, "421"},
		{"down", on("BANNER", "421 Closing for the night"), fault.Draining, "421"},
		{"wrong password", on("PASS", "530 Login incorrect."), fault.Unauthenticated, "PASS"},
		{"too many", on("PASS", "530 Sorry, the maximum number of clients is reached"), fault.Overloaded, "530"},
		{"no reply to PASS", on("PASS", silence), fault.DeadPeer, "PASS"},
		{"endless 1xx", func(c *fakeConn, w, _ string) string {
			for w == "TYPE" {
				if _, err := io.WriteString(c.c, "100 soon\r\n"); err != nil {
					return hangUp
				}
			}
			return ""
		}, fault.Protocol, "announces"},
		{"answers twice", on("FEAT", "211 none\r\n226 Transfer complete."), fault.Protocol, "not asked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, c.say)
			soon(t, func() {
				_, err := f.open("timeout", patient(c.kind))
				isKind(t, err, c.kind, c.has, f.l.Addr().String())
			})
		})
	}
}

// TestNotNow: what servers say to a login when they are full, and when it is wrong, which is not to be
// tried again and again: the account might be locked.
func TestNotNow(t *testing.T) {
	for text, kind := range map[string]fault.Kind{
		"Sorry, the maximum number of allowed clients (10) are already connected.": fault.Overloaded,
		"Sorry, the maximum number of clients (1) for this user already connected": fault.Overloaded,
		"Too many users, try later":                         fault.Overloaded,
		"Maximum connections reached":                       fault.Overloaded,
		"Connection limit of 10 reached":                    fault.Overloaded,
		"max users":                                         fault.Overloaded,
		"The server is full":                                fault.Overloaded,
		"Login incorrect.":                                  fault.Unauthenticated,
		"Login authentication failed":                       fault.Unauthenticated,
		"Login incorrect, try again":                        fault.Unauthenticated,
		"Too many failed logins, account locked":            fault.Unauthenticated,
		"Maximum login attempts (3) exceeded":               fault.Unauthenticated,
		"Login unsuccessful":                                fault.Unauthenticated,
		"Logins are limited to local users":                 fault.Unauthenticated,
		"User anonymous unknown; try again with a username": fault.Unauthenticated,
	} {
		if k := kindOf("PASS", reply{530, []string{text}}); k != kind {
			t.Errorf("530 %s is %v", text, k)
		}
	}
	for text, kind := range map[string]fault.Kind{
		"There are too many connected users, please try later.":     fault.Overloaded,
		"10 users (the maximum) are already logged in, sorry":       fault.Draining,
		"Closing for the night":                                     fault.Draining,
		"Too many connections (8) from this IP":                     fault.Overloaded,
		"Service not available, remote server has closed the lines": fault.Draining,
	} {
		if k := kindOf("connect", reply{421, []string{text}}); k != kind {
			t.Errorf("421 %s is %v", text, k)
		}
	}
}

// TestLeftWhereNothingIsOverwritten: a part that an earlier process has left is removed first; but at a server
// that has no parts nothing is.
func TestLeftWhereNothingIsOverwritten(t *testing.T) {
	f := newFake(t, func(c *fakeConn, word, arg string) string {
		if _, there := c.f.file(arg); word == "STOR" && there {
			return "550 File exists"
		}
		return ""
	})
	part := newToken("one").part("/x")
	f.put(part, []byte("what was left"))
	w := plugins.WriteRequest{Size: 3, ID: "one"}
	_, err := f.mustOpen().Write(t.Context(), "/x", w)
	isKind(t, err, fault.Exists, "STOR")
	w.Again = true
	s, err := f.open()
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.(plugins.Writer).Write(t.Context(), "/x", w)
	if err == nil {
		_, err = st.Write([]byte("new"))
	}
	if err == nil {
		_, err = st.Commit(t.Context())
	}
	if b, _ := f.file("/x"); err != nil || string(b) != "new" {
		t.Errorf("%q, %v", b, err)
	}
	if _, there := f.file(part); there {
		t.Error("it is left still")
	}

	f = newFake(t, nil)
	f.mu.Lock()
	f.feat += " ATOMIC\r\n"
	f.mu.Unlock()
	f.put("/x", []byte("published"))
	if s, err = f.open(); err != nil {
		t.Fatal(err)
	}
	if st, err = s.(plugins.Writer).Write(t.Context(), "/x", w); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Abort(t.Context(), false); err != nil {
		t.Error(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.heard {
		if strings.HasPrefix(c, "DELE") {
			t.Error("a published file is deleted:", c)
		}
	}
}

func TestReadLies(t *testing.T) {
	content := randomBytes(100_000)
	for _, c := range []struct {
		name string
		say  func(*fakeConn, string, string) string
		kind fault.Kind
		has  string
	}{
		{"honest", nil, 0, ""},
		{"226 on truncation", func(c *fakeConn, w, _ string) string {
			if w == "RETR" {
				return c.sends(content[:50_000])
			}
			return ""
		}, fault.Corrupt, "50000"},
		{"426 at the end", func(c *fakeConn, w, _ string) string {
			if w == "RETR" {
				c.sends(content)
				return "426 Failure writing network stream."
			}
			return ""
		}, fault.Lost, "426"},
		{"no final reply", func(c *fakeConn, w, _ string) string {
			if w == "RETR" {
				c.sends(content)
				return silence
			}
			return ""
		}, fault.DeadPeer, "RETR"},
		{"hangs up instead", func(c *fakeConn, w, _ string) string {
			if w == "RETR" {
				c.sends(content)
				return hangUp
			}
			return ""
		}, fault.Lost, "RETR"},
		{"no bytes", func(c *fakeConn, w, _ string) string {
			if w == "RETR" {
				c.connect()
				return "150 soon"
			}
			return ""
		}, fault.DeadPeer, "RETR"},
		{"226 without a transfer", on("RETR", "226 done"), fault.Protocol, "226"},
		{"EPSV leads elsewhere", on("EPSV", "229 come (|1|192.0.2.1|6446|)"), fault.Protocol, "own host"},
		{"EPSV leads to another service", on("EPSV", "229 come (|||25|)"), fault.Protocol, "1024"},
		{"missing", on("RETR", "550 Failed to open file."), fault.NotFound, "RETR"},
		{"forbidden", on("RETR", "550 Permission denied"), fault.Permission, "let the user"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, c.say)
			f.put("/f", content)
			s := f.mustOpen("timeout", patient(c.kind))
			soon(t, func() {
				b, err := reads(t.Context(), s, "/f", 0)
				if c.kind == 0 {
					if err != nil || len(b) != len(content) {
						t.Errorf("%d bytes, %v", len(b), err)
					}
					return
				}
				isKind(t, err, c.kind, c.has, f.l.Addr().String())
			})
		})
	}
}

// The address of 227 is not believed: only its port counts.
func TestFalseAddress(t *testing.T) {
	var at net.Listener
	f := newFake(t, func(c *fakeConn, w, _ string) string {
		switch w {
		case "EPSV":
			return "502 no"
		case "PASV":
			port := c.listen()
			return fmt.Sprintf("227 Entering (127,0,0,9,%d,%d)", port>>8, port&255)
		}
		return ""
	})
	at, err := net.Listen("tcp", "127.0.0.9:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = at.Close() }()
	f.put("/f", []byte("12345"))
	if b, err := reads(t.Context(), f.mustOpen(), "/f", 0); err != nil || string(b) != "12345" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestWriteLies(t *testing.T) {
	for _, c := range []struct {
		name string
		say  func(*fakeConn, string, string) string
		kind fault.Kind
		has  string
	}{
		{"honest", nil, 0, ""},
		{"226 on truncation", func(c *fakeConn, w, arg string) string {
			if w == "STOR" {
				answer := c.takes(arg)
				c.f.mu.Lock()
				c.f.files[arg] = c.f.files[arg][:10]
				c.f.mu.Unlock()
				return answer
			}
			return ""
		}, fault.Corrupt, "10"},
		{"other bytes", func(c *fakeConn, w, arg string) string {
			switch w {
			case "FEAT":
				return "211-x\r\n HASH SHA-256*\r\n SIZE\r\n REST STREAM\r\n211 End"
			case "OPTS":
				return "200 SHA-256"
			case "HASH":
				return fmt.Sprintf("213 SHA-256 0-9 %x %s", sha256.Sum256([]byte("something else")), arg)
			}
			return ""
		}, fault.Corrupt, "sha256"},
		{"quota at the end", func(c *fakeConn, w, arg string) string {
			if w == "STOR" {
				c.takes(arg)
				return "552 Disk quota exceeded"
			}
			return ""
		}, fault.NoSpace, "552"},
		{"quota in the middle", func(c *fakeConn, w, arg string) string {
			if w == "STOR" {
				d := c.connect()
				c.say("150 go on")
				_, _ = io.CopyN(io.Discard, d, 1000)
				_ = d.Close()
				return "452 Insufficient storage space"
			}
			return ""
		}, fault.NoSpace, "452"},
		{"no final reply", func(c *fakeConn, w, arg string) string {
			if w == "STOR" {
				c.takes(arg)
				return silence
			}
			return ""
		}, fault.DeadPeer, "STOR"},
		{"takes nothing", func(c *fakeConn, w, arg string) string {
			if w == "STOR" {
				c.connect()
				return "150 go on"
			}
			return ""
		}, fault.DeadPeer, "STOR"},
		{"no renaming", on("RNTO", "553 Rename: not allowed"), fault.Permission, "RNTO"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, c.say)
			s := f.mustOpen("timeout", patient(c.kind))
			b := randomBytes(16 << 20)
			soon(t, func() {
				_, err := write(t.Context(), s, "/f", b)
				if c.kind == 0 {
					if got, _ := f.file("/f"); err != nil || len(got) != len(b) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
					return
				}
				isKind(t, err, c.kind, c.has, f.l.Addr().String())
			})
			if _, there := f.file("/f"); there != (c.kind == 0) {
				t.Error("something has the name")
			}
		})
	}
}

// Fewer bytes than were promised are no file.
func TestShort(t *testing.T) {
	f := newFake(t, nil)
	s := f.mustOpen()
	st, err := s.Write(t.Context(), "/f", plugins.WriteRequest{Size: 10})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Write([]byte("123")); err != nil {
		t.Fatal(err)
	}
	_, err = st.Commit(t.Context())
	isKind(t, err, fault.Corrupt, "3 bytes")
	_, again := st.Commit(t.Context())
	isKind(t, again, fault.Corrupt)
	if _, there := f.file("/f"); there {
		t.Error("it has its name")
	}
}

// The reply to the rename is lost, and the rename was done.
func TestRenameConfirmedLater(t *testing.T) {
	f := newFake(t, func(c *fakeConn, w, arg string) string {
		if w == "RNTO" {
			c.f.honest(c, w, arg)
			return hangUp
		}
		return ""
	})
	if _, err := write(t.Context(), f.mustOpen(), "/f", []byte("12345")); err != nil {
		t.Error(err)
	}
}

// What replaces an older file where the server does not, is an option.
func TestReplace(t *testing.T) {
	f := newFake(t, func(c *fakeConn, w, arg string) string {
		if _, there := c.f.file(arg); w == "RNTO" && there {
			return "550 File exists"
		}
		return ""
	})
	f.put("/f", []byte("old"))
	_, err := write(t.Context(), f.mustOpen(), "/f", []byte("12345"))
	isKind(t, err, fault.Exists, "replace=delete")
	s := f.mustOpen("replace", "delete")
	if s.Capabilities().Atomic {
		t.Error("it claims to replace in one step")
	}
	if _, err := write(t.Context(), s, "/f", []byte("12345")); err != nil {
		t.Error(err)
	}
	if b, _ := f.file("/f"); string(b) != "12345" {
		t.Errorf("%q", b)
	}
}

func TestListLies(t *testing.T) {
	listing := func(text string) func(c *fakeConn, w, _ string) string {
		return func(c *fakeConn, w, _ string) string {
			if w == "MLSD" {
				return c.sends([]byte(text))
			}
			return ""
		}
	}
	for _, c := range []struct {
		name string
		say  func(*fakeConn, string, string) string
		good int
		kind fault.Kind
		has  string
	}{
		{"honest", listing("type=cdir; .\r\ntype=file;size=1; a\r\ntype=dir; b c\r\n"), 2, 0, ""},
		{"CR in a name", listing("type=file;size=1; a\r\ntype=file;size=1; b\rDELE a\r\n"), 1, fault.Protocol, "1 lines"},
		{"names elsewhere", listing("type=file;size=1; ../../etc/passwd\r\ntype=file;size=1; ..\r\ntype=file;size=1; a\r\n"), 1, fault.Protocol, "2 lines"},
		{"no facts", listing("hello\r\n"), 0, fault.Protocol, "hello"},
		{"a false size", listing("type=file;size=-5; a\r\n"), 0, fault.Protocol, "-5"},
		{"long line", listing(strings.Repeat("x", maxLine+1)), 0, fault.Protocol, "longer"},
		{"endless", func(c *fakeConn, w, _ string) string {
			if w == "MLSD" {
				d := c.connect()
				c.say("150 here it comes")
				for {
					if _, err := io.WriteString(d, "type=file;size=1; again\r\n"); err != nil {
						return hangUp
					}
				}
			}
			return ""
		}, 103, fault.TooLong, "max-entries"},
		{"cut off", func(c *fakeConn, w, _ string) string {
			if w == "MLSD" {
				c.sends([]byte("type=file;size=1; a\r\n"))
				return "226-Options: -a -l\r\n226 Output truncated to 1 matches"
			}
			return ""
		}, 1, fault.TooLong, "LimitRecursion"},
		{"no directory", on("MLSD", "550 No such directory."), 0, fault.NotFound, "MLSD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, c.say)
			s := f.mustOpen("max-entries", "100")
			soon(t, func() {
				good := 0
				var err error
				for _, e := range s.List(t.Context(), "/") {
					if err != nil {
						t.Error("something comes after an error")
					}
					if err = e; err == nil {
						good++
					}
				}
				if good != c.good {
					t.Errorf("%d entries; want %d", good, c.good)
				}
				if c.kind == 0 && err == nil {
					return
				}
				isKind(t, err, c.kind, c.has, f.l.Addr().String())
			})
		})
	}
	t.Run("stopped", func(t *testing.T) {
		s := newFake(t, listing("type=file;size=1; a\r\ntype=dir; b\r\n")).mustOpen("connections", "1")
		for range s.List(t.Context(), "/") {
			break
		}
		if _, err := s.Stat(t.Context(), "/nothing"); fault.KindOf(err) != fault.NotFound {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestTLS(t *testing.T) {
	cert := testcert.New(t, t.TempDir(), "127.0.0.1")
	conf, ca, pin := cert.Server, cert.File, cert.Pin
	old := conf.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	inject := func(_ *fakeConn, w, _ string) string {
		if w == "AUTH" {
			return "234 go on\r\n230 you are in"
		}
		return ""
	}
	for _, c := range []struct {
		name     string
		conf     *tls.Config
		implicit bool
		say      func(*fakeConn, string, string) string
		options  []string
		kind     fault.Kind
		has      string
	}{
		{"authority", conf, false, nil, []string{"tls", "require", "ca", ca}, 0, ""},
		{"pin", conf, false, nil, []string{"tls", "explicit", "pin", "SHA256:" + pin}, fault.Invalid, "hexadecimal"},
		{"pinned", conf, false, nil, []string{"tls", "explicit", "pin", "sha256:" + pin}, 0, ""},
		{"implicit", conf, true, nil, []string{"pin", pin}, 0, ""},
		{"unknown", conf, false, nil, []string{"tls", "require"}, fault.Unauthenticated, "pin"},
		{"another pin", conf, false, nil, []string{"tls", "require", "pin", strings.Repeat("00", 32)}, fault.Unauthenticated, pin},
		{"downgrade: no AUTH", nil, false, nil, []string{"tls", "explicit", "pin", pin}, fault.Unsupported, "AUTH"},
		{"downgrade: an old version", old, false, nil, []string{"tls", "require", "pin", pin}, fault.Unsupported, "1.2 or 1.3"},
		{"downgrade: no PROT P", conf, false, on("PROT", "536 no"), []string{"tls", "require", "pin", pin}, fault.Unsupported, "PROT"},
		{"no PROT P, and need not", conf, false, on("PROT", "536 no"), []string{"tls", "explicit", "pin", pin}, 0, ""},
		{"words in clear", conf, false, inject, []string{"tls", "require", "pin", pin}, fault.Protocol, "in clear"},
		{"no TLS there", conf, false, nil, nil, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, c.say)
			f.serves(c.conf, c.implicit)
			soon(t, func() {
				s, err := f.open(c.options...)
				if c.kind == 0 {
					if err != nil {
						t.Fatal(err)
					}
					if clear := strings.Contains(c.name, "need not"); clear != strings.Contains(strings.Join(s.Capabilities().Notes, " "), "PROT P") {
						t.Errorf("%q", s.Capabilities().Notes)
					}
					return
				}
				isKind(t, err, c.kind, c.has)
				f.mu.Lock()
				defer f.mu.Unlock()
				if all := strings.Join(f.heard, "\n"); strings.Contains(all, "PASS") && !strings.Contains(c.name, "PROT") {
					t.Errorf("the password was sent: %q", all)
				}
			})
		})
	}
}

// A control connection that has timed out is not used again, for its next reply would be
// taken for that of another command.
func TestNeverAgain(t *testing.T) {
	var once sync.Once
	f := newFake(t, func(c *fakeConn, w, _ string) string {
		answer := ""
		if w == "MLST" {
			once.Do(func() {
				time.Sleep(1500 * time.Millisecond)
				answer = "250-late\r\n type=file;size=99; /f\r\n250 End"
			})
		}
		return answer
	})
	f.put("/f", []byte("12345"))
	s := f.mustOpen("connections", "1", "timeout", "1s")
	_, err := s.Stat(t.Context(), "/f")
	isKind(t, err, fault.DeadPeer, "MLST")
	a, err := s.Stat(t.Context(), "/f")
	if err != nil || a.Size != 5 {
		t.Errorf("%+v, %v", a, err)
	}
}

// A connection that the server has ended meanwhile is replaced, and the caller does not
// notice; keepalive asks those that are not used.
func TestIdle(t *testing.T) {
	var mu sync.Mutex
	var last net.Conn
	f := newFake(t, func(c *fakeConn, w, _ string) string {
		if w == "TYPE" {
			mu.Lock()
			last = c.c
			mu.Unlock()
		}
		return ""
	})
	f.put("/f", []byte("12345"))
	s := f.mustOpen("keepalive", "20ms")
	for range 3 {
		mu.Lock()
		_, _ = io.WriteString(last, "421 idle for too long\r\n")
		_ = last.Close()
		mu.Unlock()
		time.Sleep(5 * time.Millisecond)
		if _, err := s.Stat(t.Context(), "/f"); err != nil {
			t.Error(err)
		}
	}
	for n := 0; ; n++ {
		f.mu.Lock()
		noop := strings.Contains(strings.Join(f.heard, "\n"), "NOOP")
		f.mu.Unlock()
		if noop {
			break
		}
		if n == 1000 {
			t.Fatal("an unused connection is not asked for a sign of life")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Calls at the same time have connections of their own, as many as the option says, or as
// the server takes; more wait.
func TestConnections(t *testing.T) {
	var mu sync.Mutex
	now, most := 0, 0
	f := newFake(t, func(c *fakeConn, w, _ string) string {
		mu.Lock()
		defer mu.Unlock()
		switch w {
		case "BANNER":
			if now >= 3 {
				return "421 Too many connections"
			}
			now++
			most = max(most, now)
		}
		return ""
	})
	b := randomBytes(1 << 20)
	for i := range 12 {
		f.put("/f"+strconv.Itoa(i), b)
	}
	for _, limit := range []string{"2", "8"} {
		mu.Lock()
		now, most = 0, 0
		mu.Unlock()
		s := f.mustOpen("connections", limit)
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if got, err := reads(t.Context(), s, "/f"+strconv.Itoa(i), 0); err != nil || len(got) != len(b) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			}()
		}
		wg.Wait()
		if want := map[string]int{"2": 2, "8": 3}[limit]; most != want {
			t.Errorf("%d connections; want %d", most, want)
		}
		_ = s.Close()
		_, err := s.Stat(t.Context(), "/f1")
		isKind(t, err, fault.Canceled)
	}
}

func TestCancel(t *testing.T) {
	f := newFake(t, on("MLST", silence))
	s := f.mustOpen("timeout", "1h", "connections", "1")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	soon(t, func() {
		_, err := s.Stat(ctx, "/f")
		isKind(t, err, fault.Deadline)
		_, err = s.Stat(ctx, "/f")
		isKind(t, err, fault.Deadline)
	})
}

func TestEndpoint(t *testing.T) {
	for _, e := range []plugins.Endpoint{
		{URL: "http://example.com"}, {URL: "ftp://"}, {URL: "ftp://user:secret@example.com"}, {URL: "ftp://example.com", User: "a\r\nDELE x"},
		{URL: "ftp://example.com", User: "a", Password: "b\nQUIT"}, {URL: "ftp://example.com/%0d%0aDELE"}, {URL: "ftp://example.com", Options: map[string]string{"tsl": "require"}},
		{URL: "ftp://example.com", Options: map[string]string{"tls": "maybe"}}, {URL: "ftp://example.com", Options: map[string]string{"connections": "0"}},
		{URL: "ftp://example.com", Options: map[string]string{"timeout": "soon"}}, {URL: "ftp://example.com", Options: map[string]string{"pin": "12"}},
	} {
		_, err := Driver{}.Open(t.Context(), e)
		isKind(t, err, fault.Invalid)
		if strings.Contains(err.Error(), "secret") {
			t.Error(err)
		}
	}
	_, err := Driver{}.Open(t.Context(), plugins.Endpoint{URL: "ftp://example.com", Options: map[string]string{"ca": "/nonexistent"}})
	isKind(t, err, fault.NotFound)
}

// Lies during a copy between two servers.
func TestCopyLies(t *testing.T) {
	content := randomBytes(200_000)
	for _, c := range []struct {
		name     string
		src, dst func(*fakeConn, string, string) string
		kind     fault.Kind
		has      string
	}{
		{"honest", nil, nil, 0, ""},
		{"226 on truncation at the source", func(c *fakeConn, w, _ string) string {
			if w == "RETR" {
				return c.sends(content[:1000])
			}
			return ""
		}, nil, fault.Corrupt, "1000 bytes"},
		{"226 on truncation at the destination", nil, func(c *fakeConn, w, arg string) string {
			if w == "STOR" {
				answer := c.takes(arg)
				c.f.mu.Lock()
				c.f.files[arg] = c.f.files[arg][:10]
				c.f.mu.Unlock()
				return answer
			}
			return ""
		}, fault.Corrupt, "10 bytes"},
		{"no final reply of the source", func(c *fakeConn, w, _ string) string {
			if w == "RETR" {
				c.sends(content)
				return silence
			}
			return ""
		}, nil, fault.DeadPeer, "RETR"},
		{"no final reply of the destination", nil, func(c *fakeConn, w, arg string) string {
			if w == "STOR" {
				c.takes(arg)
				return silence
			}
			return ""
		}, fault.DeadPeer, "STOR"},
		{"source says 226 and destination 552", nil, func(c *fakeConn, w, arg string) string {
			if w == "STOR" {
				c.takes(arg)
				return "552 Quota exceeded"
			}
			return ""
		}, fault.NoSpace, "552"},
		{"STOR is refused", nil, on("STOR", "553 Permission denied"), fault.Permission, "STOR"},
		{"both refuse addresses", on("EPRT", "500 Illegal PORT command."), on("EPRT", "500 I won't open a connection to 127.0.0.1 (only to 127.0.0.2)"), fault.Refused, "AllowUserFXP"},
		{"the source refuses addresses", on("EPRT", "500 Illegal PORT command."), nil, 0, ""},
		{"the destination leads to another service", nil, on("EPSV", "229 come (|||25|)"), fault.Protocol, "1024"},
		{"the source hangs up", on("RETR", hangUp), nil, fault.Lost, "RETR"},
		{"hashes differ", hashes("one"), hashes("two"), fault.Corrupt, "sha256"},
		{"hashes are equal", hashes("one"), hashes("one"), 0, "sha256"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newFake(t, c.src), newFake(t, c.dst)
			a.put("/f", content)
			s, d := a.mustOpen("fxp", "any", "timeout", patient(c.kind)), b.mustOpen("fxp", "127.0.0.1", "timeout", patient(c.kind))
			soon(t, func() {
				res, err := s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{})
				got, there := b.file("/g")
				if c.kind == 0 {
					if verified := map[bool]string{true: "sha256", false: "size"}[c.has != ""]; err != nil || len(got) != len(content) || res.Verified != verified {
						t.Errorf("%d bytes, %+v, %v", len(got), res, err)
					}
					return
				}
				isKind(t, err, c.kind, c.has)
				if there {
					t.Error("something has the name")
				}
				// what was uncertain is not used again: the sessions go on with connections of their own
				if a, err := s.Stat(t.Context(), "/f"); err != nil || a.Size != int64(len(content)) {
					t.Errorf("afterwards: %+v, %v", a, err)
				}
			})
		})
	}
}

func hashes(of string) func(*fakeConn, string, string) string {
	return func(_ *fakeConn, w, arg string) string {
		switch w {
		case "FEAT":
			return "211-x\r\n XSHA256\r\n MLST size*;\r\n REST STREAM\r\n211 End"
		case "XSHA256":
			return fmt.Sprintf("250 %X", sha256.Sum256([]byte(of)))
		}
		return ""
	}
}

// A transfer that stalls is interrupted, as servers notice it.
func TestCopyStalls(t *testing.T) {
	stalled := make(chan string, 10)
	a := newFake(t, func(c *fakeConn, w, _ string) string {
		switch w {
		case "RETR":
			d := c.connect()
			_, _ = d.Write([]byte("some"))
			t.Cleanup(func() { _ = d.Close() })
			return "150 here it comes"
		case "ABOR":
			stalled <- w
			return "226 aborted"
		}
		return ""
	})
	a.put("/f", randomBytes(1000))
	b := newFake(t, nil)
	s, d := a.mustOpen("fxp", "any", "timeout", "1s"), b.mustOpen("fxp", "any", "timeout", "1s")
	soon(t, func() {
		_, err := s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{})
		isKind(t, err, fault.DeadPeer, "RETR")
		select {
		case <-stalled:
		case <-time.After(30 * time.Second):
			t.Error("the source was not told to stop")
		}
	})
}

// Who closes early is not told that this was all, and the connection is not used again.
func TestReadEarly(t *testing.T) {
	f := newFake(t, nil)
	f.put("/f", randomBytes(100_000))
	s := f.mustOpen("connections", "1")
	r, err := s.Read(t.Context(), "/f", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		isKind(t, r.Close(), fault.Canceled)
	}
	if b, err := reads(t.Context(), s, "/f", 99_990); err != nil || len(b) != 10 {
		t.Errorf("afterwards: %d bytes, %v", len(b), err)
	}
}

// A copy goes on at the size of the part, which both servers are told directly before.
func TestCopyResume(t *testing.T) {
	content := randomBytes(2 << 20)
	a, b := newFake(t, nil), newFake(t, nil)
	a.put("/f", content)
	tok := newToken("")
	tok.Size, tok.Modified = int64(len(content)), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Unix()
	b.put(tok.part("/g"), content[:1_000_000])
	s, d := a.mustOpen("fxp", "any"), b.mustOpen("fxp", "any")
	res, err := s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{Resume: tok.bytes()})
	if err != nil || res.Bytes != int64(len(content)) {
		t.Fatalf("%+v, %v", res, err)
	}
	if got, _ := b.file("/g"); string(got) != string(content) {
		t.Errorf("the destination has %d other bytes", len(got))
	}
	for f, next := range map[*fake]string{a: "RETR /f", b: "STOR " + tok.part("/g")} {
		f.mu.Lock()
		if all := strings.Join(f.heard, "\n"); !strings.Contains(all, "REST 1000000\n"+next) {
			t.Errorf("it heard %q", all)
		}
		f.mu.Unlock()
	}
}
