package rpc_test

import (
	"bytes"
	"context"
	"net"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/spec/fault"
)

// faulty is a dialer whose connections change one byte of the first of some contents that they are to send.
type faulty struct {
	*carrier.Dialer
	marks [][]byte
	done  atomic.Bool
}

func (d *faulty) Dial(ctx context.Context) (net.Conn, error) {
	c, err := d.Dialer.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return faultyConn{c, d}, nil
}

type faultyConn struct {
	net.Conn
	d *faulty
}

func (c faultyConn) Write(p []byte) (int, error) {
	for _, m := range c.d.marks {
		if i := bytes.Index(p, m); i >= 0 && c.d.done.CompareAndSwap(false, true) {
			p = slices.Clone(p)
			p[i]++
		}
	}
	return c.Conn.Write(p)
}

// TestOneBlockDamaged: a block that comes damaged fails its transfer; what came before it is kept, and the next one goes on from there.
func TestOneBlockDamaged(t *testing.T) {
	p, ctx := start(t, "tcp", setup{withoutClient: true}), within(t)
	d := &faulty{Dialer: must(carrier.NewDialer(p.address, carrier.Options{}))}
	cc := must(rpc.DialOver(d, rpc.ClientConfig{}))
	defer cc.Close()
	p.stub = storepb.NewStoreClient(cc)
	r := newResumed(t, p, true)
	for at := resumeSize * 3 / 4; at < resumeSize; at += 5000 { // wherever writes are divided
		d.marks = append(d.marks, r.want[at:at+16])
	}
	_, sink, err := r.call(ctx)
	wantKind(t, err, fault.Corrupt)
	wantKind(t, sink.Err, fault.Corrupt)
	if !d.done.Load() {
		t.Fatal("nothing was damaged")
	}
	r.goOn(ctx, true)
}
