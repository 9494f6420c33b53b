package ftp

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pannier/pannier/flow/flowtest/ftpserver"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// farm starts the three servers.
func farm(t testing.TB, o ...ftpserver.Option) map[string]*ftpserver.Server {
	all := map[string]*ftpserver.Server{}
	for _, kind := range ftpserver.Kinds {
		all[kind] = ftpserver.Start(t, kind, o...)
	}
	return all
}

// pairs runs f for each ordered pair of different servers.
func pairs(t *testing.T, all map[string]*ftpserver.Server, f func(t *testing.T, a, b *ftpserver.Server)) {
	for _, a := range ftpserver.Kinds {
		for _, b := range ftpserver.Kinds {
			if a != b {
				t.Run(a+" to "+b, func(t *testing.T) { f(t, all[a], all[b]) })
			}
		}
	}
}

// want is how far two servers can be compared: only proftpd computes checksums.
const want = "size"

func TestFXP(t *testing.T) {
	all := farm(t, ftpserver.FXP)
	pairs(t, all, func(t *testing.T, a, b *ftpserver.Server) {
		s, d := opens(t, a, "fxp", "any"), opens(t, b, "fxp", strings.Split(a.Address, ":")[0])
		big := randomBytes(3 << 20)
		for _, n := range []int{0, 1, len(big)} {
			puts(t, a, "f", big[:n])
			var last int64
			res, err := s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{Progress: func(n int64, _ []byte) { last = n }})
			if err != nil || res.Bytes != int64(n) || res.Verified != want || res.Resume != nil || last != int64(n)*int64(n/len(big)) {
				t.Fatalf("%d bytes: %+v, %v; progress %d", n, res, err, last)
			}
			holds(t, b, "g", big[:n])
		}
		_, err := s.Copy(t.Context(), "/nothing", d, "/g", plugins.CopyRequest{})
		isKind(t, err, fault.NotFound, a.Address, "550")
		holds(t, b, "g", big)
		_ = os.Remove(filepath.Join(b.Data, "g"))
		_ = os.Remove(filepath.Join(a.Data, "f"))
		onlyFiles(t, b)
	})
}

func TestFXPHash(t *testing.T) {
	a, b := ftpserver.Start(t, "proftpd", ftpserver.FXP), ftpserver.Start(t, "proftpd", ftpserver.FXP)
	s, d := opens(t, a, "fxp", "any"), opens(t, b, "fxp", "any")
	big := randomBytes(1 << 20)
	puts(t, a, "f", big)
	res, err := s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{})
	if err != nil || res.Verified != "sha256" {
		t.Fatalf("%+v, %v", res, err)
	}
	holds(t, b, "g", big)
	// What an earlier copy has left is another file's, of the same length.
	tok := newToken("")
	info, err := os.Stat(filepath.Join(a.Data, "f"))
	if err != nil {
		t.Fatal(err)
	}
	tok.Size, tok.Modified = int64(len(big)), info.ModTime().Unix()
	puts(t, b, filepath.Base(tok.part("/h")), make([]byte, 1000))
	res, err = s.Copy(t.Context(), "/f", d, "/h", plugins.CopyRequest{Resume: tok.bytes()})
	isKind(t, err, fault.Corrupt, "sha256")
	if res.Resume != nil {
		t.Error("it would go on with what is corrupt")
	}
	onlyFiles(t, b, "g")
}

// cut ends a copy after the destination has some of it: by its context, or by killing a
// server. A copy that was too quick for that is done again.
func cut(t *testing.T, s, d *session, b, kill *ftpserver.Server) plugins.CopyResult {
	t.Helper()
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		watching := make(chan struct{})
		over := make(chan struct{})
		killed := false
		go func() {
			defer close(watching)
			for !partExists(b, 1<<20) {
				select {
				case <-over:
					return
				case <-time.After(time.Millisecond):
				}
			}
			if kill == nil {
				cancel()
				return
			}
			kill.Kill()
			killed = true
		}()
		res, err := s.Copy(ctx, "/f", d, "/g", plugins.CopyRequest{})
		close(over)
		<-watching
		cancel()
		if err == nil {
			_ = os.Remove(filepath.Join(b.Data, "g"))
			if killed {
				kill.Restart()
			}
			continue
		}
		kind := fault.Canceled
		if kill != nil {
			kind = fault.Lost
		}
		isKind(t, err, kind)
		if res.Resume == nil {
			t.Fatalf("%+v, %v: nothing to go on with", res, err)
		}
		return res
	}
	t.Fatal("each of 20 copies was too quick to be cut")
	return plugins.CopyResult{}
}

// partExists says whether a server has an unfinished file of more than some bytes.
func partExists(f *ftpserver.Server, least int64) bool {
	parts, _ := filepath.Glob(filepath.Join(f.Data, "*.part"))
	for _, p := range parts {
		if i, err := os.Stat(p); err == nil && i.Size() > least {
			return true
		}
	}
	return false
}

