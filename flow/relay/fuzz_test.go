package relay

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// FuzzDatagramFrames: whatever a partner sends on a stream of KindUDP, each frame is what the bytes say, and
// none is larger than this end allows.
func FuzzDatagramFrames(f *testing.F) {
	packed := func(s sort, source uint32, p string) []byte {
		b := binary.BigEndian.AppendUint32([]byte{byte(s)}, source)
		return append(binary.BigEndian.AppendUint16(b, uint16(len(p))), p...)
	}
	f.Add(bytes.Join([][]byte{packed(newSource, 1, "10.0.0.1:5"), packed(datagram, 1, "hello"), packed(gone, 1, "")}, nil), uint16(1400))
	f.Add(packed(datagram, 7, strings.Repeat("x", 100)), uint16(99))
	f.Add(packed(gone, 7, "x"), uint16(99))
	f.Add(packed(newSource, 7, strings.Repeat("x", maxOrigin+1)), uint16(99))
	f.Add(packed(0, 0, "")[:5], uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, largest uint16) {
		in := newFrames(bytes.NewReader(b), int(largest))
		var said []byte
		for {
			r, err := in.next()
			if err != nil {
				if err != io.EOF && err != io.ErrUnexpectedEOF && fault.KindOf(err) != fault.Protocol {
					t.Error(err)
				}
				return
			}
			n := int(binary.BigEndian.Uint16(b[len(said)+5:]))
			switch {
			case r.sort == tooLarge:
				if b[len(said)] != byte(datagram) || n <= int(largest) {
					t.Fatalf("a frame of sort %d with %d bytes was skipped", b[len(said)], n)
				}
				said = b[:len(said)+frameHead+n]
				continue
			case r.sort == datagram && len(r.payload) > int(largest), r.sort == newSource && len(r.payload) > maxOrigin, r.sort == gone && len(r.payload) > 0:
				t.Fatalf("sort %d with %d bytes", r.sort, len(r.payload))
			}
			next := packed(r.sort, r.source, string(r.payload))
			if !bytes.HasPrefix(b[len(said):], next) {
				t.Fatalf("%x was read as %x", b[len(said):], next)
			}
			said = b[:len(said)+len(next)]
		}
	})
}

// told is a client whose words are given, and which remembers the answers.
type told struct {
	net.Conn // nil: the rest is not used
	in       io.Reader
	out      bytes.Buffer
}

func (c *told) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *told) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *told) SetDeadline(time.Time) error      { return nil }
func (c *told) SetReadDeadline(time.Time) error  { return nil }
func (c *told) SetWriteDeadline(time.Time) error { return nil }

// FuzzSOCKS: whatever a client says first, what comes of it is a destination that can be said again,
// or an error; who has spoken SOCKS5 gets an answer to each whole message, and nothing is read behind the request.
func FuzzSOCKS(f *testing.F) {
	for _, s := range []string{
		"\x05\x01\x00\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x50rest",
		"\x05\x02\x02\x00\x05\x01\x00\x03\x0bexample.org\x01\xbb",
		"\x05\x01\x00\x05\x01\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x50",
		"\x05\x01\x00\x05\x01\x00\x03\x00\x00\x50", "\x05\x01\x02", "\x05\x01\x00\x05\x02\x00\x01\x0a\x00\x00\x01\x00\x50", "\x04\x01\x00", "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.NewReader(b)
		c := &told{in: in}
		to, g, err := greetSOCKS(t.Context(), c)
		if err != nil {
			if g != nil {
				t.Errorf("both %v and an error: %v", to, err)
			}
			return
		}
		if again, err := ParseTo(to.String()); err != nil || again.String() != to.String() {
			t.Errorf("%q: %v, which is read as %v, %v", b, to, again, err)
		}
		if got := c.out.Bytes(); !bytes.Equal(got, []byte{socksVersion, socksNoAuth}) {
			t.Errorf("the client was told %x", got)
		}
		request := b[2+int(b[1]) : len(b)-in.Len()]
		size := map[byte]int{socksIPv4: 4, socksIPv6: 16, socksName: 1 + int(request[4])}[request[3]]
		if len(request) != 4+size+2 {
			t.Errorf("%d bytes were read of the request %x", len(request), request)
		}
	})
}
