package ftp

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pannier/pannier/flow/flowtest/ftpserver"
	"github.com/pannier/pannier/flow/flowtest/testcert"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// Commands that only some servers want: PRET, CPSV and APPE.

// hears are the commands that a fake has heard, as one text.
func (f *fake) hears() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.heard, "\n")
}

// preparing is a server that listens only for a command that PRET has named, as drftpd.
func preparing(t *testing.T, more string, cert *tls.Config) *fake {
	return prepared(t, more, cert, wantsPRET)
}

func prepared(t *testing.T, more string, cert *tls.Config, say func(*fakeConn, string, string) string) *fake {
	f := newFake(t, say)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.feat += more
	f.cert = cert
	return f
}

func wantsPRET(c *fakeConn, word, arg string) string {
	switch line := strings.TrimSpace(word + " " + arg); word {
	case "PRET":
		c.next = arg
		return "200 OK, planning to use master for upcoming transfer"
	case "EPSV", "PASV", "CPSV":
		if c.next == "" {
			return "500 You need to use a client supporting PRET (PRE Transfer) to use " + word
		}
		if word == "CPSV" {
			port := c.listen()
			c.cpsv = true
			return fmt.Sprintf("227 Entering (127,0,0,1,%d,%d)", port>>8, port&255)
		}
	case "RETR", "STOR", "APPE", "MLSD":
		if want := c.next; c.to == "" && want != line {
			return "503 PRET was for " + want
		}
		c.next = ""
	}
	return ""
}

// TestPRET: a server that wants to know beforehand is told each time, and no other is.
func TestPRET(t *testing.T) {
	const pret = " MLSD\r\n PRET\r\n"
	f := preparing(t, pret, nil)
	content := randomBytes(10_000)
	s := f.mustOpen("fxp", "any")
	if _, err := write(t.Context(), s, "/f", content); err != nil {
		t.Fatal(err)
	}
	if got, err := reads(t.Context(), s, "/f", 5000); err != nil || !bytes.Equal(got, content[5000:]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	for _, err := range s.List(t.Context(), "/") {
		if err != nil {
			t.Error(err)
		}
	}
	other := newFake(t, nil)
	d := other.mustOpen("fxp", "any")
	for _, c := range []struct{ from, to *session }{{s, d}, {d, s}} {
		if _, err := c.from.Copy(t.Context(), "/f", c.to, "/f", plugins.CopyRequest{}); err != nil {
			t.Errorf("copy: %v", err)
		}
	}
	if got, _ := other.file("/f"); !bytes.Equal(got, content) {
		t.Errorf("the copy has %d bytes", len(got))
	}
	if strings.Contains(other.hears(), "PRET") {
		t.Error("a server without PRET is told")
	}
	// A source that wants it listens only if the destination takes nobody's address.
	strict := newFake(t, on("EPSV", "502 no"))
	if _, err := s.Copy(t.Context(), "/f", strict.mustOpen("fxp", "any"), "/f", plugins.CopyRequest{}); err != nil {
		t.Errorf("copy, in which the source listens: %v", err)
	}
	if all := f.hears(); !strings.Contains(all, "PRET RETR /f\nEPSV\nRETR /f") {
		t.Errorf("it hears %q", all)
	}
}

// TestCPSV: with TLS the server that listens begins it, if it can by CPSV and neither can by SSCN.
func TestCPSV(t *testing.T) {
	cert := testcert.New(t, t.TempDir(), "127.0.0.1")
	content := randomBytes(200_000)
	for _, with := range []string{"source", "destination"} {
		t.Run(with, func(t *testing.T) {
			a, b := newFake(t, nil), newFake(t, nil)
			a.serves(cert.Server, false)
			b.serves(cert.Server, false)
			can := preparing(t, " CPSV\r\n PRET\r\n", cert.Server)
			if with == "source" {
				a = can
			} else {
				b = can
			}
			a.put("/f", content)
			s, d := a.mustOpen("fxp", "any", "tls", "require", "ca", cert.File), b.mustOpen("fxp", "any", "tls", "require", "ca", cert.File)
			res, err := s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{})
			if got, _ := b.file("/g"); err != nil || !bytes.Equal(got, content) {
				t.Fatalf("%d bytes, %+v, %v; %q", len(got), res, err, can.hears())
			}
			if all := can.hears(); !strings.Contains(all, "\nCPSV\n") || strings.Contains(all, "PROT C") {
				t.Errorf("it hears %q", all)
			}
			for _, f := range []*fake{a, b} {
				if f != can && !strings.Contains(f.hears(), "EPRT") {
					t.Errorf("the other hears %q", f.hears())
				}
			}
			// What follows is as before: this end begins TLS.
			if got, err := reads(t.Context(), d, "/g", 0); err != nil || !bytes.Equal(got, content) {
				t.Errorf("afterwards: %d bytes, %v", len(got), err)
			}
		})
	}
	t.Run("neither", func(t *testing.T) {
		a, b := newFake(t, nil), newFake(t, nil)
		a.serves(cert.Server, false)
		b.serves(cert.Server, false)
		a.put("/f", content)
		_, err := a.mustOpen("fxp", "any", "tls", "require", "ca", cert.File).Copy(t.Context(), "/f", b.mustOpen("fxp", "any", "tls", "require", "ca", cert.File), "/g", plugins.CopyRequest{})
		isKind(t, err, fault.Unsupported, "CPSV")
	})
}

