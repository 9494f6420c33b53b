package bench

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

const (
	// patience bounds the one byte of a connection that is opened and closed: later, the
	// connection counts as lost.
	patience = 10 * time.Second
	// pingTime is after how long a ping that is slow ends with fewer times.
	pingTime = 5 * time.Second
	// openers is how many idle connections are opened at a time.
	openers = 16
	// busyPiece is what a busy connection writes at once.
	busyPiece = 16 << 10
	// datagramSize is of each datagram, in bytes.
	datagramSize = 200
)

// wayClient is the process at the near end of a way.
type wayClient struct {
	job  Job
	held []net.Conn // idle
	busy []net.Conn
	sent atomic.Int64 // by busy
	wg   sync.WaitGroup
}

func newWayClient(job Job) *post {
	c := &wayClient{job: job}
	return &post{obey: c.obey, close: func() error { c.release(); return nil }}
}

func (c *wayClient) obey(o order) reply {
	var r reply
	var err error
	switch o.Verb {
	case verbBulk:
		r, err = c.bulk()
	case verbPing:
		r, err = c.ping(o.Count)
	case verbIdle:
		r, err = c.idle(o.Count)
	case verbChurn:
		r = c.churn(o)
	case verbBusy:
		r, err = c.keepBusy(o)
	case verbDatagrams:
		r, err = c.datagrams(o)
	default:
		return answerUsage(o)
	}
	if err != nil {
		return failure(err)
	}
	return r
}

func (c *wayClient) dial() (*net.TCPConn, error) {
	d := net.Dialer{Timeout: patience}
	conn, err := d.Dial("tcp", c.job.Addr)
	if err != nil {
		return nil, fault.Wrap("connect", c.job.Addr, err)
	}
	return conn.(*net.TCPConn), nil
}

// bulk is over when the server has said that it has read to the end.
func (c *wayClient) bulk() (reply, error) {
	conn, err := c.dial()
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	buf := make([]byte, wayBuffer)
	buf[0] = wantSink
	began := time.Now()
	for left := c.job.Size; left > 0; left -= int64(len(buf)) {
		buf = buf[:min(left, int64(len(buf)))]
		if _, err := conn.Write(buf); err != nil {
			return reply{}, fault.Wrap("send", "", err)
		}
	}
	if err := conn.CloseWrite(); err != nil {
		return reply{}, fault.Wrap("send", "", err)
	}
	// Ways without half-close have the server's byte or the end of the connection.
	if _, err := conn.Read(buf[:1]); err != nil && !errors.Is(err, io.EOF) {
		return reply{}, fault.Wrap("wait for answer", "", err)
	}
	return reply{Seconds: time.Since(began).Seconds(), Bytes: c.job.Size}, nil
}

func (c *wayClient) ping(count int) (reply, error) {
	conn, err := c.dial()
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	times := make([]time.Duration, 0, count)
	for end := time.Now().Add(pingTime); len(times) < count && (len(times) == 0 || time.Now().Before(end)); {
		began := time.Now()
		if err := echo(conn); err != nil {
			return reply{}, err
		}
		times = append(times, time.Since(began))
	}
	return reply{Latency: summarize(times)}, nil
}

// echo sends one byte and waits until it is back.
func echo(conn net.Conn) error {
	b := []byte{wantEcho}
	if _, err := conn.Write(b); err != nil {
		return fault.Wrap("send", "", err)
	}
	if _, err := io.ReadFull(conn, b); err != nil {
		return fault.Wrap("wait for byte", "", lostAtEOF(err))
	}
	return nil
}