func TestFXPResume(t *testing.T) {
	all := farm(t, ftpserver.FXP)
	big := randomBytes(64 << 20)
	pairs(t, all, func(t *testing.T, a, b *ftpserver.Server) {
		s, d := opens(t, a, "fxp", "any", "timeout", "10s"), opens(t, b, "fxp", "any", "timeout", "10s")
		puts(t, a, "f", big)
		first := cut(t, s, d, b, nil)
		part := sizeOfPart(t, b)
		if part < 1<<20 || part >= int64(len(big)) {
			t.Fatalf("the part has %d bytes", part)
		}
		// the same sessions, whose connections were given up, and a new process would do the same
		res, err := s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{Resume: first.Resume})
		if err != nil || res.Bytes != int64(len(big)) {
			t.Fatalf("%+v, %v", res, err)
		}
		holds(t, b, "g", big)
		if parts, _ := filepath.Glob(filepath.Join(b.Data, "*.part")); parts != nil {
			t.Errorf("%q are left", parts)
		}
		_ = os.Remove(filepath.Join(b.Data, "g"))
		_ = os.Remove(filepath.Join(a.Data, "f"))
	})
}

func sizeOfPart(t *testing.T, b *ftpserver.Server) int64 {
	t.Helper()
	parts, _ := filepath.Glob(filepath.Join(b.Data, "*.part"))
	if len(parts) != 1 {
		t.Fatalf("%q: one part is expected", parts)
	}
	i, err := os.Stat(parts[0])
	if err != nil {
		t.Fatal(err)
	}
	return i.Size()
}

func TestFXPKilled(t *testing.T) {
	big := randomBytes(64 << 20)
	for _, kind := range ftpserver.Kinds {
		for _, which := range []string{"source", "destination"} {
			t.Run(kind+" as "+which, func(t *testing.T) {
				other := map[bool]string{true: "vsftpd", false: "proftpd"}[kind == "proftpd"]
				f, o := ftpserver.Start(t, kind, ftpserver.FXP), ftpserver.Start(t, other, ftpserver.FXP)
				a, b := f, o
				if which == "destination" {
					a, b = o, f
				}
				s, d := opens(t, a, "fxp", "any", "timeout", "5s"), opens(t, b, "fxp", "any", "timeout", "5s")
				puts(t, a, "f", big)
				first := cut(t, s, d, b, f)
				f.Restart()
				res, err := s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{Resume: first.Resume})
				if err != nil || res.Bytes != int64(len(big)) {
					t.Fatalf("%+v, %v", res, err)
				}
				holds(t, b, "g", big)
			})
		}
	}
}

func TestFXPSourceChanged(t *testing.T) {
	a, b := ftpserver.Start(t, "vsftpd", ftpserver.FXP), ftpserver.Start(t, "proftpd", ftpserver.FXP)
	s, d := opens(t, a, "fxp", "any"), opens(t, b, "fxp", "any")
	big := randomBytes(2 << 20)
	puts(t, a, "f", big)
	tok := newToken("")
	tok.Size, tok.Modified = int64(len(big)), 1 // the time is another
	puts(t, b, filepath.Base(tok.part("/g")), make([]byte, 1000))
	if _, err := s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{Resume: tok.bytes()}); err != nil {
		t.Fatal(err)
	}
	holds(t, b, "g", big)
	_, err := s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{Resume: []byte(`{"id":"../x"}`)})
	isKind(t, err, fault.Invalid)
}

func TestFXPTLS(t *testing.T) {
	all := farm(t, ftpserver.FXP, ftpserver.TLS)
	big := randomBytes(3 << 20)
	pairs(t, all, func(t *testing.T, a, b *ftpserver.Server) {
		puts(t, a, "f", big)
		s, d := opens(t, a, "fxp", "any", "tls", "require", "ca", a.CA), opens(t, b, "fxp", "any", "tls", "require", "ca", b.CA)
		res, err := s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{})
		if a.Kind != "proftpd" && b.Kind != "proftpd" { // neither has SSCN
			isKind(t, err, fault.Unsupported, "SSCN", "fxp-data=clear")
			s, d = opens(t, a, "fxp", "any", "tls", "require", "ca", a.CA, "fxp-data", "clear"), opens(t, b, "fxp", "any", "tls", "require", "ca", b.CA)
			_, err = s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{})
			isKind(t, err, fault.Unsupported, "SSCN")
			_ = s.Close()
			s = opens(t, a, "fxp", "any", "tls", "require", "ca", a.CA, "fxp-data", "clear", "connections", "1")
			d = opens(t, b, "fxp", "any", "tls", "require", "ca", b.CA, "fxp-data", "clear", "connections", "1")
			res, err = s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{})
		}
		if err != nil || res.Bytes != int64(len(big)) {
			t.Fatalf("%+v, %v", res, err)
		}
		holds(t, b, "g", big)
		// Connections are as before: protected, and without SSCN.
		if got, err := reads(t.Context(), d, "/g", 0); err != nil || len(got) != len(big) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if _, err := write(t.Context(), s, "/again", big[:1000]); err != nil {
			t.Error(err)
		}
		for _, c := range append(s.idle, d.idle...) {
			if !c.prot && s.connections == 1 {
				t.Error("what follows a copy in clear is in clear, too")
			}
		}
		// An endpoint in clear does not make one with TLS send so.
		_, err = s.Copy(t.Context(), "/f", opens(t, b, "fxp", "any"), "/h", plugins.CopyRequest{})
		if s.fxpClear != (err == nil) {
			t.Errorf("to an endpoint without TLS: %v", err)
		}
	})
}

