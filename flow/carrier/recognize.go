package carrier

import (
	"encoding/binary"
	"io"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// http2Preface is how HTTP/2 clients begin (RFC 9113, 3.4), up to where no
// HTTP/1 request can be mistaken for it.
const http2Preface = "PRI * HTTP/2.0"

// recognize reads what tells lanes from HTTP/2, never beyond a preface, and
// stops at bytes that are neither: what does not belong here does not get to wait.
// It returns what it read, to be read again.
func recognize(r io.Reader) (protocol string, read []byte, err error) {
	candidates := map[string]string{ProtocolLane: string(wire.Preface[:]), ProtocolHTTP2: http2Preface}
	buf := make([]byte, 0, max(len(wire.Preface), len(http2Preface)))
	for {
		need := cap(buf)
		for name, preface := range candidates {
			switch {
			case !agrees(preface, buf):
				delete(candidates, name)
			case len(buf) == len(preface):
				return name, buf, nil
			default:
				need = min(need, len(preface)-len(buf))
			}
		}
		if len(candidates) == 0 {
			return "", buf, fault.New("recognize", fault.Protocol, "neither a lane nor HTTP/2: it begins with %q", buf)
		}
		n, err := io.ReadAtLeast(r, buf[len(buf):len(buf)+need], 1)
		if err != nil {
			return "", buf, err
		}
		buf = buf[:len(buf)+n]
	}
}

// agrees reports whether buf and preface are equal as far as both go.
func agrees(preface string, buf []byte) bool {
	return len(buf) <= len(preface) && preface[:len(buf)] == string(buf)
}

// The first record of a tls handshake: its header, and what most are not longer than.
const (
	recordHeader    = 5
	recordHandshake = 22
	usualHello      = 2 << 10
	maxRecord       = 16 << 10
)

// firstRecord waits for the whole first record of a tls client, before anything
// is made for it that costs more than a buffer: half a ClientHello is what
// strangers leave behind who only want to hold a place. What does not begin as a
// handshake is returned as far as it has come, for crypto/tls to refuse. It may
// return more than the record.
func firstRecord(r io.Reader) (read []byte, err error) {
	buf := make([]byte, usualHello)
	n, err := io.ReadAtLeast(r, buf, recordHeader)
	if err != nil {
		return nil, err
	}
	need := recordHeader + int(binary.BigEndian.Uint16(buf[3:]))
	if buf[0] != recordHandshake || need > recordHeader+maxRecord || n >= need {
		return buf[:n], nil
	}
	if need > len(buf) {
		buf = append(make([]byte, 0, need), buf[:n]...)[:need]
	}
	more, err := io.ReadAtLeast(r, buf[n:], need-n)
	return buf[:n+more], err
}
