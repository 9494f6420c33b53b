package ftpd_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// TestConversations: what is said, and the beginning of what is answered.
func TestConversations(t *testing.T) {
	in := []string{"USER " + user, "331", "PASS " + password, "230"}
	for name, c := range map[string]struct {
		can  func(*plugins.Capabilities)
		talk []string
	}{
		"before the login": {talk: []string{
			"PWD", "530", "STOR a", "530", "PASV", "530", "PORT 127,0,0,1,200,200", "530", "LIST", "530", "NOOP", "200", "SYST", "215", "HELP", "214", "FEAT", "211-",
			"PASS x", "503", "USER", "501", "USER a\rb", "501", "USER a\x00b", "501", "QUIT", "221"}},
		"not commands": {talk: []string{
			"", "500", " ", "500", "X", "500", "ABCDE", "500", "12345", "500", "NOOP\x00", "500", "XYZW", "500", "GET / HTTP/1.1", "500", "ünö", "500", "noop", "200", "NoOp x", "200"}},
		"wrong login": {talk: []string{"USER nobody", "331", "PASS x", "530 User or password is wrong.", "USER " + user, "331", "PASS x", "530 User or password is wrong.", "PASS x", "503"}},
		"logged in": {talk: append(in,
			"USER x", "503", "PASS x", "503", "PWD", `257 "/" `, "XPWD", `257 "/" `, "TYPE A", "200", "TYPE I", "200", "type l 8", "200", "TYPE E", "504", "MODE S", "200", "MODE B", "504",
			"STRU F", "200", "STRU R", "504", "ALLO 100", "202", "STAT", "211-", "STAT x", "504", "ABOR", "226", "OPTS UTF8 ON", "200", "OPTS UTF8", "200", "OPTS UTF8 OFF", "504", "OPTS X", "504")},
		"not done":                {talk: append(in, "ACCT x", "502", "APPE x", "502", "STOU", "502", "SITE CHMOD 777 x", "502", "REIN", "502", "CCC", "502", "SMNT x", "502")},
		"tls where there is none": {talk: []string{"AUTH TLS", "502", "PBSZ 0", "503", "PROT P", "503", "PROT C", "200", "PROT X", "504", "NOOP", "200"}},
		"directories": {talk: append(in,
			"MKD d", `257 "/d" `, "MKD /d", "550", "MKD d/a\"b", `257 "/d/a""b" `, "CWD d", "250", "PWD", `257 "/d" `, "CWD a\"b", "250", "PWD", `257 "/d/a""b" `, "CDUP", "250", "PWD", `257 "/d" `,
			"CWD nothing", "550", "CWD ../../..", "250", "PWD", `257 "/" `, "CDUP", "250", "CWD /d/", "250", "RMD .", "550", "RMD a\"b", "250", "RMD /d", "250", "RMD /d", "550", "RMD /", "550", "PWD", "257")},
		"names": {talk: append(in,
			"SIZE a\rb", "553", "SIZE a\x00b", "553", "SIZE \xc3(", "553", "SIZE a\x1bb", "553", "MKD "+strings.Repeat("a", plugins.MaxName), "553", "DELE ../../etc/passwd", "550 /etc/passwd", "SIZE /../etc/passwd", "550 /etc/passwd",
			"STOR /", "553", "STOR a\x7f", "553", "SIZE a//b/./c/../d", "550 /a/b/d", "RNFR x\ty", "553")},
		"files": {talk: append(in,
			"SIZE f", "213 3", "MDTM f", "213 2", "SIZE sub", "550", "SIZE x", "550", "MDTM x", "550", "MLST f", "250-", "MLST", "250-", "MLST x", "550", "RNFR x", "550", "RNTO y", "503",
			"RNFR f", "350", "NOOP", "200", "RNTO g", "503", "RNFR f", "350", "RNTO g h", "250", "SIZE g h", "213 3", "DELE sub", "550", "RMD g h", "550", "DELE g h", "250", "DELE g h", "550", "RMD sub", "250")},
		"rest":                 {talk: append(in, "REST 10", "350", "REST x", "501", "REST -1", "501", "REST 99999999999999999999", "501", "REST 5", "350", "STOR a", "504", "EPSV", "229", "STOR a\rb", "553")},
		"rest without offsets": {can: func(c *plugins.Capabilities) { c.Offsets = false }, talk: append(in, "REST 0", "350", "REST 1", "504")},
		"nothing allowed": {can: func(c *plugins.Capabilities) { *c = plugins.Capabilities{} }, talk: append(in,
			"EPSV", "229", "STOR a", "550", "LIST", "550", "MLSD", "550", "NLST", "550", "DELE f", "550", "RMD sub", "550", "MKD x", "550", "RNFR f", "550")},
		"no data connection": {talk: append(in, "RETR f", "425", "STOR a", "425", "LIST", "425")},
		"addresses": {talk: append(in,
			"PORT 127,0,0,1,4,0", "200", "PORT 127,0,0,1,3,255", "504", "PORT 127,0,0,2,200,200", "504", "PORT 127,0,0,1,200", "501", "PORT 127,0,0,1,300,1", "501", "PORT a,b,c,d,e,f", "501", "PORT 10,0,0,1,200,1", "504",
			"EPRT |1|127.0.0.1|2000|", "200", "EPRT |1|127.0.0.2|2000|", "504", "EPRT |1|127.0.0.1|80|", "504", "EPRT |2|::1|2000|", "504", "EPRT |1|::1|2000|", "501", "EPRT |2|::ffff:127.0.0.1|2000|", "200",
			"EPRT |3|x|1|", "522", "EPRT |1|127.0.0.1|70000|", "501", "EPRT |", "501", "EPRT x", "501", "EPRT |1|127.0.0.1|2000", "501",
			"PASV", "227", "EPSV", "229", "EPSV 1", "229", "EPSV 2", "522", "EPSV 9", "501", "EPSV ALL", "200", "PASV", "503", "PORT 127,0,0,1,200,200", "503", "EPRT |1|127.0.0.1|2000|", "503", "EPSV", "229")},
		"telnet": {talk: append(in, "\xff\xf4\xff\xf2ABOR", "226", "\xff\xf4\xf2ABOR", "226", "\xff\xfb\x01NOOP", "200", "\xf2NOOP", "200", "NO\xff\xf4OP", "200")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, &node{can: c.can}, "login-tries", "50")
			s.put(t, "f", []byte("123"))
			if err := mkdir(s, "sub"); err != nil {
				t.Fatal(err)
			}
			r := s.connect()
			for i := 0; i < len(c.talk); i += 2 {
				r.is(c.talk[i], c.talk[i+1])
			}
		})
	}
}

