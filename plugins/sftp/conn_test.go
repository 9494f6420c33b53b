package sftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// piped is a connection without SSH, and its other end.
func piped(timeout, keepalive time.Duration) (*conn, net.Conn) {
	mine, its := net.Pipe()
	s := newSession(&config{where: "sftp://server", timeout: timeout, keepalive: keepalive, maxEntries: 100, connections: 1})
	c := newConn(s, mine)
	c.ext = map[string]string{}
	s.all, s.open = []*conn{c}, 1
	c.run()
	return c, its
}

// answers says yes to what comes, as long as it is to.
func answers(its net.Conn, wait func() time.Duration) {
	for {
		_, body, err := nextMessage(its)
		if err != nil {
			return
		}
		d := wait()
		if d < 0 {
			continue
		}
		go func() {
			time.Sleep(d)
			m := number(body).number(0).text("").text("")
			_, _ = its.Write(append(append(binary.BigEndian.AppendUint32(nil, uint32(len(m)+1)), fxStatus), m...))
		}()
	}
}

// TestSilence: a server that owes a reply has the time that it is given, and more for what
// takes long; one that is asked for nothing is asked for a sign of life.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, its := piped(30*time.Second, 20*time.Second)
		var wait atomic.Int64 // ns
		go answers(its, func() time.Duration { return time.Duration(wait.Load()) })
		time.Sleep(time.Hour)
		if c.dead() {
			t.Fatal(c.why)
		}
		wait.Store(int64(25 * time.Second))
		if err := c.simple(t.Context(), "REMOVE", ask(fxRemove, "/x"), "/x"); err != nil {
			t.Error(err)
		}
		wait.Store(int64(80 * time.Second))
		if _, err := c.do(t.Context(), fxStatus, ask(fxClose, "x"), &call{op: "CLOSE", slow: patience(2 << 30)}); err != nil {
			t.Errorf("of 2 GiB: %v", err)
		}
		wait.Store(-1)
		began := time.Now()
		<-c.over
		if took := time.Since(began); took < 30*time.Second || took > 90*time.Second {
			t.Errorf("a server that says nothing any more is noticed after %v", took)
		}
		isKind(t, c.why, fault.DeadPeer, "REALPATH")
		err := c.simple(t.Context(), "REMOVE", ask(fxRemove, "/x"), "/x")
		isKind(t, err, fault.DeadPeer, "sftp REMOVE", "sftp://server/x")
		_ = its.Close()
		synctest.Wait()
	})
}

// TestVerdictTakesItsTime: the reply to a CLOSE that is the verdict of what lies behind a server takes what that
// takes, as long as the server answers to other things; other replies that are due are not waited for longer.
func TestVerdictTakesItsTime(t *testing.T) {
	for _, keepalive := range []time.Duration{0, 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			c, its := piped(30*time.Second, keepalive)
			var verdict, others atomic.Int64 // ns; -1: never
			verdict.Store(int64(5 * time.Hour))
			others.Store(int64(time.Second))
			go func() {
				for {
					typ, body, err := nextMessage(its)
					if err != nil {
						return
					}
					wait := time.Duration(others.Load())
					if typ == fxClose {
						wait = time.Duration(verdict.Load())
					}
					if wait < 0 {
						continue
					}
					go func() {
						time.Sleep(wait)
						m := number(body).number(0).text("").text("")
						_, _ = its.Write(append(append(binary.BigEndian.AppendUint32(nil, uint32(len(m)+1)), fxStatus), m...))
					}()
				}
			}()
			closing := func() error {
				_, err := c.do(t.Context(), fxStatus, ask(fxClose, "x"), &call{op: "CLOSE", path: "/x", lasting: true})
				return err
			}
			began := time.Now()
			if err := closing(); err != nil || time.Since(began) < 5*time.Hour {
				t.Errorf("a verdict after hours: %v after %v", err, time.Since(began))
			}
			verdict.Store(-1)
			over := make(chan error, 1)
			go func() { over <- closing() }()
			time.Sleep(25 * time.Second)
			others.Store(int64(28 * time.Second)) // each has its time from when it was asked
			if err := c.simple(t.Context(), "REMOVE", ask(fxRemove, "/y"), "/y"); err != nil {
				t.Errorf("beside it: %v", err)
			}
			others.Store(-1)
			began = time.Now()
			isKind(t, <-over, fault.DeadPeer, "CLOSE", "/x", "REALPATH")
			if took := time.Since(began); took > 3*time.Minute {
				t.Errorf("a server that says nothing any more is noticed after %v", took)
			}
			_ = its.Close()
			synctest.Wait()
		})
	}
}

