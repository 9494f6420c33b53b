package flow

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// bytePair makes both ends of a byte stream.
func bytePair(t testing.TB, near, far *Session, class wire.Class) (a, b *ByteStream) {
	t.Helper()
	return bytePairOf(t, near, far, Open{Class: class})
}

func bytePairOf(t testing.TB, near, far *Session, o Open) (a, b *ByteStream) {
	t.Helper()
	o.Kind, o.Meta = "x", []byte("ping")
	made := make(chan *ByteStream, 1)
	go func() {
		in, err := far.AcceptStream(t.Context())
		if err != nil {
			made <- nil
			return
		}
		b, _ := in.AcceptBytes([]byte("pong"))
		made <- b
	}()
	a, err := near.OpenBytes(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	b = <-made
	if string(a.Meta()) != "pong" || string(b.Meta()) != "ping" {
		t.Errorf("meta %q and %q", a.Meta(), b.Meta())
	}
	return a, b
}

// polite closes as a user has to who wants the peer to see an end: Close alone
// is an abort.
type polite struct{ *ByteStream }

func (p polite) Close() error {
	p.SetWriteDeadline(time.Now()) // CloseWrite waits for a Write there may be
	p.SetWriteDeadline(time.Time{})
	p.CloseWrite()
	return p.ByteStream.Close()
}

// TestNetConn holds a byte stream against what net.Conn promises.
func TestNetConn(t *testing.T) {
	t.Run("plain", func(t *testing.T) { testNetConn(t, Open{}) })
	t.Run("resume", func(t *testing.T) { testNetConn(t, Open{Resume: true}) })
}

func testNetConn(t *testing.T, o Open) {
	near, far, _, _ := pair(t, Config{}, true)
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := bytePairOf(t, near, far, o)
		return polite{a}, polite{b}, func() { a.Close(); b.Close() }, nil
	})
}

func TestByteStreamDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, _, stop := emulated(t, flowtest.LinkConfig{RTT: time.Millisecond}, Config{})
		defer stop()
		a, b := bytePair(t, near, far, wire.ClassRelay)
		defer b.Close()
		defer a.Close()
		began := time.Now()
		a.SetReadDeadline(began.Add(time.Second))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		a.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err := a.Write(make([]byte, MiB)); !errors.Is(err, os.ErrDeadlineExceeded) || n != 256*KiB {
			t.Errorf("%d bytes, %v; the window is 256 KiB", n, err)
		}
		io.ReadFull(b, make([]byte, 256*KiB))
		b.Write([]byte("y"))
		settle()
		for range 20 { // neither credit nor bytes that are there make up for lateness
			if n, err := a.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("%d bytes written after the deadline, %v", n, err)
			}
			if n, err := a.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("%d bytes read after the deadline, %v", n, err)
			}
		}
		a.SetDeadline(time.Time{})
		a.Read(make([]byte, 1))
		b.Write([]byte("x"))
		if n, err := a.Read(make([]byte, 10)); n != 1 || err != nil {
			t.Errorf("%d bytes after the deadline was lifted, %v", n, err)
		}
		go func() { time.Sleep(time.Second); a.SetDeadline(time.Now()) }()
		if _, err := a.Write(make([]byte, MiB)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a deadline set during Write: %v", err)
		}
	})
}

// TestCloseEndsWaits: a Write that waits for its turn on a lane that is stuck
// ends with its deadline and with Close.
func TestCloseEndsWaits(t *testing.T) {
	for name, end := range map[string]func(b *ByteStream){
		"close":    func(b *ByteStream) { b.Close() },
		"deadline": func(b *ByteStream) { b.SetWriteDeadline(time.Now()) },
		"session":  func(b *ByteStream) { b.Session().finish(fault.New("x", fault.Canceled, "enough"), false) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far, _, stop := emulated(t, flowtest.LinkConfig{}, Config{})
				defer stop()
				a, b := bytePair(t, near, far, wire.ClassRelay)
				defer b.Close()
				l, err := near.turns.acquire(t.Context(), wire.ClassRelay, &seat{}, 1)
				if err != nil {
					t.Fatal(err)
				}
				told := make(chan error, 1)
				go func() { _, err := a.Write([]byte("x")); told <- err }()
				settle()
				end(a)
				settle()
				select {
				case err := <-told:
					if err == nil {
						t.Error("Write says it has written")
					}
				default:
					t.Error("Write still waits")
				}
				near.turns.release(l)
				if n := len(near.turns.fair[0].waiting); n != 0 {
					t.Errorf("%d still wait for a turn", n)
				}
				a.Close()
			})
		})
	}
}