// once opens a connection and uses it.
func (c *wayClient) once() (net.Conn, error) {
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if err := echo(conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, conn.SetDeadline(time.Time{})
}

// idle opens connections and keeps them; without any it closes those there are.
func (c *wayClient) idle(count int) (reply, error) {
	if count == 0 {
		c.release()
		return reply{}, nil
	}
	conns, errs := make(chan net.Conn, count), make(chan error, openers)
	var left atomic.Int64
	left.Store(int64(count))
	var wg sync.WaitGroup
	for range openers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				conn, err := c.once()
				if err != nil {
					errs <- err
					return
				}
				conns <- conn
			}
		})
	}
	wg.Wait()
	close(conns)
	for conn := range conns {
		c.held = append(c.held, conn)
	}
	select {
	case err := <-errs:
		return reply{}, fault.New("open idle connections", fault.KindOf(err), "%d of %d are open: %w", len(c.held), count, err)
	default:
		return reply{Counts: &counts{Arrived: int64(len(c.held))}}, nil
	}
}

// churn begins connections by the clock, whatever became of those before.
func (c *wayClient) churn(o order) reply {
	times := make([]time.Duration, o.Count) // 0: lost
	var wg sync.WaitGroup
	began := time.Now()
	for i := range times {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(max(1, o.PerSecond)))
		time.Sleep(time.Until(due))
		wg.Go(func() {
			if conn, err := c.once(); err == nil {
				_ = conn.Close()
				times[i] = time.Since(due)
			}
		})
	}
	wg.Wait()
	took := time.Since(began).Seconds()
	var lost int64
	good := times[:0]
	for _, t := range times {
		if t == 0 {
			lost++
			continue
		}
		good = append(good, t)
	}
	return reply{Seconds: took, Latency: summarize(good), Counts: &counts{Sent: int64(len(times)), Arrived: int64(len(good)), Lost: lost}}
}

// keepBusy has connections that send busyPiece at a time: PerSecond of them a second, 0: all
// they can. Without any it ends those there are, and says how much they have sent.
func (c *wayClient) keepBusy(o order) (reply, error) {
	if o.Count == 0 {
		c.release()
		return reply{Bytes: c.sent.Swap(0)}, nil
	}
	for range o.Count { // before the first sends: it would keep the others from being dialled
		conn, err := c.dial()
		if err != nil {
			return reply{}, err
		}
		c.busy = append(c.busy, conn)
	}
	for i, conn := range c.busy[len(c.busy)-o.Count:] {
		c.wg.Go(func() {
			buf := make([]byte, busyPiece)
			buf[0] = wantSink
			began := time.Now()
			for n := 0; ; n++ {
				if o.PerSecond > 0 { // not all in the same moment
					time.Sleep(time.Until(began.Add(time.Duration(n*o.Count+i) * time.Second / time.Duration(o.PerSecond*o.Count))))
				}
				sent, err := conn.Write(buf)
				c.sent.Add(int64(sent))
				if err != nil {
					return
				}
			}
		})
	}
	return reply{}, nil
}

func (c *wayClient) release() {
	for _, conn := range append(c.held, c.busy...) {
		_ = conn.Close()
	}
	c.held, c.busy = nil, nil
	c.wg.Wait()
}

// datagrams sends in steps of a millisecond.
func (c *wayClient) datagrams(o order) (reply, error) {
	conn, err := net.Dial("udp", c.job.ToUDP)
	if err != nil {
		return reply{}, fault.Wrap("connect", c.job.ToUDP, err)
	}
	defer conn.Close()
	data, sent := make([]byte, datagramSize), uint64(0)
	perMilli := max(1, o.PerSecond/1000)
	began := time.Now()
	for step := 0; sent < uint64(o.Count); step++ {
		time.Sleep(time.Until(began.Add(time.Duration(step) * time.Millisecond)))
		for range min(perMilli, o.Count-int(sent)) {
			sent++
			binary.BigEndian.PutUint64(data, sent)
			if _, err := conn.Write(data); err != nil {
				return reply{}, fault.Wrap("send datagram", "", err)
			}
		}
	}
	return reply{Seconds: time.Since(began).Seconds(), Counts: &counts{Sent: int64(sent)}}, nil
}