// TestSlowLine: a server that takes what is sent, slowly, is no silent one, and gets fewer
// pieces at a time.
func TestSlowLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, its := piped(30*time.Second, 0)
		c.write = mostData
		out := make(chan []byte, 100)
		go func() { // 32 KiB in 5 s: a piece takes longer than the server may be silent
			defer close(out)
			for {
				b := make([]byte, 32<<10)
				n, err := its.Read(b)
				if err != nil {
					return
				}
				time.Sleep(time.Duration(n) * 5 * time.Second / (32 << 10))
				out <- b[:n]
			}
		}()
		r, w := io.Pipe()
		go func() {
			for b := range out {
				_, _ = w.Write(b)
			}
			_ = w.Close()
		}()
		go func() {
			for {
				_, body, err := nextMessage(r)
				if err != nil {
					return
				}
				m := number(body).number(0).text("").text("")
				_, _ = its.Write(append(append(binary.BigEndian.AppendUint32(nil, uint32(len(m)+1)), fxStatus), m...))
			}
		}()
		st := &staged{s: c.s, c: c, ctx: t.Context(), handle: "h", size: -1, window: 2}
		if _, err := st.Write(make([]byte, 20*mostData)); err != nil {
			t.Fatal(err)
		}
		if err := st.drain(t.Context()); err != nil || st.settled != 20*mostData {
			t.Errorf("%d bytes, %v", st.settled, err)
		}
		if st.window != 1 {
			t.Errorf("%d pieces at a time", st.window)
		}
		c.kill(errEnded)
		_ = its.Close()
		synctest.Wait()
	})
}

// TestAnsweredBeforeSent: replies to a request that is still being sent: one is kept until
// it is, a second is a violation.
func TestAnsweredBeforeSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for replies, kind := range map[int]fault.Kind{1: 0, 2: fault.Protocol} {
			c, its := piped(30*time.Second, 0)
			m := message(make([]byte, headBytes, 100<<10))
			m[4] = fxWrite
			m = append(m, make([]byte, 90<<10)...)
			k := &call{op: "WRITE"}
			if err := c.start(t.Context(), m, k); err != nil {
				t.Fatal(err)
			}
			head := make([]byte, headBytes)
			if _, err := io.ReadFull(its, head); err != nil {
				t.Fatal(err)
			}
			for range replies {
				_, _ = its.Write(append([]byte{0, 0, 0, 17, fxStatus}, append(head[5:9:9], make([]byte, 12)...)...))
			}
			synctest.Wait()
			if replies == 1 && k.finished() {
				t.Error("it is over, and still being sent")
			}
			go func() { _, _ = io.Copy(io.Discard, its) }()
			err := c.wait(t.Context(), k)
			if kind == 0 && err != nil {
				t.Error(err)
			} else if kind != 0 {
				isKind(t, err, kind, "not asked")
			}
			c.kill(errEnded)
			_ = its.Close()
		}
	})
}

// TestNothingLeft: sessions that were used and closed leave no goroutine behind.
func TestNothingLeft(t *testing.T) {
	f := fakes(t, nil)
	f.has("file", randomBytes(1<<20))
	before := goleak.IgnoreCurrent()
	s := opens(t, f.endpoint())
	r, err := s.Read(t.Context(), "/file", 0)
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.Write(t.Context(), "/other", plugins.WriteRequest{Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = st.Commit(t.Context())
	isKind(t, err, fault.Canceled, "closed")
	_ = r.Close()
	e := f.endpoint()
	e.Password = "wrong"
	_, err = Driver{}.Open(t.Context(), e)
	isKind(t, err, fault.Unauthenticated)
	f.cut()
	goleak.VerifyNone(t, before)
}

// FuzzReplies: whatever a server says is a reply or an error, and no panic.
func FuzzReplies(f *testing.F) {
	say := func(typ byte, id uint32, m message) []byte {
		return append(append(binary.BigEndian.AppendUint32(nil, uint32(len(m)+5)), typ), append(message(nil).number(id), m...)...)
	}
	f.Add(bytes.Join([][]byte{say(fxAttrs, 1, message(nil).number(hasSize|hasMode|hasTimes|hasOwner).long(1).long(1).number(1).long(1)), say(fxHandle, 2, message(nil).text("h")),
		say(fxName, 3, message(nil).number(1).text("name").text("").number(0)), say(fxStatus, 4, message(nil).number(1))}, nil))
	f.Add(say(fxAttrs, 1, message(nil).number(1<<31).number(1<<31)))
	f.Add(say(fxData, 1, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, its := piped(time.Minute, 0)
		go func() { _, _ = io.Copy(io.Discard, its) }()
		go func() { _, _ = its.Write(b); _ = its.Close() }()
		c.s.base = "/"
		_, _ = c.s.Stat(context.Background(), "/x")
		_, _ = lists(context.Background(), c.s, "/x")
		c.kill(errEnded)
	})
}
