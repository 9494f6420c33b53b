package channel

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/spec/fault"
)

// ends are those of a channel.
func ends(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var both [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "end")
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		both[i] = c.(*net.UnixConn)
		_ = both[i].SetDeadline(time.Now().Add(time.Minute))
		t.Cleanup(func() { _ = c.Close() })
	}
	return both[0], both[1]
}

func content(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = io.ReadFull(r, b)
	return b
}

// rings are how often this process has mapped the memory of a channel.
func rings(t *testing.T) int {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(maps), "memfd:pannier channel")
}

// The ways to put bytes in and take them out, in pieces of any size.

func written(s *Sender, b []byte, size func() int) error {
	for len(b) > 0 {
		n, err := s.Write(b[:min(len(b), size())])
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func filled(s *Sender, b []byte, size func() int) error {
	for len(b) > 0 {
		room, err := s.Room()
		if err != nil {
			return err
		}
		n := copy(room[:min(len(room), size())], b)
		if err := s.Put(n); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func read(r *Receiver, size func() int) (all []byte, err error) {
	buf := make([]byte, 2*Block)
	for {
		n, err := r.Read(buf[:size()])
		all = append(all, buf[:n]...)
		if err != nil {
			return all, err
		}
	}
}

func peeked(r *Receiver, size func() int) (all []byte, err error) {
	for {
		b, err := r.Peek()
		if err != nil {
			return all, err
		}
		n := min(len(b), size())
		all = append(all, b[:n]...)
		r.Skip(n)
	}
}

// TestBytes: what goes in comes out, of all sizes, in pieces of all sizes, whoever makes the
// memory, and nothing of that is left.
func TestBytes(t *testing.T) {
	for _, n := range []int{0, 1, Plain - 1, Plain, Plain + 1, Plain + Size, Plain + Size + 1, 9<<20 + 17} {
		for _, modes := range [][2]Mode{{Socket, Socket}, {Offer, Accept}, {Accept, Offer}} {
			for i, put := range []func(*Sender, []byte, func() int) error{written, filled} {
				for j, take := range []func(*Receiver, func() int) ([]byte, error){read, peeked} {
					t.Run(fmt.Sprint(n, " bytes, modes ", modes, ", ways ", i, j), func(t *testing.T) {
						a, b := ends(t)
						want := content(n)
						sizes := rand.New(rand.NewPCG(uint64(n), uint64(i)))
						s, r := NewSender(a, modes[0], make([]byte, Block)), NewReceiver(b, modes[1], make([]byte, Block))
						sent := make(chan error, 1)
						go func() {
							err := put(s, want, func() int { return 1 + sizes.IntN(2*Block) })
							s.Release()
							_ = a.Close()
							sent <- err
						}()
						taking := rand.New(rand.NewPCG(uint64(n), uint64(j+7)))
						got, err := take(r, func() int { return 1 + taking.IntN(2*Block) })
						if !errors.Is(err, io.EOF) || !bytes.Equal(got, want) {
							t.Errorf("%d bytes came, equal: %v, %v", len(got), bytes.Equal(got, want), err)
						}
						if n > Plain+1 && modes[0] != Socket && rings(t) == 0 {
							t.Error("there is no memory")
						}
						r.Release()
						if err := <-sent; err != nil {
							t.Error(err)
						}
						if left := rings(t); left != 0 {
							t.Errorf("%d are still mapped", left)
						}
					})
				}
			}
		}
	}
}

// offered brings a Receiver or Sender that offers memory to where it has done so, and returns the
// other end with the descriptor.
func offered(t *testing.T, other *net.UnixConn) int {
	t.Helper()
	var one [1]byte
	rights := make([]byte, 64)
	_, n, _, _, err := other.ReadMsgUnix(one[:], rights)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := descriptors(rights[:n])
	if err != nil || len(fds) != 1 {
		t.Fatal(fds, err)
	}
	t.Cleanup(func() { _ = unix.Close(fds[0]) })
	return fds[0]
}

// TestLies: counts that cannot be are an error of the other end's, and nothing is read or written
// by them.
func TestLies(t *testing.T) {
	for _, count := range [][]byte{{0, 0, 0, 0}, {0, 0x10, 0, 1}, {0xff, 0xff, 0xff, 0xff}, {0, 0, 0, 1, 0, 0x10, 0, 0}, {0, 0, 0, 1, 0, 0, 0, 0}} {
		mine, other := ends(t)
		r := NewReceiver(mine, Offer, nil)
		go func() { _, _ = other.Write(make([]byte, Plain)) }()
		if _, err := io.CopyN(io.Discard, r, Plain); err != nil {
			t.Fatal(err)
		}
		_, _ = other.Write(count)
		if n, err := r.Read(make([]byte, 10)); n != 0 || !errors.Is(err, fault.Protocol) {
			t.Errorf("after counts %v come %d bytes, %v", count, n, err)
		}
		r.Release()
	}
	// a Receiver that has got 3 blocks and some, and gives back more
	mine, other := ends(t)
	s := NewSender(mine, Offer, nil)
	go func() { _, _ = io.CopyN(io.Discard, other, Plain) }()
	if _, err := s.Write(make([]byte, Plain)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(make([]byte, 3*Block+1)); err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	if err := write(other, 3*Block+2); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, fault.Protocol) {
		t.Errorf("it takes back more than it has given: %v", err)
	}
}

// TestMemory: the other end can neither make the memory smaller nor change what was read.
func TestMemory(t *testing.T) {
	mine, other := ends(t)
	r := NewReceiver(mine, Offer, nil)
	defer r.Release()
	go func() { _, _ = other.Write(make([]byte, Plain)) }()
	if _, err := io.CopyN(io.Discard, r, Plain); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	done := make(chan error, 1)
	go func() { _, err := io.ReadFull(r, got); done <- err }()
	fd := offered(t, other)
	if err := unix.Ftruncate(fd, 0); err == nil {
		t.Error("it can be made smaller")
	}
	if err := unix.Ftruncate(fd, 2*Size); err == nil {
		t.Error("it can be made larger")
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); err == nil {
		t.Error("it can be sealed")
	}
	b, err := mapped(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer unmap(b)
	copy(b, "01234")
	if err := write(other, 5); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	copy(b, "xxxxx")
	if string(got) != "01234" {
		t.Errorf("what was read is %q now", got)
	}
}

// TestNoMemory: where there is none to be had, the socket has all.
func TestNoMemory(t *testing.T) {
	var had unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &had); err != nil {
		t.Fatal(err)
	}
	a, b := ends(t)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: had.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &had) }()
	want := content(Plain + 3*Block + 5)
	s, r := NewSender(a, Offer, nil), NewReceiver(b, Accept, make([]byte, Block))
	go func() { _, _ = s.Write(want); _ = a.Close() }()
	got, err := peeked(r, func() int { return Block })
	if !errors.Is(err, io.EOF) || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came, %v", len(got), err)
	}
}

// TestWrongMemory: what has another size is not taken, and not kept open.
func TestWrongMemory(t *testing.T) {
	a, b := ends(t)
	r := NewReceiver(b, Accept, make([]byte, Block))
	go func() {
		_, _ = a.Write(make([]byte, Plain))
		f, err := os.CreateTemp(t.TempDir(), "")
		if err == nil {
			_, _, _ = a.WriteMsgUnix([]byte{0}, unix.UnixRights(int(f.Fd())), nil)
			_ = f.Close()
		}
	}()
	if _, err := peeked(r, func() int { return Block }); !errors.Is(err, fault.Protocol) {
		t.Error(err)
	}
}

// TestReleased: who uses a channel after its end is told so, and does not touch what is no more.
func TestReleased(t *testing.T) {
	a, b := ends(t)
	s, r := NewSender(a, Offer, nil), NewReceiver(b, Accept, nil)
	written := make(chan error, 1)
	go func() {
		_, err := s.Write(make([]byte, Plain+2*Block)) // which the ring has room for
		written <- err
	}()
	if _, err := io.CopyN(io.Discard, r, Plain+1); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	r.Release()
	r.Release()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := r.Peek(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	s.Release()
	if _, err := s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