// TestCloseWriteAgain: an end that did not go out before the deadline goes out when it is said again.
func TestCloseWriteAgain(t *testing.T) {
	for _, resume := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			near, far, _, stop := emulated(t, flowtest.LinkConfig{}, Config{})
			defer stop()
			a, b := bytePairOf(t, near, far, Open{Resume: resume})
			defer b.Close()
			defer a.Close()
			l, err := near.turns.acquire(t.Context(), wire.ClassRelay, &seat{}, 1)
			if err != nil {
				t.Fatal(err)
			}
			if resume { // whose Write leaves its bytes to another goroutine, for which CloseWrite waits
				a.SetWriteDeadline(time.Now().Add(time.Second))
				a.Write([]byte("x"))
			}
			a.SetWriteDeadline(time.Now().Add(time.Second))
			if err := a.CloseWrite(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("resume %v: %v while the lane is stuck", resume, err)
			}
			near.turns.release(l)
			settle()
			a.SetWriteDeadline(time.Time{})
			if err := a.CloseWrite(); err != nil {
				t.Errorf("resume %v: %v", resume, err)
			}
			b.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := io.ReadAll(b); err != nil {
				t.Errorf("resume %v: %v instead of the end", resume, err)
			}
		})
	}
}

// TestHalfClose: each direction ends on its own, whichever is first.
func TestHalfClose(t *testing.T) {
	for _, nearFirst := range []bool{true, false} {
		for _, class := range []wire.Class{wire.ClassRelay, wire.ClassInteractive} {
			synctest.Test(t, func(t *testing.T) {
				near, far, _, stop := emulated(t, flowtest.LinkConfig{RTT: time.Millisecond}, Config{})
				defer stop()
				a, b := bytePair(t, near, far, class)
				first, second := a, b
				if !nearFirst {
					first, second = b, a
				}
				first.Write([]byte("one"))
				first.CloseWrite()
				first.CloseWrite()
				if _, err := first.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
					t.Errorf("a write after CloseWrite: %v", err)
				}
				if got, err := io.ReadAll(second); string(got) != "one" || err != nil {
					t.Errorf("%q, %v", got, err)
				}
				time.Sleep(time.Minute)
				want := content(2 * MiB)
				go func() { second.Write(want); second.CloseWrite(); second.Close() }()
				if got, err := io.ReadAll(first); !bytes.Equal(got, want) || err != nil {
					t.Errorf("%d bytes the other way, %v", len(got), err)
				}
				first.Close()
				settle()
				for _, s := range []*Session{near, far} {
					if st := s.Stats(); st.Streams != 0 || st.Granted != 0 {
						t.Errorf("%d streams, %d bytes granted", st.Streams, st.Granted)
					}
				}
			})
		}
	}
}

// TestCloseWithUnreadData: the peer is told, and what was granted comes back.
func TestCloseWithUnreadData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, _, stop := emulated(t, flowtest.LinkConfig{RTT: time.Millisecond}, Config{})
		defer stop()
		a, b := bytePair(t, near, far, wire.ClassRelay)
		a.Write(content(100_000))
		settle()
		b.Close()
		settle()
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, fault.Canceled) {
			t.Errorf("the writer reads %v", err)
		}
		if _, err := a.Write([]byte("x")); !errors.Is(err, fault.Canceled) {
			t.Errorf("the writer writes %v", err)
		}
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the closed end reads %v", err)
		}
		for _, s := range []*Session{near, far} {
			if st := s.Stats(); st.Streams != 0 || st.Granted != 0 {
				t.Errorf("%d streams, %d bytes granted", st.Streams, st.Granted)
			}
		}
	})
}

