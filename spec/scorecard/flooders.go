package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// How hard the attackers try.
const (
	idleConns    = 2000 // that say nothing
	halfConns    = 2000 // that say half of a ClientHello
	slowConns    = 200  // that say a byte a second
	sources      = 1000 // addresses they come from
	perSecond    = 10000
	floodTick    = 10 * time.Millisecond
	again        = time.Second            // after a stranger's connection was closed
	againPartner = 100 * time.Millisecond // after an admitted one was
)

// roleAttack is this program as the attackers: in a process of their own and of
// low priority, because they are meant to be other people's machines.
const roleAttack = "attack"

// attackConfig is what the parent wants attacked, as JSON on the command line.
type attackConfig struct {
	Address  string
	Identity string // folder, of the admitted attacker
}

// attacked is what the attackers say at their end.
type attacked struct{ Dialled, Frames, CutOff int64 }

// attackRole attacks until its input ends.
func attackRole(args []string) error {
	var cfg attackConfig
	if len(args) != 1 || json.Unmarshal([]byte(args[0]), &cfg) != nil {
		return fault.New("attack", fault.Invalid, "the role is started by the scorecard itself")
	}
	id, err := carrier.LoadOrCreateIdentity(cfg.Identity)
	if err != nil {
		return err
	}
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 10)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	a := &attack{address: cfg.Address, partner: id}
	if err := a.start(ctx); err != nil {
		return err
	}
	fmt.Println("attacking")
	_, _ = io.Copy(io.Discard, os.Stdin)
	stop()
	a.wg.Wait()
	return json.NewEncoder(os.Stdout).Encode(attacked{a.dialled.Load(), a.frames.Load(), a.cutOff.Load()})
}

// attack is a crowd of attackers against one server.
type attack struct {
	address string
	partner *carrier.Identity // admitted, and hostile
	hello   []byte            // a ClientHello
	wg      sync.WaitGroup

	dialled atomic.Int64 // connections made
	frames  atomic.Int64 // sent by admitted attackers
	cutOff  atomic.Int64 // admitted attackers' connections that the server closed
}

