package sftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// number is that of a request, with room for nothing behind it.
func number(body []byte) message { return message(body[:4:4]) }

// untilSilent is a timeout: short where it is to be met.
func untilSilent(kind fault.Kind) string {
	if kind == fault.DeadPeer {
		return "500ms"
	}
	return "1m"
}

// TestLiesReading: what servers say wrong of a file that is read, and what comes of it.
func TestLiesReading(t *testing.T) {
	content := randomBytes(300_000)
	sized := func(n int) func(*link, byte, []byte) bool { // FSTAT says that it has so many bytes
		return func(l *link, typ byte, body []byte) bool {
			if typ == fxFstat {
				l.says(fxAttrs, number(body).number(hasSize).long(int64(n)))
			}
			return typ != fxFstat
		}
	}
	on := func(typ byte, at int64, do func(l *link, body []byte)) func(*link, byte, []byte) bool {
		return func(l *link, got byte, body []byte) bool {
			if got != typ || at >= 0 && offsetOf(body) != at {
				return true
			}
			do(l, body)
			return false
		}
	}
	for name, c := range map[string]struct {
		request func(*link, byte, []byte) bool
		reply   func(*link, byte, []byte) bool
		kind    fault.Kind // 0: all is well
		has     string
	}{
		"as it is": {},
		"short reads": {request: func(l *link, typ byte, body []byte) bool {
			if n := len(body); typ == fxRead && binary.BigEndian.Uint32(body[n-4:]) > 1000 {
				binary.BigEndian.PutUint32(body[n-4:], binary.BigEndian.Uint32(body[n-4:])/2+7)
			}
			return true
		}},
		"a size too large":  {request: sized(300_001), kind: fault.Corrupt, has: "300001"},
		"a size too small":  {request: sized(200_000)}, // it has grown
		"no size":           {request: on(fxFstat, -1, func(l *link, body []byte) { l.says(fxAttrs, number(body).number(0)) })},
		"an early end":      {request: on(fxRead, 65536, func(l *link, body []byte) { l.status(body, codeEOF, "") }), kind: fault.Corrupt, has: "65536"},
		"more than asked":   {request: on(fxRead, 32768, func(l *link, body []byte) { l.says(fxData, append(number(body).number(40000), make([]byte, 40000)...)) }), kind: fault.Protocol, has: "40000"},
		"no bytes":          {request: on(fxRead, 32768, func(l *link, body []byte) { l.says(fxData, number(body).number(0)) }), kind: fault.Protocol},
		"a wrong length":    {request: on(fxRead, 32768, func(l *link, body []byte) { l.says(fxData, append(number(body).number(10), make([]byte, 20)...)) }), kind: fault.Protocol},
		"an enormous reply": {request: on(fxRead, 32768, func(l *link, body []byte) { l.says(fxData, append(number(body).number(1<<20), make([]byte, 1<<20)...)) }), kind: fault.Protocol, has: "a message of"},
		"another number":    {request: on(fxRead, 32768, func(l *link, body []byte) { l.status([]byte{0, 0, 255, 255}, 0, "") }), kind: fault.Protocol, has: "not asked"},
		"a handle":          {request: on(fxRead, 32768, func(l *link, body []byte) { l.says(fxHandle, number(body).text("x")) }), kind: fault.Protocol, has: "type 102"},
		"OK":                {request: on(fxRead, 32768, func(l *link, body []byte) { l.status(body, 0, "") }), kind: fault.Protocol, has: "OK and nothing else"},
		"OK to OPEN":        {request: on(fxOpen, -1, func(l *link, body []byte) { l.status(body, 0, "") }), kind: fault.Protocol},
		"a long handle":     {request: on(fxOpen, -1, func(l *link, body []byte) { l.says(fxHandle, number(body).text(strings.Repeat("x", 257))) }), kind: fault.Protocol, has: "handle"},
		"a failure":         {request: on(fxRead, 32768, func(l *link, body []byte) { l.status(body, codeFailure, "Failure\r\n") }), kind: fault.IO, has: "SSH_FX_FAILURE"},
		"unknown code":      {request: on(fxRead, 32768, func(l *link, body []byte) { l.status(body, 99, "what") }), kind: fault.Protocol, has: "SSH_FX 99"},
		"closes":            {request: on(fxRead, 65536, func(l *link, _ []byte) { l.ch.Close() }), kind: fault.Lost},
		"breaks":            {request: on(fxRead, 65536, func(l *link, _ []byte) { l.f.cut() }), kind: fault.Lost},
		"says nothing":      {request: on(fxRead, 65536, func(*link, []byte) {}), kind: fault.DeadPeer, has: "READ"},
		"never answers":     {request: on(fxOpen, -1, func(*link, []byte) {}), kind: fault.DeadPeer, has: "OPEN"},
		"a directory":       {request: on(fxFstat, -1, func(l *link, body []byte) { l.says(fxAttrs, number(body).number(hasMode).number(modeDir)) }), kind: fault.Invalid, has: "no regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			f := fakes(t, func(f *fake) { f.request, f.reply = c.request, c.reply })
			f.has("file", content)
			got, err := reads(t.Context(), f.opens("timeout", untilSilent(c.kind), "keepalive", "0s"), "/file", 0)
			if c.kind != 0 {
				isKind(t, err, c.kind, c.has, f.address)
				return
			}
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

// TestCutOffWhileRead: a file that loses its end has another kind of failure than a server
// that does not tell all of it.
func TestCutOffWhileRead(t *testing.T) {
	f := fakes(t, func(f *fake) {
		f.request = func(_ *link, typ byte, body []byte) bool {
			if typ == fxRead && offsetOf(body) == 65536 {
				_ = os.Truncate(f.dir+"/file", 65536)
			}
			return true
		}
	})
	f.has("file", randomBytes(200_000))
	_, err := reads(t.Context(), f.opens(), "/file", 0)
	isKind(t, err, fault.SourceChanged, "200000", "65536")
}

// TestLiesWriting: what is not whole at the server gets no name, and leaves nothing.
func TestLiesWriting(t *testing.T) {
	content := randomBytes(300_000)
	answer := func(typ byte, at int64, code uint32, text string) func(*link, byte, []byte) bool {
		return func(l *link, got byte, body []byte) bool {
			if got != typ || at >= 0 && offsetOf(body) != at {
				return true
			}
			l.status(body, code, text)
			return false
		}
	}
	sized := func(n int64) func(*link, byte, []byte) bool {
		return func(l *link, typ byte, body []byte) bool {
			if typ == fxStat {
				l.says(fxAttrs, number(body).number(hasSize).long(n))
			}
			return typ != fxStat
		}
	}
	extended := func(name string, do func(*link, []byte)) func(*link, byte, []byte) bool {
		return func(l *link, typ byte, body []byte) bool {
			f := fields{b: body[4:]}
			if typ != fxExtended || f.text() != name {
				return true
			}
			do(l, body)
			return false
		}
	}
	fsync := func(l *link, typ byte, m []byte) bool { // its own server has none
		if typ == fxInit {
			l.says(fxVersion, append(m[1:], message(nil).text(extSync).text("1")...))
		}
		return typ != fxInit
	}
	space := func(n int64) func(*link, byte, []byte) bool {
		return func(l *link, typ byte, body []byte) bool {
			refuse := answer(fxWrite, 65536, codeFailure, "Failure")
			return refuse(l, typ, body) && extended(extSpace, func(l *link, body []byte) {
				l.says(fxExtendedReply, number(body).long(512).long(512).long(1000).long(n).long(n).long(0).long(0).long(0).long(0).long(0).long(255))
			})(l, typ, body)
		}
	}
	mounted := func(flags int64) func(*link, byte, []byte) bool { // and OPEN has failed; of a file that is not there nothing is said
		return func(l *link, typ byte, body []byte) bool {
			refuse := answer(fxOpen, -1, codeFailure, "Failure")
			return refuse(l, typ, body) && extended(extSpace, func(l *link, body []byte) {
				if r := (fields{b: body[4:]}); r.text() != extSpace || strings.HasSuffix(r.text(), ".part") {
					l.status(body, codeNoFile, "No such file")
					return
				}
				l.says(fxExtendedReply, number(body).long(512).long(512).long(1000).long(9).long(9).long(0).long(0).long(0).long(0).long(flags).long(255))
			})(l, typ, body)
		}
	}
	for name, c := range map[string]struct {
		request func(*link, byte, []byte) bool
		reply   func(*link, byte, []byte) bool
		kind    fault.Kind
		has     string
	}{
		"a WRITE fails":       {request: answer(fxWrite, 65536, codeFailure, "Failure"), kind: fault.IO, has: "WRITE"},
		"no space":            {request: space(0), kind: fault.NoSpace, has: "make room"},
		"space":               {request: space(9), kind: fault.IO, has: "a full or broken disk, a quota"}, // what OpenSSH says of EDQUOT, too
		"read-only":           {request: mounted(readOnly), kind: fault.Permission, has: "have it mounted there"},
		"not read-only":       {request: mounted(2), kind: fault.IO, has: "OPEN"},
		"quota":               {request: answer(fxWrite, 65536, 15, "over quota"), kind: fault.NoSpace, has: "SSH_FX_QUOTA_EXCEEDED"},
		"quota, in words":     {request: answer(fxWrite, 65536, codeFailure, "write: Disk quota exceeded"), kind: fault.NoSpace, has: "raise the user's quota there"},
		"quota at the end":    {request: answer(fxClose, -1, codeFailure, "Disk quota exceeded"), kind: fault.NoSpace, has: "CLOSE"},
		"a WRITE is not done": {request: answer(fxWrite, 294912, 0, ""), kind: fault.Corrupt, has: "294912"},
		"CLOSE fails":         {request: answer(fxClose, -1, codeFailure, "it could not be stored"), kind: fault.IO, has: "it could not be stored"},
		"fsync fails":         {reply: fsync, request: extended(extSync, func(l *link, body []byte) { l.status(body, codeFailure, "disk") }), kind: fault.IO, has: extSync},
		"fsync is not there":  {reply: fsync, request: extended(extSync, func(l *link, body []byte) { l.status(body, codeUnsupported, "no") })},
		"size too small":      {request: sized(299_999), kind: fault.Corrupt, has: "299999"},
		"size too large":      {request: sized(300_001), kind: fault.Corrupt, has: "300001"},
		"rename fails":        {request: extended(extRename, func(l *link, body []byte) { l.status(body, 3, "no") }), kind: fault.Permission, has: extRename},
		"OPEN is refused":     {request: answer(fxOpen, -1, 3, "no"), kind: fault.Permission, has: "SSH_FX_PERMISSION_DENIED"},
		"closes": {request: func(l *link, typ byte, body []byte) bool {
			return typ != fxWrite || offsetOf(body) != 98304 || l.ch.Close() != nil
		}, kind: fault.Lost},
		"says nothing": {request: func(_ *link, typ byte, body []byte) bool { return typ != fxWrite || offsetOf(body) != 98304 }, kind: fault.DeadPeer, has: "WRITE"},
		"answers with a handle": {request: func(l *link, typ byte, body []byte) bool {
			if typ == fxWrite {
				l.says(fxHandle, number(body).text("x"))
			}
			return typ != fxWrite
		}, kind: fault.Protocol},
	} {
		t.Run(name, func(t *testing.T) {
			f := fakes(t, func(f *fake) { f.request, f.reply = c.request, c.reply })
			f.has("file", []byte("older"))
			a, err := write(t.Context(), f.opens("timeout", untilSilent(c.kind), "keepalive", "0s"), "/file", content)
			if c.kind == 0 {
				if err != nil || a.Size != 300_000 {
					t.Fatal(a, err)
				}
				holds(t, f.dir, "file", string(content))
				return
			}
			isKind(t, err, c.kind, c.has, f.address)
			holds(t, f.dir, "file", "older")
		})
	}
}

// TestHole: of a file in which the server has a later piece and not an earlier, a later
// Write goes on before the hole, and what was behind it is gone.
func TestHole(t *testing.T) {
	const piece = plainData
	var hole atomic.Bool
	hole.Store(true)
	var confirmed atomic.Int32
	f := fakes(t, func(f *fake) {
		f.request = func(l *link, typ byte, body []byte) bool {
			if typ != fxWrite || !hole.Load() {
				return true
			}
			if offsetOf(body) == 3*piece { // neither done nor answered
				return false
			}
			confirmed.Add(1)
			return true
		}
	})
	s := f.opens("keepalive", "0s")
	content := randomBytes(8 * piece)
	st, err := s.Write(t.Context(), "/file", plugins.WriteRequest{Size: int64(len(content))})
	if err != nil {
		t.Fatal(err)
	}
	st.(*staged).window = 8
	if _, err := st.Write(content[:6*piece]); err != nil {
		t.Fatal(err)
	}
	for confirmed.Load() < 5 {
		time.Sleep(time.Millisecond)
	}
	for _, k := range st.(*staged).flight { // replies are on their way
		if binary.BigEndian.Uint64(k.m[k.head-12:]) != 3*piece {
			<-k.done
		}
	}
	f.cut()
	for !st.(*staged).c.dead() {
		time.Sleep(time.Millisecond)
	}
	_, err = st.Write(content[6*piece:])
	if err == nil {
		_, err = st.Commit(t.Context())
	}
	isKind(t, err, fault.Lost)
	resume, err := st.Abort(t.Context(), true)
	if err != nil || len(resume) > plugins.MaxResume {
		t.Fatal(err)
	}
	if again, err := st.(plugins.Checkpointer).Checkpoint(t.Context()); err != nil || !bytes.Equal(again, resume) {
		t.Errorf("checkpoint says %s, abort %s, %v", again, resume, err)
	}
	hole.Store(false)
	st, err = s.Write(t.Context(), "/file", plugins.WriteRequest{Size: int64(len(content)), Resume: resume})
	if err != nil || st.Offset() != 3*piece {
		t.Fatalf("it goes on at %d, %v; want %d", st.Offset(), err, 3*piece)
	}
	if fi, err := os.Stat(st.(*staged).part); err != nil || fi.Size() != 3*piece {
		t.Errorf("the part has %v, %v", fi, err)
	}
	if _, err := st.Write(content[3*piece:]); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	holds(t, f.dir, "file", string(content))
}

// TestResumeShort: a part that has less than was confirmed, or is gone, is begun anew.
func TestResumeShort(t *testing.T) {
	f := fakes(t, nil)
	s := f.opens()
	whole := func(string) error { return nil }
	for name, c := range map[string]struct {
		meanwhile func(part string) error
		size      int64
		want      int64
	}{
		"as it was":        {whole, -1, 1000},
		"has less":         {func(p string) error { return os.Truncate(p, 999) }, -1, 0},
		"is gone":          {os.Remove, -1, 0},
		"has more":         {func(p string) error { return os.Truncate(p, 5000) }, -1, 1000},
		"a shorter file":   {whole, 999, 0},
		"just long enough": {whole, 1000, 1000},
	} {
		st, err := s.Write(t.Context(), "/file", plugins.WriteRequest{Size: -1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Write(bytes.Repeat([]byte("x"), 1000)); err != nil {
			t.Fatal(err)
		}
		resume, err := st.Abort(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.meanwhile(st.(*staged).part); err != nil {
			t.Fatal(err)
		}
		if st, err = s.Write(t.Context(), "/file", plugins.WriteRequest{Size: c.size, Resume: resume}); err != nil || st.Offset() != c.want {
			t.Fatalf("%s: it goes on at %d, %v; want %d", name, st.Offset(), err, c.want)
		}
		if fi, err := os.Stat(st.(*staged).part); err != nil || fi.Size() != c.want {
			t.Errorf("%s: the part is %v, %v", name, fi, err)
		}
		if _, err := st.Abort(t.Context(), false); err != nil {
			t.Error(err)
		}
	}
	holds(t, f.dir)
	_, err := s.Write(t.Context(), "/file", plugins.WriteRequest{Resume: []byte(`{"id":"../../../../x","at":1}`)})
	isKind(t, err, fault.Invalid)
}

// without makes a server without some of its extensions, or with others.
func without(change func(name, value string) (string, bool), more ...string) func(*link, byte, []byte) bool {
	return func(l *link, asked byte, m []byte) bool {
		if asked != fxInit {
			return true
		}
		f, said := fields{b: m[1:]}, message(nil)
		said = said.number(f.number())
		for len(f.b) > 0 {
			name := f.text()
			if value, ok := change(name, f.text()); ok {
				said = said.text(name).text(value)
			}
		}
		for _, name := range more {
			said = said.text(name).text("1")
		}
		l.says(fxVersion, said)
		return false
	}
}

// TestPlainRename: where the server's rename replaces nothing, an older file is left alone,
// or deleted before if that is wanted.
func TestPlainRename(t *testing.T) {
	f := fakes(t, func(f *fake) {
		f.reply = without(func(name, value string) (string, bool) { return value, name != extRename })
		f.request = func(l *link, typ byte, body []byte) bool { // as OpenSSH's
			r := fields{b: body[4:]}
			_, to := r.text(), ""
			if typ == fxRename {
				to = r.text()
			}
			if _, err := os.Stat(to); to != "" && err == nil {
				l.status(body, codeFailure, "Failure")
				return false
			}
			return true
		}
	})
	s := f.opens()
	if c := s.Capabilities(); c.Atomic || !strings.Contains(fmt.Sprint(c.Notes), extRename) {
		t.Errorf("%+v", c)
	}
	if _, err := write(t.Context(), s, "/file", []byte("first")); err != nil {
		t.Fatal(err)
	}
	_, err := write(t.Context(), s, "/file", []byte("second"))
	isKind(t, err, fault.Exists, "replace=delete")
	holds(t, f.dir, "file", "first")
	if _, err := write(t.Context(), f.opens("replace", "delete"), "/file", []byte("second")); err != nil {
		t.Error(err)
	}
	holds(t, f.dir, "file", "second")
}

// TestChecksums: a server with check-file is asked, of what it knows; another sum than
// that of what was sent is no success.
func TestChecksums(t *testing.T) {
	var wrong, cannot atomic.Bool
	f := fakes(t, func(f *fake) {
		f.reply = without(func(_, value string) (string, bool) { return value, true }, extSum)
		f.request = func(l *link, typ byte, body []byte) bool {
			r := fields{b: body[4:]}
			if typ != fxExtended || r.text() != "check-file-name" {
				return true
			}
			name, alg, from, n := r.text(), r.text(), r.long(), r.long()
			a, ok := best([]string{alg})
			if !ok || alg == "sha512" || cannot.Load() {
				l.status(body, codeUnsupported, "no such sum")
				return false
			}
			b, err := os.ReadFile(name)
			if err != nil {
				l.status(body, codeFailure, "Failure")
				return false
			}
			h := a.make()
			h.Write(b[from : from+n])
			if wrong.Load() {
				h.Write([]byte{0})
			}
			l.says(fxExtendedReply, append(number(body).text(alg), h.Sum(nil)...))
			return false
		}
	})
	s := f.opens()
	if got := s.Capabilities().Checksums; !slices.Equal(got, []string{"sha256", "sha1", "md5"}) {
		t.Errorf("%q", got)
	}
	content := randomBytes(100_000)
	if a, err := write(t.Context(), s, "/file", content); err != nil || a.Verified != "sha256" {
		t.Fatal(a, err)
	}
	for _, alg := range s.Capabilities().Checksums {
		a, _ := best([]string{alg})
		for _, n := range []int64{-1, 0, 1, 99_999, 100_000} {
			h, part := a.make(), content
			if n >= 0 {
				part = content[:n]
			}
			h.Write(part)
			if got, err := s.Checksum(t.Context(), "/file", alg, n); err != nil || !bytes.Equal(got, h.Sum(nil)) {
				t.Errorf("%s of %d: %x, %v", alg, n, got, err)
			}
		}
	}
	_, err := s.Checksum(t.Context(), "/file", "sha512", -1)
	isKind(t, err, fault.Unsupported)
	_, err = s.Checksum(t.Context(), "/file", "md5", 100_001)
	isKind(t, err, fault.Invalid)

	st, err := s.Write(t.Context(), "/two", plugins.WriteRequest{Size: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Write(content[:50_001]); err != nil {
		t.Fatal(err)
	}
	resume, err := st.Abort(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if st, err = s.Write(t.Context(), "/two", plugins.WriteRequest{Size: 100_000, Resume: resume}); err != nil || st.Offset() != 50_001 || st.(*staged).sum == nil {
		t.Fatal(st, err)
	}
	if _, err := st.Write(content[50_001:]); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	wrong.Store(true)
	_, err = write(t.Context(), s, "/three", content)
	isKind(t, err, fault.Corrupt, "sha256")
	if _, err := write(t.Context(), f.opens("verify", "size"), "/four", content); err != nil {
		t.Error(err)
	}
	cannot.Store(true)
	if a, err := write(t.Context(), s, "/five", content); err != nil || a.Verified != "size" {
		t.Error(a, err)
	}
	holds(t, f.dir, "file", string(content), "two", string(content), "four", string(content), "five", string(content))
}

// TestListing: names that are none, listings without an end, and parts without entries.
func TestListing(t *testing.T) {
	var reply atomic.Pointer[func(*link, []byte)]
	f := fakes(t, func(f *fake) {
		f.request = func(l *link, typ byte, body []byte) bool {
			r := reply.Load()
			if typ == fxReaddir && r != nil {
				(*r)(l, body)
			}
			return typ != fxReaddir || r == nil
		}
	})
	f.has("a", nil)
	f.has("b", nil)
	f.has("line\nbreak", nil)
	for _, most := range []string{"3", "2"} { // the directory itself and the one above are not counted, once each
		if _, err := lists(t.Context(), f.opens("max-entries", most), "/"); (err == nil) != (most == "3") {
			t.Errorf("of three entries, %s allowed: %v", most, err)
		}
	}
	if got, err := lists(t.Context(), f.opens(), "/"); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%q, %v", got, err)
	}
	says := func(names ...string) func(*link, []byte) {
		return func(l *link, body []byte) {
			m := number(body).number(uint32(len(names)))
			for _, n := range names {
				m = m.text(n).text("").number(0)
			}
			l.says(fxName, m)
		}
	}
	for name, c := range map[string]struct {
		reply func(*link, []byte)
		kind  fault.Kind
		has   string
	}{
		"slash":      {says("x", "../../etc/passwd"), fault.Protocol, "../../etc/passwd"},
		"none":       {says(""), fault.Protocol, "name"},
		"no entries": {says(), fault.Protocol, "no entries"},
		"no end":     {says("x", "y", "z"), fault.TooLong, "max-entries"},
		"only self":  {says("."), fault.TooLong, "max-entries"},
		"only above": {says("..", "."), fault.TooLong, "max-entries"},
		"cut off":    {func(l *link, body []byte) { l.says(fxName, number(body).number(2).text("x")) }, fault.Protocol, "cut off"},
		"a failure":  {func(l *link, body []byte) { l.status(body, codeFailure, "Failure") }, fault.IO, "READDIR"},
		"silence":    {func(*link, []byte) {}, fault.DeadPeer, "READDIR"},
	} {
		reply.Store(&c.reply)
		_, err := lists(t.Context(), f.opens("max-entries", "1000", "timeout", untilSilent(c.kind)), "/")
		if isKind(t, err, c.kind, c.has, f.address); t.Failed() {
			t.Fatal(name)
		}
	}
	reply.Store(nil)
	_, err := lists(t.Context(), f.opens(), "/none")
	isKind(t, err, fault.NotFound)
}

// TestHalfOpen: a server that is not there any more is noticed when nothing is asked, too,
// and who asks next has another connection.
func TestHalfOpen(t *testing.T) {
	var deaf atomic.Bool
	f := fakes(t, func(f *fake) {
		f.request = func(*link, byte, []byte) bool { return !deaf.Load() }
	})
	f.has("file", []byte("x"))
	s := f.opens("timeout", "2s", "keepalive", "100ms")
	c := s.all[0]
	deaf.Store(true)
	<-c.over
	isKind(t, c.why, fault.DeadPeer, "REALPATH")
	deaf.Store(false)
	if _, err := s.Stat(t.Context(), "/file"); err != nil {
		t.Error(err)
	}
	if n := f.logins.Load(); n != 2 {
		t.Errorf("%d logins", n)
	}
}

// TestGivenUp: a caller that goes away does not wait, takes nobody else's connection with
// it, and leaves no handle behind.
func TestGivenUp(t *testing.T) {
	hold := make(chan struct{})
	f := fakes(t, func(f *fake) {
		f.request = func(_ *link, typ byte, _ []byte) bool {
			if typ == fxOpen {
				<-hold
			}
			return true
		}
	})
	f.has("file", []byte("x"))
	s := f.opens("connections", "1")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err := reads(ctx, s, "/file", 0)
	isKind(t, err, fault.Canceled, f.address)
	close(hold)
	for f.closed.Load() == 0 { // the handle of the OPEN
		time.Sleep(time.Millisecond)
	}
	if got, err := reads(t.Context(), s, "/file", 0); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
	if n := f.logins.Load(); n != 1 {
		t.Errorf("%d logins", n)
	}
	r, err := s.Read(t.Context(), "/file", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err == nil {
		t.Error("a reader that has read nothing is closed as if it had")
	}
	_ = s.Close()
	_, err = s.Stat(t.Context(), "/file")
	isKind(t, err, fault.Canceled)
}

// TestRefusals: what a server says in its codes, and what to change.
func TestRefusals(t *testing.T) {
	f := fakes(t, nil)
	f.has("file", []byte("x"))
	s := f.opens()
	if err := s.Mkdir(t.Context(), "/dir"); err != nil {
		t.Fatal(err)
	}
	if err := s.Mkdir(t.Context(), "/dir"); err != nil {
		t.Errorf("again: %v", err)
	}
	if _, err := write(t.Context(), s, "/dir/x", nil); err != nil {
		t.Fatal(err)
	}
	_, err := reads(t.Context(), s, "/none", 0)
	isKind(t, err, fault.NotFound, f.address, "OPEN", "SSH_FX_NO_SUCH_FILE", "check the name")
	_, err = reads(t.Context(), s, "/dir", 0)
	isKind(t, err, fault.Invalid)
	_, err = reads(t.Context(), s, "/file", 2)
	isKind(t, err, fault.Invalid, "1 bytes")
	isKind(t, s.Mkdir(t.Context(), "/file"), fault.Exists, "MKDIR")
	isKind(t, s.Remove(t.Context(), "/none"), fault.NotFound, "REMOVE")
	isKind(t, s.Remove(t.Context(), "/dir"), fault.Invalid, "RMDIR")
	isKind(t, s.Rename(t.Context(), "/none", "/other"), fault.NotFound)
	_, err = write(t.Context(), s, "/dir", []byte("y"))
	isKind(t, err, fault.Exists, "directory")
	for _, name := range []string{"", "x", "/a/../b", "/a\nb", "/\xff"} {
		_, err = s.Stat(t.Context(), name)
		isKind(t, err, fault.Invalid)
	}
	st, err := s.Write(t.Context(), "/short", plugins.WriteRequest{Size: 5})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(st, strings.NewReader("four")); err != nil {
		t.Fatal(err)
	}
	_, err = st.Commit(t.Context())
	isKind(t, err, fault.Corrupt, "4 bytes")
	if _, err := st.Abort(t.Context(), false); err != nil {
		t.Error(err)
	}
	holds(t, f.dir+"/dir", "x", "")
}