// TestSaysNothing: of itself, as which program it is.
func TestSaysNothing(t *testing.T) {
	s := serve(t, nil, "tls", "optional")
	s.put(t, "f", nil)
	r := s.connectFrom("127.0.0.1")
	all := r.wants("220") + r.is("SYST", "215") + r.is("HELP", "214") + r.is("FEAT", "211")
	r.login()
	all += r.is("STAT", "211")
	list, _ := r.retr("LIST")
	all += string(list)
	r = s.connect()
	r.is("AUTH TLS", "234")
	r.secure(tls.VersionTLS13)
	all += r.c.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.String()
	for _, word := range []string{"pannier", "go1", "golang", "version"} {
		if strings.Contains(strings.ToLower(all), word) {
			t.Errorf("it says %q: %s", word, all)
		}
	}
}

// TestFaults: each kind of fault, from each place, becomes its reply; the text has no words
// that are the node's own.
func TestFaults(t *testing.T) {
	want := map[fault.Kind]string{
		fault.Lost: "451", fault.DeadPeer: "451", fault.Deadline: "451", fault.Overloaded: "451", fault.Draining: "451", fault.IO: "451",
		fault.Canceled: "451", fault.Stale: "451", fault.WrongBackend: "451", fault.SourceChanged: "451", fault.NotStarted: "451",
		fault.NoSpace: "452", fault.QuotaExceeded: "552", fault.TooLong: "553", fault.Invalid: "501", fault.Unsupported: "504",
		fault.NotFound: "550", fault.Permission: "550", fault.Exists: "550", fault.Refused: "550", fault.Unauthenticated: "550",
		fault.Internal: "550", fault.Protocol: "550", fault.Corrupt: "550",
	}
	for _, kind := range fault.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			fails := fault.Wrap("store", "/secret/path", fault.New("write", kind, "%s has %d of %s", "/secret/path", 12, fault.Shown("13")))
			n := &node{}
			s := serve(t, n)
			r := s.login()
			held := func(got string) {
				t.Helper()
				if !strings.HasPrefix(got, want[kind]+" /f: ") || strings.Contains(got, "secret") || !strings.Contains(got, kind.String()) || !strings.Contains(got, "12 of 13") {
					t.Errorf("%q; want %s", got, want[kind])
				}
			}
			n.begin = func(string) error { return fails }
			r.epsv()
			held(r.is("STOR f", want[kind]))
			n.begin, n.written = nil, func(int64) error { return fails }
			held(r.stor("f", []byte("123")))
			n.written, n.commit = nil, func(context.Context, plugins.Staged) (plugins.Attr, error) { return plugins.Attr{}, fails }
			held(r.stor("f", []byte("123")))
			if _, commits, aborts := n.counts(); commits != 0 || aborts != 2 {
				t.Errorf("%d commits, %d aborts", commits, aborts)
			}
			n.empty(t)
		})
	}
}