// goesOn writes half of a file, keeps it, and the rest with another login, which is told that the
// server has no REST.
func goesOn(t *testing.T, open func() *session, b []byte) {
	t.Helper()
	half := len(b) / 2
	st, err := open().Write(t.Context(), "/f", plugins.WriteRequest{Size: int64(len(b))})
	if err == nil {
		_, err = st.Write(b[:half])
	}
	if err != nil {
		t.Fatal(err)
	}
	kept, err := st.Abort(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	s := open()
	delete(s.feat, "REST")
	if st, err = s.Write(t.Context(), "/f", plugins.WriteRequest{Size: int64(len(b)), Resume: kept}); err != nil || st.Offset() != int64(half) {
		t.Fatal(st, err)
	}
	if _, err = st.Write(b[half:]); err == nil {
		_, err = st.Commit(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestAPPE: where REST is not to be had, what was kept is gone on with by APPE.
func TestAPPE(t *testing.T) {
	f := newFake(t, nil)
	b := randomBytes(300_000)
	goesOn(t, func() *session { return f.mustOpen() }, b)
	if got, _ := f.file("/f"); !bytes.Equal(got, b) {
		t.Errorf("it has %d bytes", len(got))
	}
	if all := f.hears(); !strings.Contains(all, "APPE /f.pannier-") || strings.Contains(all, "REST") {
		t.Errorf("it hears %q", all)
	}
}

// TestRealAPPE: so they do.
func TestRealAPPE(t *testing.T) {
	b := randomBytes(300_000)
	for _, kind := range ftpserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			f := ftpserver.Start(t, kind)
			goesOn(t, func() *session { return opens(t, f) }, b)
			holds(t, f, "f", b)
			onlyFiles(t, f, "f")
		})
	}
}

// TestQuotes: a name with quotes is said to no command that servers read differently then; the file is
// compared by size.
func TestQuotes(t *testing.T) {
	f := newFake(t, hashes("something else"))
	for _, name := range []string{`/a"b`, `/a\b`, `/a "b`} {
		if a, err := write(t.Context(), f.mustOpen(), name, []byte("12345")); err != nil || a.Verified != "size" {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	if all := f.hears(); strings.Contains(all, "XSHA256") {
		t.Errorf("it hears %q", all)
	}
	_, err := write(t.Context(), f.mustOpen(), "/plain", []byte("12345"))
	isKind(t, err, fault.Corrupt, "sha256")
}

// TestPRETTogether: PRET goes with the command that it is for, at a server that takes commands together; whatever it
// says to PRET then, the replies that follow are taken for those of their commands, and it is known whether it listens.
func TestPRETTogether(t *testing.T) {
	var came int
	a, b := newFake(t, nil), prepared(t, " PRET\r\n", nil, together(&came, wantsPRET))
	soon(t, func() { copies(t, a, b, 2) })
	if came != 8 { // NOOP; PRET and EPSV after CWD; MDTM and RNFR; EPSV after PRET; MDTM and RNFR
		t.Errorf("together came %d commands, 8 are expected: %q", came, b.hears())
	}
	for _, c := range []struct {
		answer  string
		listens bool       // all the same
		kind    fault.Kind // 0: the source listens instead
	}{
		{"500 PRET not understood", true, 0},
		{"502 no PRET", false, 0},
		{"530 Access denied", true, 0},
		{"550 Not allowed", true, 0},
		{"451 not now", true, fault.IO},
		{"421 too many", false, fault.Overloaded},
	} {
		t.Run(c.answer, func(t *testing.T) {
			var refuses atomic.Bool
			refuses.Store(true)
			waits, called := false, false
			b := prepared(t, " PRET\r\n", nil, func(f *fakeConn, w, arg string) string {
				switch w {
				case "PRET":
					if refuses.Load() {
						return c.answer
					}
				case "EPSV":
					if waits = f.next != "" || c.listens; waits {
						return f.f.honest(f, w, arg)
					}
				case "EPRT":
					called = waits
				case "STOR", "RETR":
					if called && f.more {
						t.Errorf("%s comes together with EPRT while the server listens", w)
					}
					waits, called = false, false
				}
				return wantsPRET(f, w, arg)
			})
			a := newFake(t, nil)
			a.put("/f", randomBytes(1000))
			b.put("/f", randomBytes(2000))
			s, d := a.mustOpen("fxp", "any", "timeout", "2s"), b.mustOpen("fxp", "any", "timeout", "2s", "connections", "1")
			soon(t, func() {
				_, err := s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{})
				if c.kind != 0 {
					isKind(t, err, c.kind, "PRET", c.answer, b.l.Addr().String())
				} else if got, _ := b.file("/g"); err != nil || len(got) != 1000 {
					t.Errorf("%v, and it has %d bytes", err, len(got))
				}
				refuses.Store(c.kind != fault.Overloaded)
				_, err = s.Copy(t.Context(), "/nothing", d, "/g", plugins.CopyRequest{})
				isKind(t, err, fault.NotFound, a.l.Addr().String())
				if _, err := d.Copy(t.Context(), "/f", s, "/g", plugins.CopyRequest{}); err != nil {
					t.Errorf("the other way: %v", err)
				}
				refuses.Store(false)
				if _, err := s.Copy(t.Context(), "/f", d, "/h", plugins.CopyRequest{}); err != nil {
					t.Errorf("again: %v", err)
				}
			})
			if got, _ := b.file("/h"); len(got) != 1000 {
				t.Errorf("it has %d bytes; %q", len(got), b.hears())
			}
		})
	}
}

// TestNameInReply: what sort of failure a reply is, the server's own words say, not those of the file's name that it repeats.
func TestNameInReply(t *testing.T) {
	c := &conn{s: &session{config: &config{}}}
	for _, one := range []struct {
		command, path string
		code          int
		text          string
		kind          fault.Kind
	}{
		{"STOR", "/in/denied-claims.csv", 451, "/in/denied-claims.csv: the receiver is overloaded", fault.IO},
		{"STOR", "/in/denied-claims.csv", 451, "/in/denied-claims.csv: too many files at once", fault.Overloaded},
		{"STOR", "/in/denied-claims.csv", 451, "/in/denied-claims.csv.pannier-0123.part: Try again", fault.Overloaded},
		{"STOR", "/in/denied-claims.csv", 451, "Denied-Claims.csv: failure", fault.IO},
		{"STOR", "/in/denied-claims.csv", 451, "/srv/ftp/in/denied-claims.csv: failure", fault.IO},
		{"STOR", "/denied/claims.csv", 451, "/srv/ftp/denied/claims.csv: failure", fault.IO},
		{"STOR", "/denied/claims.csv", 451, "denied/claims.csv: failure", fault.IO},
		{"STOR", "/in/forbidden", 451, `cannot write "forbidden"`, fault.IO},
		{"STOR", `/in/a "denied" b`, 451, `"/in/a ""denied"" b": failure`, fault.IO},
		{"STOR", "/in/busy \xe9t\xe9.csv", 451, "busy \xe9t\xe9.csv: quota exceeded", fault.NoSpace},
		{"STOR", "/in/no space.csv", 451, "no space.csv: no space left on device", fault.NoSpace},
		{"STOR", "/in/use.csv", 451, "error in use.csv", fault.IO},
		{"STOR", "/" + strings.Repeat("denied-", 60), 451, strings.Repeat("denied-", 60) + ": too many files", fault.Overloaded},
		{"STOR", "/quota.csv", 550, "quota.csv: Permission denied", fault.Permission},
		{"STOR", "/quota", 550, "quota: Permission denied", fault.Permission},
		{"RETR", "/busy.csv", 530, "busy.csv: log in first", fault.Permission},
		{"RETR", "/in/permission", 550, "permission: No such file or directory", fault.NotFound},
		// Names that are in the words themselves take nothing from those.
		{"RETR", "/a", 550, "a: is a directory", fault.Invalid},
		{"RETR", "/directory", 550, "directory: is a directory", fault.Invalid},
		{"RETR", "/file", 550, "No such file", fault.NotFound},
		{"STOR", "/deni", 550, "deni: Permission denied", fault.Permission},
		{"STOR", "/no", 451, "no: no space", fault.NoSpace},
		{"STOR", "/denied", 550, "Permission denied", fault.Permission},
		{"CWD", "/", 550, "/: Permission denied", fault.Permission},
		{"USER", "", 530, "too many users", fault.Overloaded},
	} {
		err := c.refused(one.command, one.path, reply{one.code, []string{one.text}})
		if k := fault.KindOf(err); k != one.kind {
			t.Errorf("%s %s: %d %s is %v, not %v", one.command, one.path, one.code, one.text, k, one.kind)
		}
	}
	isKind(t, c.refused("STOR", "/denied.csv", reply{451, []string{"denied.csv: Failure"}}), fault.IO, "denied.csv: Failure") // people read all of it
}
