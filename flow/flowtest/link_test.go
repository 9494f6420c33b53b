package flowtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect makes one connection over l.
func connect(t *testing.T, l *Link) (dialer, acceptor net.Conn) {
	t.Helper()
	dialer, err := l.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	acceptor, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return dialer, acceptor
}

func openLink(t *testing.T, cfg LinkConfig) *Link {
	l := NewLink(cfg)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func pattern(n int) []byte {
	p := make([]byte, n)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(p)
	return p
}

func TestRoundTrip(t *testing.T) {
	for _, rtt := range []time.Duration{0, 5 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond} {
		t.Run(rtt.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := openLink(t, LinkConfig{RTT: rtt})
				begin := time.Now()
				a, b := connect(t, l)
				if d := time.Since(begin); d != rtt {
					t.Errorf("dial took %v, want %v", d, rtt)
				}
				begin = time.Now()
				go func() {
					var p [4]byte
					_, _ = io.ReadFull(b, p[:])
					_, _ = b.Write(p[:])
				}()
				_, _ = a.Write([]byte("ping"))
				if _, err := io.ReadFull(a, make([]byte, 4)); err != nil {
					t.Fatal(err)
				}
				if d := time.Since(begin); d != rtt {
					t.Errorf("echo took %v, want %v", d, rtt)
				}
			})
		})
	}
}

// transfer sends total bytes over n connections and returns how long it took.
func transfer(t *testing.T, l *Link, n int, total int) time.Duration {
	begin := time.Now()
	var wg sync.WaitGroup
	for range n {
		a, b := connect(t, l)
		wg.Go(func() {
			send(a, total/n)
			_ = a.Close()
		})
		wg.Go(func() {
			if got, err := receive(b); got != total/n || err != nil {
				t.Errorf("got %d good bytes, %v", got, err)
			}
			_ = b.Close()
		})
	}
	wg.Wait()
	return time.Since(begin)
}

const chunk = 64 << 10

func send(c net.Conn, total int) {
	for p := pattern(chunk); total > 0; total -= chunk {
		if _, err := c.Write(p[:min(chunk, total)]); err != nil {
			return
		}
	}
}

// receive counts the bytes until EOF, as long as they are what send sends.
func receive(c net.Conn) (int, error) {
	want, got, total := pattern(chunk), make([]byte, chunk), 0
	for {
		n, err := io.ReadFull(c, got)
		if !bytes.Equal(got[:n], want[:n]) {
			return total, errors.New("other bytes")
		}
		total += n
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

func TestRateIsSharedByConnections(t *testing.T) {
	for _, n := range []int{1, 4} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const total = 16 << 20
				l := openLink(t, LinkConfig{RTT: 10 * time.Millisecond, Rate: 100e6})
				mbit := total * 8 / transfer(t, l, n, total).Seconds() / 1e6
				if mbit < 85 || mbit > 100 {
					t.Errorf("%d connections got %.1f Mbit/s of 100", n, mbit)
				}
			})
		})
	}
}

// steadyRate is what n connections get together once slow start is over.
func steadyRate(t *testing.T, n int, cfg LinkConfig) (mbit float64) {
	synctest.Test(t, func(t *testing.T) {
		l := openLink(t, cfg)
		var wg sync.WaitGroup
		for range n {
			a, b := connect(t, l)
			wg.Go(func() { send(a, 1<<40) })
			wg.Go(func() { _, _ = receive(b) })
		}
		time.Sleep(time.Minute)
		before := l.Counts()
		const span = 4 * time.Minute
		time.Sleep(span)
		after := l.Counts()
		_ = l.Close()
		wg.Wait()
		share := float64(after.Lost[FromDialer]) / float64(after.Segments[FromDialer])
		if cfg.Loss > 0 && (share < 0.8*cfg.Loss || share > 1.2*cfg.Loss) {
			t.Errorf("%d of %d segments lost", after.Lost[FromDialer], after.Segments[FromDialer])
		}
		mbit = float64(after.Delivered[FromDialer]-before.Delivered[FromDialer]) * 8 / span.Seconds() / 1e6
	})
	return mbit
}

