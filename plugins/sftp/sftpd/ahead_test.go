package sftpd

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

// hostile is a client of SSH that says what it likes after the exchange of keys: with Curve25519, and
// AES-GCM, of which it only writes.
type hostile struct {
	net.Conn
	in    *bufio.Reader
	seal  cipher.AEAD
	nonce []byte
}

// clear is a packet before there are keys.
func clear(payload []byte) []byte {
	pad := 8 - (5+len(payload))%8 + 8
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+pad))
	return append(append(append(b, byte(pad)), payload...), make([]byte, pad)...)
}

func (h *hostile) next() ([]byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(h.in, head[:]); err != nil {
		return nil, err
	}
	b := make([]byte, min(binary.BigEndian.Uint32(head[:]), 1<<16)-1)
	_, err := io.ReadFull(h.in, b)
	return b[:len(b)-int(head[4])], err
}

// sealed is a packet with keys.
func (h *hostile) sealed(payload []byte) []byte {
	pad := 16 - (1+len(payload))%16 + 16
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+pad))
	plain := append(append([]byte{byte(pad)}, payload...), make([]byte, pad)...)
	b = h.seal.Seal(b, h.nonce, plain, b)
	binary.BigEndian.PutUint64(h.nonce[4:], binary.BigEndian.Uint64(h.nonce[4:])+1)
	return b
}

// exchange exchanges versions and keys.
func (h *hostile) exchange() error {
	const version = "SSH-2.0-hostile"
	if _, err := h.Write([]byte(version + "\r\n")); err != nil {
		return err
	}
	theirs, err := h.in.ReadString('\n')
	if err != nil {
		return err
	}
	init := ssh.Marshal(struct {
		Cookie                        [16]byte `sshtype:"20"`
		Kex, Key, In, Out, MacIn      []string
		MacOut, CompIn, CompOut, A, B []string
		Follows                       bool
		Reserved                      uint32
	}{Kex: []string{"curve25519-sha256"}, Key: []string{"ssh-ed25519"}, In: []string{"aes128-gcm@openssh.com"}, Out: []string{"aes128-gcm@openssh.com"},
		MacIn: []string{"hmac-sha2-256"}, MacOut: []string{"hmac-sha2-256"}, CompIn: []string{"none"}, CompOut: []string{"none"}})
	if _, err := h.Write(clear(init)); err != nil {
		return err
	}
	theirInit, err := h.next()
	if err != nil {
		return err
	}
	mine, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	if _, err := h.Write(clear(ssh.Marshal(struct {
		Public []byte `sshtype:"30"`
	}{Public: mine.PublicKey().Bytes()}))); err != nil {
		return err
	}
	b, err := h.next()
	if err != nil {
		return err
	}
	var reply struct {
		HostKey      []byte `sshtype:"31"`
		Public, Sign []byte
	}
	if err := ssh.Unmarshal(b, &reply); err != nil {
		return err
	}
	their, err := ecdh.X25519().NewPublicKey(reply.Public)
	if err != nil {
		return err
	}
	secret, err := mine.ECDH(their)
	if err != nil {
		return err
	}
	k := ssh.Marshal(struct{ K *big.Int }{new(big.Int).SetBytes(secret)})
	text := ssh.Marshal(struct{ A, B, C, D, E, F, G []byte }{[]byte(version), []byte(strings.TrimSpace(theirs)), init, theirInit, reply.HostKey, mine.PublicKey().Bytes(), reply.Public})
	sum := sha256.Sum256(append(text, k...))
	derive := func(what byte, n int) []byte {
		d := sha256.Sum256(append(append(append(append([]byte(nil), k...), sum[:]...), what), sum[:]...))
		return d[:n]
	}
	block, err := aes.NewCipher(derive('C', 16))
	if err != nil {
		return err
	}
	h.nonce = derive('A', 12)
	if h.seal, err = cipher.NewGCM(block); err != nil {
		return err
	}
	_, err = h.Write(clear([]byte{21}))
	return err
}

// ahead says so many packets behind one for which it is refused, and waits until it is.
func ahead(r *running, from string, packets int) error {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", r.address)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	h := &hostile{Conn: c, in: bufio.NewReader(c)}
	if err := h.exchange(); err != nil {
		return err
	}
	all := h.sealed(ssh.Marshal(struct {
		Name string `sshtype:"5"`
	}{Name: "ssh-userauth"}))
	for range packets {
		all = append(all, h.sealed([]byte{50, 0})...) // no request that can be read
	}
	if _, err := c.Write(all); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, c) // it is closed, in one way or another
	return nil
}

// held is how many goroutines of package ssh wait for somebody to take what a client has said.
func held() int {
	b := make([]byte, 8<<20)
	return strings.Count(string(b[:runtime.Stack(b, true)]), "ssh.(*handshakeTransport).readLoop")
}

// TestSaidAhead: a client that has package ssh hold memory for ever does so once: nobody is served from
// its address for a while. One that is refused, and has said little ahead, may come again; and so may
// others.
func TestSaidAhead(t *testing.T) {
	before := held()
	r := serve(t, newNode(t))
	for range 3 {
		if err := ahead(r, "127.0.0.1", 5); err != nil {
			t.Fatal(err)
		}
	}
	if err := ahead(r, "127.0.0.1", 60); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); ahead(r, "127.0.0.1", 5) == nil; time.Sleep(100 * time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatal("its address is still served")
		}
	}
	for began := time.Now(); held() > before+1; time.Sleep(10 * time.Millisecond) { // the others' end soon
		if time.Since(began) > 30*time.Second {
			t.Fatalf("it holds %d goroutines", held()-before)
		}
	}
	if err := ahead(r, "127.0.0.2", 5); err != nil {
		t.Error("another address:", err)
	}
	r.stop()
	forever = append(forever, goleak.IgnoreCurrent())
}

// TestShut: an address that is not served is forgotten when its time is over.
func TestShut(t *testing.T) {
	cfg, err := configure(map[string]string{"hostkey": "none"})
	if err != nil {
		t.Fatal(err)
	}
	l := limits{cfg: cfg, of: map[netip.Prefix]*address{}}
	p := netip.MustParsePrefix("10.0.0.1/32")
	if !l.enter(p) {
		t.Fatal("nobody is let in")
	}
	l.known()
	l.shut(p)
	l.leave(p)
	if l.enter(p) {
		t.Error("it is let in")
	}
	l.of[p].shut = time.Now()
	if !l.enter(p) {
		t.Error("it is not let in again")
	}
	l.known()
	if l.leave(p); len(l.of) > 0 {
		t.Error("it is not forgotten")
	}
}

// TestReadToTheEnd: nothing stays of who has been heard to the end, nor of who has said next to nothing.
func TestReadToTheEnd(t *testing.T) {
	for name, c := range map[string]struct {
		says  int
		reads bool // SSH does, to the end
	}{"much, and heard": {leastStuck, true}, "little": {leastStuck - 1, false}} {
		ours, theirs := net.Pipe()
		l := newLine(theirs, 10_000)
		go func() { _, _ = ours.Write(make([]byte, c.says)) }()
		if _, err := io.ReadFull(l, make([]byte, c.says)); err != nil {
			t.Fatal(err)
		}
		if c.reads {
			go func() { _, _ = l.Read(make([]byte, 1)) }()
		}
		if l.stuck(10_000) {
			t.Errorf("%s: something stays", name)
		}
		_ = ours.Close()
	}
}