// TestListings in all forms.
func TestListings(t *testing.T) {
	s := serve(t, nil)
	for _, f := range []string{"a.csv", "b.csv", "c.txt", "-dash", "ü x"} {
		s.put(t, f, []byte("12"))
	}
	if err := mkdir(s, "sub"); err != nil {
		t.Fatal(err)
	}
	s.put(t, "sub/in", nil)
	r := s.login()
	lines := func(command string) map[string]bool {
		t.Helper()
		b, got := r.retr(command)
		if !strings.HasPrefix(got, "226") {
			t.Fatalf("%s: %s", command, got)
		}
		all := map[string]bool{}
		for l := range strings.SplitSeq(strings.TrimSuffix(string(b), "\r\n"), "\r\n") {
			all[l] = true
		}
		return all
	}
	same := func(command string, want ...string) {
		t.Helper()
		got := lines(command)
		for _, w := range want {
			if !got[w] {
				t.Errorf("%s: %q is not in %v", command, w, got)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %v; want %q", command, got, want)
		}
	}
	same("NLST", "a.csv", "b.csv", "c.txt", "-dash", "ü x", "sub")
	same("NLST -a", "a.csv", "b.csv", "c.txt", "-dash", "ü x", "sub")
	same("NLST *.csv", "a.csv", "b.csv")
	same("NLST /?.csv", "/a.csv", "/b.csv")
	same("NLST nothing*", "")
	same("NLST sub", "sub/in")
	same("NLST /sub/", "/sub/in")
	same("NLST a.csv", "a.csv")
	if got := lines("LIST"); len(got) != 6 {
		t.Errorf("%v", got)
	}
	at := time.Now().UTC().Format("Jan _2 ")
	for l := range lines("LIST -la *.txt") {
		if !strings.HasPrefix(l, "-rw-r--r-- 1 ") || !strings.Contains(l, " 2 "+at) || !strings.HasSuffix(l, ":"+l[len(l)-8:len(l)-6]+" c.txt") {
			t.Errorf("%q", l)
		}
	}
	for l := range lines("MLSD sub") {
		if !strings.HasPrefix(l, "type=file;size=0;modify=2") || !strings.HasSuffix(l, ";perm=rwdf; in") {
			t.Errorf("%q", l)
		}
	}
	if got := r.is("OPTS MLST Type;X;modify;", "200 MLST OPTS type;modify;"); got == "" {
		t.Fail()
	}
	if got := r.is("FEAT", "211"); !strings.Contains(got, " MLST type*;size;modify*;perm;\r\n") {
		t.Errorf("%q", got)
	}
	if got := r.is("MLST sub", "250"); !strings.Contains(got, "\r\n type=dir;modify=2") || !strings.Contains(got, "; /sub\r\n") {
		t.Errorf("%q", got)
	}
	for command, code := range map[string]string{"MLSD a.csv": "501", "LIST nothing": "550", "NLST [": "501", "MLSD *": "550", "LIST a\rb": "553"} {
		r.epsv()
		r.is(command, code)
	}
}

// TestListingFails: the reply of a listing that fails at once, and of one that fails later;
// a client cannot take the latter for whole.
func TestListingFails(t *testing.T) {
	n := &node{}
	s := serve(t, n, "max-entries", "1000")
	r := s.login()
	n.list = func(yield func(plugins.Attr, error) bool) {
		yield(plugins.Attr{}, fault.New("list", fault.Permission, "no"))
	}
	r.epsv()
	r.is("LIST", "550")
	entries := func(most int, err error) func(yield func(plugins.Attr, error) bool) {
		return func(yield func(plugins.Attr, error) bool) {
			for i := range most {
				if !yield(plugins.Attr{Name: fmt.Sprint(i)}, nil) {
					return
				}
			}
			if err != nil {
				yield(plugins.Attr{}, err)
			}
		}
	}
	n.list = entries(1000, nil)
	if b, got := r.retr("NLST"); len(b) == 0 || !strings.HasPrefix(got, "226") {
		t.Errorf("%d bytes, %s", len(b), got)
	}
	n.list = entries(1000, fault.New("list", fault.Permission, "no"))
	if b, got := r.retr("NLST"); b != nil || !strings.HasPrefix(got, "451") {
		t.Errorf("%d bytes, %s", len(b), got)
	}
	n.list = entries(1001, nil)
	if b, got := r.retr("NLST"); b != nil || !strings.HasPrefix(got, "451") {
		t.Errorf("%d bytes, %s", len(b), got)
	}
	n.list = func(yield func(plugins.Attr, error) bool) {
		for _, name := range []string{"a", "b\r\nc", "d/e", "..", "f"} {
			yield(plugins.Attr{Name: name}, nil)
		}
	}
	log := &flowtest.Log{}
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(log, nil)))
	defer slog.SetDefault(old)
	r = s.login()
	if b, got := r.retr("NLST"); string(b) != "a\r\nf\r\n" {
		t.Errorf("%q, %s", b, got)
	}
	if said := log.String(); strings.Count(said, "left out") != 1 || !strings.Contains(said, "entries=3") {
		t.Errorf("the log says %s", said)
	}
}

// TestPassiveAddress: what PASV says can be another address, and ports of a range.
func TestPassiveAddress(t *testing.T) {
	s := serve(t, nil, "passive-address", "192.0.2.7", "passive-ports", "52000-52099")
	r := s.login()
	got := r.is("PASV", "227")
	var p1, p2 int
	if _, err := fmt.Sscanf(got[strings.Index(got, "("):], "(192,0,2,7,%d,%d)", &p1, &p2); err != nil || p1<<8+p2 < 52000 || p1<<8+p2 > 52099 {
		t.Errorf("%q, %v", got, err)
	}
}

// TestFamilies: IPv6 has EPSV and EPRT only.
func TestFamilies(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("there is no IPv6 here: " + err.Error())
	}
	_ = l.Close()
	s := serveAt(t, "[::1]:0", nil)
	r := s.connectFrom("::1")
	r.wants("220")
	r.login()
	r.is("PASV", "522")
	r.is("EPSV 1", "522")
	r.is("EPRT |2|::1|2000|", "200")
	r.is("EPRT |1|127.0.0.1|2000|", "504")
	if got := r.stor("f", []byte("12")); !strings.HasPrefix(got, "226") {
		t.Error(got)
	}
}