func TestFXPForbidden(t *testing.T) {
	all := farm(t, ftpserver.Apart)
	settings := map[string]string{"vsftpd": "port_promiscuous", "proftpd": "AllowForeignAddress", "pure-ftpd": "AllowUserFXP"}
	pairs(t, all, func(t *testing.T, a, b *ftpserver.Server) {
		puts(t, a, "f", []byte("secret"))
		s, d := opens(t, a, "fxp", "any", "timeout", "10s"), opens(t, b, "fxp", "any", "timeout", "10s")
		_, err := s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{})
		isKind(t, err, fault.Refused, a.Address, b.Address, settings[a.Kind], settings[b.Kind], "EPRT", "50")
		if parts, _ := filepath.Glob(filepath.Join(b.Data, "*g*")); parts != nil {
			t.Errorf("%q are left", parts)
		}
		if _, err := reads(t.Context(), s, "/f", 0); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// A server that lets one, and another that does not: the roles are exchanged.
func TestFXPOneStrict(t *testing.T) {
	for _, strict := range ftpserver.Kinds {
		for _, free := range ftpserver.Kinds {
			if strict == free {
				continue
			}
			t.Run(strict+" is strict, "+free+" is not", func(t *testing.T) {
				a, b := ftpserver.Start(t, strict, ftpserver.Apart), ftpserver.Start(t, free, ftpserver.FXP)
				puts(t, a, "f", []byte("12345"))
				s, d := opens(t, a, "fxp", "any", "timeout", "10s"), opens(t, b, "fxp", "any", "timeout", "10s")
				_, err := s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{})
				if strict == "proftpd" { // which forbids foreign addresses in EPRT, and accepts their connections
					if err != nil {
						t.Fatal(err)
					}
					holds(t, b, "g", []byte("12345"))
					return
				}
				isKind(t, err, fault.Refused, a.Address, "at "+a.Address)
			})
		}
	}
}

func TestFXPOption(t *testing.T) {
	a, b := ftpserver.Start(t, "vsftpd", ftpserver.FXP), ftpserver.Start(t, "proftpd", ftpserver.FXP)
	puts(t, a, "f", []byte("1"))
	for _, o := range [][2]string{{"", "any"}, {"any", ""}, {"any", "example.com"}, {"127.0.0.9", "any"}} {
		s, d := opens(t, a, "fxp", o[0]), opens(t, b, "fxp", o[1])
		kind := fault.Permission
		if o[0] == "" || o[1] == "" {
			kind = fault.Unsupported
		}
		_, err := s.Copy(t.Context(), "/f", d, "/g", plugins.CopyRequest{})
		isKind(t, err, kind, "fxp", a.Address)
		if s.Capabilities().Copy != (o[0] != "") {
			t.Error("Capabilities differ from the option")
		}
	}
	onlyFiles(t, b)
}

// A directory that is not there is said to be missing, whatever the server says to STOR; it
// is there a moment later, or gone although it was.
func TestFXPDirectory(t *testing.T) {
	all := farm(t, ftpserver.FXP)
	pairs(t, all, func(t *testing.T, a, b *ftpserver.Server) {
		s, d := opens(t, a, "fxp", "any"), opens(t, b, "fxp", "any")
		puts(t, a, "f", []byte("12345"))
		copied := func() error {
			_, err := s.Copy(t.Context(), "/f", d, "/new/g", plugins.CopyRequest{})
			return err
		}
		isKind(t, copied(), fault.NotFound, b.Address)
		_, err := d.Write(t.Context(), "/new/g", plugins.WriteRequest{Size: 1})
		isKind(t, err, fault.NotFound, b.Address)
		isKind(t, d.Mkdir(t.Context(), "/new/er"), fault.NotFound, b.Address)
		for range 2 {
			if err := d.Mkdir(t.Context(), "/new"); err != nil {
				t.Fatal(err)
			}
			if err := copied(); err != nil {
				t.Fatal(err)
			}
			holds(t, b, "new/g", []byte("12345"))
			if err := os.RemoveAll(filepath.Join(b.Data, "new")); err != nil {
				t.Fatal(err)
			}
			isKind(t, copied(), fault.NotFound, b.Address)
		}
	})
}

// Many who make the same directories at the same time all have them then.
func TestMkdirTogether(t *testing.T) {
	for _, kind := range ftpserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			f := ftpserver.Start(t, kind)
			s := opens(t, f, "connections", "8")
			for i := range 20 {
				top := fmt.Sprintf("/d%d", i)
				var all errgroup.Group
				for range 8 {
					all.Go(func() error {
						err := s.Mkdir(t.Context(), top+"/in")
						if fault.KindOf(err) == fault.NotFound {
							if err = s.Mkdir(t.Context(), top); err == nil {
								err = s.Mkdir(t.Context(), top+"/in")
							}
						}
						return err
					})
				}
				if err := all.Wait(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