// start begins everything; it ends with ctx, and wg waits for that.
func (a *attack) start(ctx context.Context) error {
	hello, err := clientHello()
	if err != nil {
		return err
	}
	a.hello = hello
	for i := range idleConns + halfConns + slowConns {
		say := func(context.Context, net.Conn) {}
		switch {
		case i >= idleConns+halfConns:
			say = a.slowly
		case i >= idleConns:
			say = func(_ context.Context, c net.Conn) { _, _ = c.Write(a.hello[:len(a.hello)/2]) }
		}
		a.wg.Go(func() { a.stranger(ctx, source(i%sources), time.Duration(i%100)*again/100, say) })
	}
	for i, f := range []func(context.Context, net.IP) error{a.opens, a.pings, a.h2resets, a.h2pings, a.h2settings, a.h2continuation} {
		a.wg.Go(func() {
			for ctx.Err() == nil {
				if f(ctx, source(sources+i)) != nil && ctx.Err() == nil {
					a.cutOff.Add(1)
				}
				pause(ctx, againPartner)
			}
		})
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// clientHello is the first flight of a lane's TLS handshake.
func clientHello() ([]byte, error) {
	near, far := carrier.NewPair()
	defer far.Close()
	go func() { _ = tls.Client(near, clientTLS(nil, carrier.ProtocolLane)).Handshake() }() // ends with far
	p := make([]byte, 4<<10)
	n, err := far.Read(p)
	return p[:n], fault.Wrap("make ClientHello", "", err)
}

// stranger connects, says something, stays until it is thrown out, and comes again.
func (a *attack) stranger(ctx context.Context, from net.IP, first time.Duration, say func(context.Context, net.Conn)) {
	pause(ctx, first)
	for ctx.Err() == nil {
		c, err := rawDial(ctx, a.address, from, nil)
		if err == nil {
			a.dialled.Add(1)
			stop := context.AfterFunc(ctx, func() { c.Close() })
			say(ctx, c)
			_, _ = io.Copy(io.Discard, c)
			stop()
			c.Close()
		}
		pause(ctx, again)
	}
}

// slowly says a ClientHello at a byte a second.
func (a *attack) slowly(ctx context.Context, c net.Conn) {
	for _, b := range a.hello {
		if _, err := c.Write([]byte{b}); err != nil {
			return
		}
		if pause(ctx, time.Second); ctx.Err() != nil {
			return
		}
	}
}

// flood writes what make gives for the n-th frame, sealed, at the rate of the
// attack, until the connection ends or ctx does.
func (a *attack) flood(ctx context.Context, c net.Conn, seal func([]byte) []byte, make func(dst []byte, n uint32) []byte) error {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer c.Close()
	a.dialled.Add(1)
	go func() { _, _ = io.Copy(io.Discard, c); c.Close() }()
	tick := time.NewTicker(floodTick)
	defer tick.Stop()
	var out []byte
	for n := uint32(0); ; {
		out = out[:0]
		for range perSecond * int(floodTick) / int(time.Second) {
			out = make(out, n)
			n++
		}
		if _, err := c.Write(seal(out)); err != nil {
			return err
		}
		a.frames.Add(int64(perSecond * int(floodTick) / int(time.Second)))
		<-tick.C
	}
}

// lane is an admitted attacker's session.
func (a *attack) lane(ctx context.Context, from net.IP) (*raw, error) {
	c, err := rawDial(ctx, a.address, from, clientTLS(a.partner, carrier.ProtocolLane))
	if err != nil {
		return nil, err
	}
	r, err := greet(c, helloOf(wire.Control))
	if err != nil {
		c.Close()
		return nil, err
	}
	return r, r.SetDeadline(time.Time{})
}

func (a *attack) opens(ctx context.Context, from net.IP) error {
	r, err := a.lane(ctx, from)
	if err != nil {
		return err
	}
	return a.flood(ctx, r, r.seal, func(dst []byte, n uint32) []byte {
		dst = append(dst, controlFrame(wire.TypeOpen, 2*n+1, wire.Open{Kind: "x"})...)
		return append(dst, controlFrame(wire.TypeReset, 2*n+1, wire.Reset{Kind: uint16(fault.Canceled)})...)
	})
}

func (a *attack) pings(ctx context.Context, from net.IP) error {
	r, err := a.lane(ctx, from)
	if err != nil {
		return err
	}
	return a.flood(ctx, r, r.seal, func(dst []byte, n uint32) []byte { return wire.AppendPing(dst, uint64(n)) })
}

// h2 is an admitted attacker's HTTP/2 connection, after its preface.
func (a *attack) h2(ctx context.Context, from net.IP) (net.Conn, error) {
	c, err := rawDial(ctx, a.address, from, clientTLS(a.partner, carrier.ProtocolHTTP2))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	if err := http2.NewFramer(&b, nil).WriteSettings(); err != nil {
		return nil, err
	}
	_, err = c.Write(b.Bytes())
	return c, err
}

// h2flood floods with what write puts into a framer.
func (a *attack) h2flood(ctx context.Context, from net.IP, write func(f *http2.Framer, n uint32) error) error {
	c, err := a.h2(ctx, from)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	f := http2.NewFramer(&b, nil)
	return a.flood(ctx, c, func(out []byte) []byte { return out }, func(dst []byte, n uint32) []byte {
		b.Reset()
		_ = write(f, n) // into memory
		return append(dst, b.Bytes()...)
	})
}

// headers is the header block of a call, with a path.
func headers(path string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", path}, {":authority", "x"},
		{"content-type", "application/grpc"}, {"te", "trailers"}} {
		_ = e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1], Sensitive: true}) // never indexed: the same bytes each time
	}
	return b.Bytes()
}

func (a *attack) h2resets(ctx context.Context, from net.IP) error {
	block := headers(putMethod)
	return a.h2flood(ctx, from, func(f *http2.Framer, n uint32) error {
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*n + 1, BlockFragment: block, EndHeaders: true}); err != nil {
			return err
		}
		return f.WriteRSTStream(2*n+1, http2.ErrCodeCancel)
	})
}

func (a *attack) h2pings(ctx context.Context, from net.IP) error {
	return a.h2flood(ctx, from, func(f *http2.Framer, n uint32) error { return f.WritePing(false, [8]byte{byte(n)}) })
}

func (a *attack) h2settings(ctx context.Context, from net.IP) error {
	return a.h2flood(ctx, from, func(f *http2.Framer, n uint32) error {
		return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535 + n%2})
	})
}

func (a *attack) h2continuation(ctx context.Context, from net.IP) error {
	block := headers(putMethod)
	more := bytes.Repeat([]byte{0x10, 1, 'a', 1, 'b'}, 20) // never indexed fields
	return a.h2flood(ctx, from, func(f *http2.Framer, n uint32) error {
		if n == 0 {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block})
		}
		return f.WriteContinuation(1, false, more)
	})
}