// TestReadDuringEnd: bytes that Read has taken and not yet booked when the
// stream ends are given back to the budget once.
func TestReadDuringEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, _, stop := emulated(t, flowtest.LinkConfig{}, Config{})
		defer stop()
		a, b := bytePair(t, near, far, wire.ClassRelay)
		a.Write(content(100_000))
		settle()
		b.mu.Lock()
		n, err := b.copyOut(make([]byte, 70_000))
		b.mu.Unlock()
		if err != nil {
			t.Error(err)
		}
		b.Close()
		b.consumed(int64(n), true)
		if g := far.Stats().Granted; g != 0 {
			t.Errorf("%d bytes are still granted", g)
		}
		a.Close()
	})
}

// TestDamagedBytesHaveNoEnd: content that is not what was sent is not handed out,
// and no end of file follows it, however politely the peer has left meanwhile.
func TestDamagedBytesHaveNoEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: time.Millisecond}, Config{})
		defer stop()
		a, b := bytePair(t, near, far, wire.ClassRelay)
		l.Corrupt(func(_ flowtest.Direction, _ int, _ int64, p []byte) []byte {
			if i := bytes.Index(p, []byte("second")); i >= 0 {
				p[i] ^= 0x20
			}
			return p
		})
		for _, s := range []string{"first", "second", "third"} {
			a.Write([]byte(s))
		}
		b.CloseWrite()
		a.CloseWrite()
		io.ReadAll(a)
		a.Close()
		settle()
		if got, err := io.ReadAll(b); string(got) != "first" || !errors.Is(err, fault.Corrupt) {
			t.Errorf("%q, %v", got, err)
		}
		if n, err := b.Read(make([]byte, 10)); n != 0 || !errors.Is(err, fault.Corrupt) {
			t.Errorf("after that: %d bytes, %v", n, err)
		}
		b.Close()
		if near.Err() != nil || far.Err() != nil {
			t.Errorf("the sessions: %v, %v", near.Err(), far.Err())
		}
	})
}

// TestBytesBeforeAnAbort: what arrived before the peer closed can be read, but
// no end is pretended.
func TestBytesBeforeAnAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, _, stop := emulated(t, flowtest.LinkConfig{RTT: time.Millisecond}, Config{})
		defer stop()
		a, b := bytePair(t, near, far, wire.ClassRelay)
		want := content(100_000)
		a.Write(want)
		a.Close()
		settle()
		if got, err := io.ReadAll(b); !bytes.Equal(got, want) || !errors.Is(err, fault.Canceled) {
			t.Errorf("%d bytes, then %v", len(got), err)
		}
	})
}

// TestBytesEndWithTheirConnections: no byte stream survives a cut.
func TestBytesEndWithTheirConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: time.Millisecond}, Config{})
		defer stop()
		a, b := bytePair(t, near, far, wire.ClassRelay)
		var wg sync.WaitGroup
		for _, s := range []*ByteStream{a, b} {
			wg.Go(func() {
				if _, err := s.Read(make([]byte, 1)); !errors.Is(err, fault.Lost) {
					t.Error(err)
				}
			})
		}
		settle()
		l.Cut()
		wg.Wait()
	})
}

// TestAcceptThatCannotBeSent: the opener is told when the answer cannot be made.
func TestAcceptThatCannotBeSent(t *testing.T) {
	for _, blocks := range []bool{true, false} {
		for _, send := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				near, far, _, stop := emulated(t, flowtest.LinkConfig{}, Config{})
				defer stop()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				go func() {
					in, err := far.AcceptStream(ctx)
					if err != nil {
						return
					}
					big := make([]byte, wire.MaxMeta+1)
					if blocks {
						_, err = in.AcceptBlocks(AcceptBlocks{Start: -1, Meta: big})
					} else {
						_, err = in.AcceptBytes(big)
					}
					if !errors.Is(err, fault.Invalid) {
						t.Error(err)
					}
				}()
				var err error
				if blocks {
					_, err = near.OpenBlocks(ctx, Open{Kind: "x", Send: send, Start: 1 << 40})
				} else {
					_, err = near.OpenBytes(ctx, Open{Kind: "x"})
				}
				var e *fault.Error
				if !errors.As(err, &e) || e.Kind != fault.Invalid || e.Side != fault.Peer {
					t.Errorf("the opener was told %v", err)
				}
				settle()
				for _, s := range []*Session{near, far} {
					if st := s.Stats(); st.Streams != 0 || st.Granted != 0 {
						t.Errorf("blocks %v: %d streams, %d bytes granted", blocks, st.Streams, st.Granted)
					}
				}
			})
		}
	}
}

