package ftp

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// removes removes the parts that a fake has, for a command, once it has been confirmed.
func (f *fake) removes() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.files {
		if strings.HasSuffix(name, ".part") {
			delete(f.files, name)
		}
	}
}

// TestPartRemoved: of a file that the server has confirmed and does not have any more, it is said that, and what
// may have removed it, whenever that is noticed; not that the name is wrong, or that an older file is in the way.
func TestPartRemoved(t *testing.T) {
	content := randomBytes(10_000)
	for name, say := range map[string]func(*fakeConn, string, string) string{
		"after 226": func(c *fakeConn, w, arg string) string {
			if w != "STOR" {
				return ""
			}
			answer := c.takes(arg)
			c.f.removes()
			return answer
		},
		"before it is renamed": func(c *fakeConn, w, _ string) string {
			if w != "RNFR" {
				return ""
			}
			c.f.removes()
			return "550 No such file."
		},
		"while it is renamed": func(c *fakeConn, w, _ string) string {
			if w != "RNTO" {
				return ""
			}
			c.f.removes()
			return "550 Rename: no such file"
		},
	} {
		t.Run(name, func(t *testing.T) {
			says := []string{"confirmed all 10000 bytes", "550 No such file.", "raise the user's quota", "names end in .part"}
			f := newFake(t, say)
			f.put("/f", []byte("older"))
			_, err := write(t.Context(), f.mustOpen(), "/f", content)
			isKind(t, err, fault.NoSpace, append(says, f.l.Addr().String()+"/f", "STOR")...)
			if strings.Contains(fmt.Sprint(err), "check the name") {
				t.Error(err)
			}
			a, b := newFake(t, nil), newFake(t, say)
			a.put("/f", content)
			b.put("/f", []byte("older"))
			_, err = a.mustOpen("fxp", "any").Copy(t.Context(), "/f", b.mustOpen("fxp", "any"), "/f", plugins.CopyRequest{})
			isKind(t, err, fault.NoSpace, append(says, b.l.Addr().String()+"/f")...)
			for _, f := range []*fake{f, b} {
				if got, _ := f.file("/f"); string(got) != "older" {
					t.Errorf("the older file has %d bytes", len(got))
				}
			}
		})
	}
}

// TestOlderIsNotTaken: a rename whose reply does not come, and after which nothing unfinished is there, was done if what has the
// name is the file that was sent: by its checksum where the server computes one, by its time otherwise. An older one of its
// size is not taken for it.
func TestOlderIsNotTaken(t *testing.T) {
	content, older := randomBytes(10_000), make([]byte, 10_000)
	const olderTime = "20200101000000"
	// lost is a server whose reply to RNTO does not come. It has done it, or has removed what was unfinished.
	lost := func(done, sums, times bool) func(*fakeConn, string, string) string {
		return func(c *fakeConn, w, arg string) string {
			f := c.f
			switch {
			case w == "RNTO":
				if done {
					f.honest(c, w, arg)
				} else {
					f.removes()
				}
				return hangUp
			case w == "FEAT" && sums:
				return "211-x\r\n" + f.feat + " XSHA256\r\n211 End"
			case w == "XSHA256":
				b, _ := f.file(arg)
				return fmt.Sprintf("250 %X", sha256.Sum256(b))
			case w == "MDTM" && !times:
				return "500 what?"
			case w == "MDTM":
				if b, _ := f.file(arg); string(b) == string(older) {
					return "213 " + olderTime
				}
			}
			return ""
		}
	}
	for _, c := range []struct{ done, sums, times bool }{{true, true, true}, {false, true, true}, {true, false, true}, {false, false, true}, {true, true, false}, {false, true, false}, {true, false, false}, {false, false, false}} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			want := fault.Kind(0)
			if !c.done || !c.sums && !c.times { // of nothing but its size it cannot be told
				want = fault.Lost
			}
			is := func(err error, f *fake) {
				t.Helper()
				if want != 0 {
					isKind(t, err, want, f.l.Addr().String(), "RNTO")
				} else if err != nil {
					t.Error(err)
				}
				if got, _ := f.file("/f"); (string(got) == string(content)) != c.done {
					t.Errorf("it has %d bytes, done %v", len(got), c.done)
				}
			}
			f := newFake(t, lost(c.done, c.sums, c.times))
			f.put("/f", older)
			_, err := write(t.Context(), f.mustOpen(), "/f", content)
			is(err, f)

			for _, more := range []string{" MFMT\r\n", ""} { // the copy has the source's time, or one of its own
				a, b := newFake(t, lost(true, c.sums, true)), newFake(t, lost(c.done, c.sums, c.times))
				b.mu.Lock()
				b.feat += more
				b.mu.Unlock()
				a.put("/f", content)
				b.put("/f", older)
				_, err = a.mustOpen("fxp", "any").Copy(t.Context(), "/f", b.mustOpen("fxp", "any"), "/f", plugins.CopyRequest{})
				is(err, b)
			}
		})
	}
}

