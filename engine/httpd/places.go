package httpd

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"sync"
)

// bounded lets in as many connections at a time. With all places taken a newcomer gets that of a
// stranger, who has proved nothing yet: of the address that has most of them, the first to come. So
// strangers who connect and say nothing keep nobody out. When all have proved who they are, the
// token that has most of them gives its first, so that no token keeps others out; when each has but
// one, newcomers are closed at once, so that who floods waits, and not the kernel's queue.
type bounded struct {
	net.Listener
	most int

	mu  sync.Mutex
	all []*placed // in the order they came
}

func newBounded(l net.Listener, most int) *bounded { return &bounded{Listener: l, most: most} }

func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		p := &placed{Conn: c, of: b, from: hostOf(c.RemoteAddr())}
		gone, ok := b.enter(p)
		if gone != nil {
			gone.Conn.Close()
		}
		if ok {
			return p, nil
		}
		c.Close()
	}
}

// enter gives p a place, if need be that of gone.
func (b *bounded) enter(p *placed) (gone *placed, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.all) >= b.most {
		if gone = b.stranger(); gone == nil {
			if gone = b.crowd(); gone == nil {
				return nil, false
			}
		}
		b.remove(gone)
	}
	b.all = append(b.all, p)
	return gone, true
}

// stranger is who gives way; nil: nobody. b.mu is held.
func (b *bounded) stranger() (first *placed) {
	count := map[string]int{}
	for _, p := range b.all {
		if !p.known {
			count[p.from]++
		}
	}
	for _, p := range b.all {
		if !p.known && (first == nil || count[p.from] > count[first.from]) {
			first = p
		}
	}
	return first
}

// crowd is who gives way when all are known: the first of the token that has most; nil: nobody has
// more than one. b.mu is held.
func (b *bounded) crowd() (first *placed) {
	count := map[string]int{}
	for _, p := range b.all {
		count[p.token]++
	}
	most := 1
	for _, p := range b.all {
		if n := count[p.token]; n > most {
			first, most = p, n
		}
	}
	return first
}

// remove takes a place back, once. b.mu is held.
func (b *bounded) remove(p *placed) {
	if i := slices.Index(b.all, p); i >= 0 {
		b.all = slices.Delete(b.all, i, i+1)
	}
}

// placed is a connection that has a place until it is closed.
type placed struct {
	net.Conn
	of    *bounded
	from  string
	known bool   // a request on it has proved who sends it; guarded by of.mu, as is the next
	token string // of the last who did
}

func (p *placed) Close() error {
	err := p.Conn.Close()
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	p.of.remove(p)
	return err
}

type placeKey struct{}

// withPlace notes the place of a connection.
func withPlace(ctx context.Context, c net.Conn) context.Context {
	if secure, ok := c.(*tls.Conn); ok {
		if p, ok := secure.NetConn().(*placed); ok {
			return context.WithValue(ctx, placeKey{}, p)
		}
	}
	return ctx
}

// keepPlace notes that who sends a request of a connection is known, and by which token.
func keepPlace(ctx context.Context, token string) {
	if p, ok := ctx.Value(placeKey{}).(*placed); ok {
		p.of.mu.Lock()
		defer p.of.mu.Unlock()
		p.known, p.token = true, token
	}
}

// hostOf is an address without its port.
func hostOf(a net.Addr) string {
	if host, _, err := net.SplitHostPort(a.String()); err == nil {
		return host
	}
	return a.String()
}
