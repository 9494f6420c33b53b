package carrier

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/pannier/pannier/spec/fault"
)

// failure is err as an error of op on subject, with the kinds that package net
// and crypto/tls call for.
func failure(op, subject string, err error) error {
	var known *fault.Error
	if err == nil || errors.As(err, &known) {
		return fault.Wrap(op, subject, err)
	}
	e := &fault.Error{Op: op, Kind: fault.KindOf(err), Subject: subject, Err: err}
	var (
		cert  *tls.CertificateVerificationError
		plain tls.RecordHeaderError
		name  *net.DNSError
		timer net.Error
	)
	switch {
	case e.Kind != fault.Internal && e.Kind != fault.IO:
	case errors.As(err, &cert):
		e.Kind = fault.Unauthenticated
	case isAlert(err):
		e.Kind, e.Side = fault.Refused, fault.Peer
		e.Advice = "it lets in the keys among its Pins and those AuthorizeKey allows: this node's is Identity.Key()"
	case errors.As(err, &plain):
		e.Kind = fault.Protocol
	case errors.As(err, &name) && name.IsNotFound:
		e.Kind = fault.NotFound
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.Kind = fault.Lost
	case errors.Is(err, syscall.EADDRINUSE):
		e.Kind = fault.Exists
	case errors.Is(err, net.ErrClosed):
		e.Kind = fault.Canceled
	case errors.As(err, &timer) && timer.Timeout():
		e.Kind = fault.Deadline
	}
	return e
}

// isAlert reports whether the peer ended a tls connection with an alert, as it
// does to refuse our certificate. crypto/tls marks these by the Op alone.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}