// TestAdvice: an error that no further attempt mends says what to change, whatever the reply and the command; so does a full
// disk or quota, in whichever words.
func TestAdvice(t *testing.T) {
	for code := 400; code < 560; code++ {
		for _, command := range []string{"connect", "AUTH", "USER", "PASS", "PROT", "TYPE", "PASV", "EPRT", "STOR", "RETR", "MLSD", "SIZE", "RNTO", "DELE", "HASH"} {
			for _, text := range []string{"", "Quota exceeded", "Read-only file system", "No such file", "is a directory", "File exists"} {
				r := reply{code, []string{text}}
				kind := kindOf(command, r)
				said := advice(kind, command, r)
				switch kind {
				case fault.Lost, fault.Draining, fault.DeadPeer:
					continue // what is wrong is nobody's to change
				}
				if said == "" {
					t.Errorf("%s: %d %s is %v, and nothing is said to do", command, code, text, kind)
				}
			}
		}
	}
	for _, r := range []reply{{452, nil}, {552, nil}, {451, nil}, {450, nil}, {553, nil}, {550, nil}} {
		for _, text := range []string{"Disk quota exceeded", "No space left on device", "Insufficient storage", "Failure writing to local file."} {
			if r.lines = []string{text}; text == "Failure writing to local file." && r.code >= 550 && r.code != 552 {
				continue // a refusal, which has its own
			}
			said := advice(kindOf("STOR", r), "STOR", r)
			if !strings.Contains(said, "quota") || !strings.Contains(said, "make room") {
				t.Errorf("%d %s: %q", r.code, text, said)
			}
		}
	}
}

// TestPasswordRepeated: the reply of a server that repeats what it has been told does not have an error tell the password.
func TestPasswordRepeated(t *testing.T) {
	f := newFake(t, func(_ *fakeConn, w, arg string) string {
		if w == "PASS" {
			return "500 'PASS " + arg + "': command not understood"
		}
		return ""
	})
	_, err := Driver{}.Open(t.Context(), plugins.Endpoint{URL: "ftp://" + f.l.Addr().String(), User: "u", Password: "correct horse"})
	isKind(t, err, fault.Unsupported, "PASS", "command not understood")
	if strings.Contains(fmt.Sprint(err), "horse") {
		t.Error(err)
	}
}

// TestSourceRewritten: a source that is written anew while it is copied, with the same size, is not published as a mixture of
// both, where only its time tells. A server that does not say the time, before or then, changes nothing.
func TestSourceRewritten(t *testing.T) {
	older, newer := randomBytes(resumable+10), randomBytes(resumable+10)
	for name, now := range map[string]string{
		"another time":      "213 20260102030406",
		"a fraction":        "213 20260102030405.5",
		"the same time":     "213 20260102030405",
		"refused afterward": "550 no",
		"not known":         "500 what?",
		"no time":           "213 yesterday",
	} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Bool
			a := newFake(t, func(c *fakeConn, w, arg string) string {
				switch {
				case w == "RETR":
					d := c.connect()
					if d == nil {
						return "425 no"
					}
					c.say("150 here it comes")
					_, _ = d.Write(older[:resumable/2])
					c.f.put(arg, newer)
					sent.Store(true)
					_, _ = d.Write(newer[resumable/2:])
					_ = d.Close()
					return "226 that was it"
				case w == "MDTM" && (sent.Load() || name == "not known"):
					return now
				}
				return ""
			})
			b := newFake(t, nil)
			a.put("/f", older)
			b.put("/g", []byte("older"))
			soon(t, func() {
				res, err := a.mustOpen("fxp", "any").Copy(t.Context(), "/f", b.mustOpen("fxp", "any"), "/g", plugins.CopyRequest{})
				if changed := name == "another time" || name == "a fraction"; !changed {
					if got, _ := b.file("/g"); err != nil || len(got) != len(older) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
					return
				}
				isKind(t, err, fault.SourceChanged, a.l.Addr().String()+"/f", "2026-01-02 03:04:0")
				if res.Resume != nil {
					t.Errorf("it is gone on with: %s", res.Resume)
				}
				b.mu.Lock()
				defer b.mu.Unlock()
				if len(b.files) != 1 || string(b.files["/g"]) != "older" {
					t.Errorf("%d files are there, and /g has %d bytes", len(b.files), len(b.files["/g"]))
				}
			})
		})
	}
}