func TestLossLimitsEachConnection(t *testing.T) {
	cfg := LinkConfig{RTT: 100 * time.Millisecond, Rate: 300e6, Loss: 0.001, Seed: 7}
	one, four := steadyRate(t, 1, cfg), steadyRate(t, 4, cfg)
	t.Logf("1 connection %.1f Mbit/s, 4 connections %.1f", one, four)
	// RFC 9438, 5.1: 33 to 39 segments in a round trip at this loss, 3.9 to 4.6 Mbit/s.
	if one < 3 || one > 6 {
		t.Errorf("one connection got %.1f Mbit/s, want what TCP gets, about 4.5", one)
	}
	if four < 3*one || four > 5*one {
		t.Errorf("four connections got %.1f Mbit/s and one %.1f; want about four times", four, one)
	}
}

func TestLongLinkFillsWithoutLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const total = 128 << 20
		l := openLink(t, LinkConfig{RTT: 100 * time.Millisecond, Rate: 300e6})
		mbit := total * 8 / transfer(t, l, 1, total).Seconds() / 1e6
		if mbit < 230 || mbit > 300 { // slow start takes a fifth of it
			t.Errorf("%.1f Mbit/s of 300", mbit)
		}
	})
}

func TestQueueOverflowIsLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLink(t, LinkConfig{RTT: 20 * time.Millisecond, Rate: 50e6, Queue: 64 << 10})
		const total = 32 << 20
		mbit := total * 8 / transfer(t, l, 2, total).Seconds() / 1e6
		if c := l.Counts(); c.Dropped[FromDialer] == 0 || c.Lost[FromDialer] != 0 {
			t.Errorf("counts %+v, want dropped segments only", c)
		}
		if mbit < 25 || mbit > 50 {
			t.Errorf("%.1f Mbit/s of 50", mbit)
		}
	})
}

func TestSeedDecidesLosses(t *testing.T) {
	run := func(seed uint64) (d time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			l := openLink(t, LinkConfig{RTT: 10 * time.Millisecond, Rate: 100e6, Loss: 0.01, Seed: seed})
			d = transfer(t, l, 1, 4<<20)
		})
		return d
	}
	if a, b := run(1), run(1); a != b {
		t.Errorf("the same seed took %v and %v", a, b)
	}
	if a, b := run(1), run(2); a == b {
		t.Errorf("two seeds both took %v", a)
	}
}

func TestReaderThatDoesNotReadStopsWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLink(t, LinkConfig{RTT: time.Millisecond, SendBuffer: 100_000, RecvBuffer: 50_000})
		a, b := connect(t, l)
		_ = a.SetWriteDeadline(time.Now().Add(time.Hour))
		n, err := a.Write(pattern(1 << 20))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n != 150_000 {
			t.Fatalf("wrote %d, %v; want 150000 and a deadline", n, err)
		}
		_ = a.SetWriteDeadline(time.Time{})
		go func() {
			_, _ = a.Write(pattern(1 << 20)[n:])
			_ = a.Close()
		}()
		if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, pattern(1<<20)) {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
	})
}

func TestCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLink(t, LinkConfig{RTT: 10 * time.Millisecond})
		a, b := connect(t, l)
		_, _ = a.Write([]byte("arrived"))
		time.Sleep(time.Second)
		_, _ = a.Write([]byte("under way"))
		go func() {
			time.Sleep(time.Millisecond)
			l.Cut()
		}()
		if _, err := io.ReadAll(a); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("dialer read: %v", err)
		}
		if got, err := io.ReadAll(b); !errors.Is(err, syscall.ECONNRESET) || string(got) != "arrived" {
			t.Errorf("acceptor read: %q, %v", got, err)
		}
		if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write: %v", err)
		}
		connect(t, l)
	})
}

func TestCutAfter(t *testing.T) {
	for _, n := range []int64{0, 1, 1459, 1460, 1461, 5000} {
		synctest.Test(t, func(t *testing.T) {
			l := openLink(t, LinkConfig{RTT: time.Millisecond})
			a, b := connect(t, l)
			l.CutAfter(FromDialer, n)
			_, _ = a.Write(pattern(9000))
			got, err := io.ReadAll(b)
			if !errors.Is(err, syscall.ECONNRESET) || !bytes.Equal(got, pattern(9000)[:n]) {
				t.Errorf("after %d: read %d, %v", n, len(got), err)
			}
			if c := l.Counts(); c.Delivered[FromDialer] != n {
				t.Errorf("delivered %d, want %d", c.Delivered[FromDialer], n)
			}
		})
	}
}

func TestStallTellsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLink(t, LinkConfig{RTT: 10 * time.Millisecond})
		a, b := connect(t, l)
		l.Stall()
		if _, err := a.Write([]byte("lost?")); err != nil {
			t.Fatalf("write on a stalled link: %v", err)
		}
		_ = b.SetReadDeadline(time.Now().Add(time.Hour))
		if n, err := b.Read(make([]byte, 9)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("read %d, %v on a stalled link", n, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := l.Dial(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("dial on a stalled link: %v", err)
		}
		_ = b.SetReadDeadline(time.Time{})
		l.Unstall()
		begin := time.Now()
		p := make([]byte, 5)
		if _, err := io.ReadFull(b, p); err != nil || string(p) != "lost?" {
			t.Errorf("read %q, %v after the stall", p, err)
		}
		if d := time.Since(begin); d != 5*time.Millisecond {
			t.Errorf("arrived %v after the stall, want half a round trip", d)
		}
	})
}

func TestStallOfPerfectLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLink(t, LinkConfig{})
		a, b := connect(t, l)
		l.Stall()
		_, _ = a.Write([]byte("x"))
		_ = b.SetReadDeadline(time.Now().Add(time.Hour))
		if n, err := b.Read(make([]byte, 9)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read %d, %v on a stalled link", n, err)
		}
	})
}

func TestStalledCloseIsNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLink(t, LinkConfig{RTT: 10 * time.Millisecond})
		a, b := connect(t, l)
		l.Stall()
		_ = a.Close()
		_ = b.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the peer noticed: %v", err)
		}
	})
}

func TestSlice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLink(t, LinkConfig{})
		l.Slice(1)
		a, b := connect(t, l)
		_, _ = a.Write([]byte("abc"))
		for _, want := range "abc" {
			p := make([]byte, 10)
			if n, err := b.Read(p); n != 1 || err != nil || rune(p[0]) != want {
				t.Errorf("read %d %q, %v", n, p[:n], err)
			}
		}
	})
}

func TestCorrupt(t *testing.T) {
	for name, c := range map[string]struct {
		f    Corruption
		want string
	}{
		"none":             {nil, "0123456789"},
		"flip":             {Flip(FromDialer, 0, 3), "0122456789"},
		"drop":             {Drop(FromDialer, 0, 3, 4), "012789"},
		"drop all":         {Drop(FromDialer, 0, 0, 100), ""},
		"duplicate":        {Duplicate(FromDialer, 0, 3, 2), "012343456789"},
		"other direction":  {Flip(FromAcceptor, 0, 3), "0123456789"},
		"other connection": {Flip(FromDialer, 1, 3), "0123456789"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := openLink(t, LinkConfig{RTT: time.Millisecond})
				l.Corrupt(c.f)
				a, b := connect(t, l)
				sent := []byte("0123456789")
				_, _ = a.Write(sent)
				_ = a.Close()
				if got, err := io.ReadAll(b); string(got) != c.want || err != nil {
					t.Errorf("got %q, %v; want %q", got, err, c.want)
				}
				if string(sent) != "0123456789" {
					t.Error("the writer's bytes were changed")
				}
			})
		})
	}
}

func TestHalfClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLink(t, LinkConfig{RTT: 10 * time.Millisecond})
		a, b := connect(t, l)
		_, _ = a.Write([]byte("question"))
		if err := a.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write after CloseWrite: %v", err)
		}
		if got, err := io.ReadAll(b); string(got) != "question" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		_, _ = b.Write([]byte("answer"))
		_ = b.Close()
		if got, err := io.ReadAll(a); string(got) != "answer" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
	})
}

func TestCloseWithUnreadBytesResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLink(t, LinkConfig{RTT: 10 * time.Millisecond})
		a, b := connect(t, l)
		_ = b.Close()
		_, _ = a.Write([]byte("late"))
		time.Sleep(time.Second)
		if _, err := a.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write to a closed end: %v", err)
		}
	})
}

func TestRefuseAndSingle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLink(t, LinkConfig{Single: true})
		l.Refuse(true)
		if _, err := l.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("refusing link: %v", err)
		}
		l.Refuse(false)
		_, b := connect(t, l)
		if _, err := l.Dial(t.Context()); !errors.Is(err, syscall.EBUSY) || !l.Single() {
			t.Errorf("second connection of a single link: %v", err)
		}
		_ = b.Close()
		connect(t, l)
	})
}

func TestBacklogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLink(t, LinkConfig{})
		for range backlog {
			if _, err := l.Dial(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := l.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial beyond the backlog: %v", err)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLink(LinkConfig{RTT: time.Second})
		go func() {
			time.Sleep(time.Millisecond)
			_ = l.Close()
		}()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v", err)
		}
		if _, err := l.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial: %v", err)
		}
	})
}
