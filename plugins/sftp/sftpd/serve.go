package sftpd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/places"
	"github.com/pannier/pannier/spec/fault"
)

// server is one listener.
type server struct {
	cfg    *config
	key    ssh.Signer
	node   plugins.Driver
	ctx    context.Context // ends when nobody more is to begin anything
	hard   context.Context // ends when what still runs is given up
	places *places.Places
	wrong  failures
	guests sync.WaitGroup
}

// Serve serves the clients that connect to l, which it owns, until ctx ends. Then no
// transfer begins any more, those that run may go on for the option drain, and it returns
// when all are gone. It is what plugins.Server says of Listen.
func Serve(ctx context.Context, l net.Listener, options map[string]string, node plugins.Driver) error {
	defer l.Close()
	cfg, err := configure(options)
	if err != nil {
		return err
	}
	key, err := hostKey(cfg.hostkey)
	if err != nil {
		return err
	}
	slog.Info("sftp is served", "address", l.Addr().String(), "hostkey", ssh.FingerprintSHA256(key.PublicKey()))
	hard, give := context.WithCancel(context.WithoutCancel(ctx))
	defer give()
	v := &server{cfg: cfg, key: key, node: node, ctx: ctx, hard: hard, places: cfg.places()}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	err = v.accept(l)
	if err != nil {
		give()
	} else {
		defer time.AfterFunc(cfg.drain, give).Stop()
	}
	v.guests.Wait()
	return err
}

// accept lets clients come until the context ends, which is nil, or the listener does.
func (v *server) accept(l net.Listener) error {
	pause := time.Duration(0)
	for {
		conn, err := l.Accept()
		switch {
		case v.ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fault.Wrap("accept", l.Addr().String(), err)
		case err != nil: // too many files are open, for example
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			slog.Warn("a client could not be accepted", "error", err, "next", pause)
			select {
			case <-time.After(pause):
			case <-v.ctx.Done():
			}
			continue
		}
		pause = 0
		from := source(conn.RemoteAddr())
		stranger, leave := context.WithCancelCause(v.hard)
		place, err := v.places.Enter(from, func() { leave(errDisplaced) })
		if err != nil {
			slog.Debug("a client was turned away", "address", conn.RemoteAddr().String(), "reason", err)
			leave(err)
			_ = conn.Close()
			continue
		}
		v.guests.Go(func() {
			defer place.Exit()
			defer leave(nil)
			v.receive(stranger, conn, from, place)
		})
	}
}
