package ftpd

import (
	"bufio"
	"context"
	"net"
	"testing"
	"testing/synctest"
)

// TestStamp: what came together with a command from before a transfer is from before it too,
// however late it is looked at.
func TestStamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		c := &client{raw: here, conn: here, r: bufio.NewReaderSize(here, maxLine), lines: make(chan command), again: make(chan struct{})}
		c.ctx, c.leave = context.WithCancelCause(context.Background())
		go c.read()
		if _, err := there.Write([]byte("PWD\r\nNOOP\r\n")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		c.moving.Store(true)
		for _, verb := range []string{"PWD", "NOOP"} {
			if cmd := <-c.lines; cmd.verb != verb || cmd.later {
				t.Errorf("%+v", cmd)
			}
		}
		go func() { _, _ = there.Write([]byte("NOOP\r\n")) }()
		if cmd := <-c.lines; !cmd.later {
			t.Errorf("%+v", cmd)
		}
		_ = there.Close()
		if _, ok := <-c.lines; ok || context.Cause(c.ctx) != errGone {
			t.Error(context.Cause(c.ctx))
		}
	})
}