// TestDeadlineThatHasFired: a timer that has fired and not yet been heard does not
// end the next deadline, nor close its channel once more.
func TestDeadlineThatHasFired(t *testing.T) {
	var d timeLimit
	d.set(time.Now().Add(time.Hour))
	fired := d.turn
	d.set(time.Now().Add(time.Hour))
	if d.expire(fired); d.passed() {
		t.Error("the earlier deadline ended the later one")
	}
	d.set(time.Now())
	if d.expire(d.turn - 1); !d.passed() {
		t.Error("a deadline in the past has not passed")
	}
	d.set(time.Time{})
}

// TestDeliver: what comes is handed on as WriteTo does it, to the end, by a goroutine that
// is there only while there is something.
func TestDeliver(t *testing.T) {
	for _, end := range []string{"closed", "closed before", "aborted", "lost", "refused by the writer"} {
		t.Run(end, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far, l, stop := emulated(t, flowtest.LinkConfig{RTT: time.Millisecond}, Config{})
				defer stop()
				a, b := bytePair(t, near, far, wire.ClassRelay)
				want := content(700_000)
				var got bytes.Buffer
				over := make(chan error, 2)
				w := io.Writer(&got)
				if end == "closed before" {
					a.Write(want[:100])
					a.CloseWrite()
					want = want[:100]
					settle()
				}
				full := errors.New("full")
				if end == "refused by the writer" {
					w = writeFunc(func([]byte) (int, error) { return 0, full })
				}
				idle := runtime.NumGoroutine()
				b.Deliver(w, func(err error) { over <- err })
				settle()
				if n := runtime.NumGoroutine(); n > idle {
					t.Errorf("%d goroutines more while nothing comes", n-idle)
				}
				var sending sync.WaitGroup
				defer sending.Wait()
				sending.Go(func() {
					for i := 0; i < len(want) && end != "closed before"; i += 100_000 {
						a.Write(want[i : i+100_000])
						time.Sleep(time.Second)
					}
					switch end {
					case "closed":
						a.CloseWrite()
					case "aborted":
						a.Close()
					case "lost":
						l.Cut()
					}
				})
				err := <-over
				kind := map[string]fault.Kind{"aborted": fault.Canceled, "lost": fault.Lost}[end]
				if end == "refused by the writer" {
					if err != full {
						t.Error(err)
					}
				} else if (err == nil) != (kind == 0) || err != nil && fault.KindOf(err) != kind || !bytes.Equal(got.Bytes(), want) {
					t.Errorf("%d bytes, then %v", got.Len(), err)
				}
				b.Close()
				settle()
				if len(over) != 0 {
					t.Error("it was over twice")
				}
			})
		})
	}
}

type writeFunc func([]byte) (int, error)

func (f writeFunc) Write(p []byte) (int, error) { return f(p) }

// TestResetDoesNotWait: who breaks a stream off does not wait for a peer that takes a byte a second.
func TestResetDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := flowtest.NewLink(flowtest.LinkConfig{RTT: time.Millisecond})
		d := &brake{Link: l, write: 1}
		near, far, stop := joinedBy(t, l, d, Config{})
		defer stop()
		go func() {
			if in, err := far.AcceptStream(t.Context()); err == nil {
				_, _ = in.AcceptBytes(nil)
			}
		}()
		b, err := near.OpenBytes(t.Context(), Open{Kind: "x"})
		if err != nil {
			t.Fatal(err)
		}
		settle()
		d.on.Store(true)
		began := time.Now()
		b.Reset(fault.New("x", fault.Deadline, "its time is over"))
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %v", took)
		}
		d.on.Store(false)
	})
}
