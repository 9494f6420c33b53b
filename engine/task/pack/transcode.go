package pack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/spec/fault"
)

// transcodeTask writes a text with another character set, or other ends of lines.
type transcodeTask struct {
	task.Product
	decode, encode encoding.Encoding // nil: UTF-8
	newline        string            // "": as they are
}

var newlines = map[string]string{"lf": "\n", "crlf": "\r\n", "cr": "\r", "nel": nel, "": ""}

// nel is NEXT LINE, U+0085, which ends lines in EBCDIC.
const nel = "\u0085"

// isEBCDIC reports whether byte 0x15 of a character set is NEL.
func isEBCDIC(e encoding.Encoding) bool {
	text, err := e.NewDecoder().String("\x15")
	return err == nil && text == nel
}

func newTranscode(t *task.Table) (task.Task, error) {
	if t.To == "" {
		return nil, invalid("set to, the name of the result, as \"{path}.utf8\"")
	}
	if t.Decode == "" && t.Encode == "" && t.Newline == "" {
		return nil, invalid("set what to change: decode and encode, character sets as \"iso-8859-1\", or newline")
	}
	c := transcodeTask{}
	var ok bool
	if c.newline, ok = newlines[t.Newline]; !ok {
		return nil, invalid("newline is %q: write lf, crlf, cr or nel", t.Newline)
	}
	var err error
	if c.decode, err = charset("decode", t.Decode); err != nil {
		return nil, err
	}
	if c.encode, err = charset("encode", t.Encode); err != nil {
		return nil, err
	}
	c.Product, err = task.NewProduct(t, "")
	return c, err
}

// charset finds one by a name or alias that IANA knows; nil is UTF-8.
func charset(key, name string) (encoding.Encoding, error) {
	if name == "" {
		return nil, nil
	}
	e, err := ianaindex.IANA.Encoding(name)
	if err != nil || e == nil {
		return nil, invalid("%s is %q, which is no character set that is known here: write its IANA name, as \"iso-8859-15\", \"windows-1252\", \"IBM037\" or \"utf-16le\"", key, name)
	}
	if e == unicode.UTF8 {
		return nil, nil
	}
	return e, nil
}

// Run implements task.Task. What is not of the one character set, or not in the other,
// is an error: no character is lost in silence.
func (c transcodeTask) Run(ctx context.Context, on *task.On) (task.Result, error) {
	return c.Make(ctx, on, "", func(w io.Writer, src *os.File) error {
		steps := []transform.Transformer{&placed{is: encoding.UTF8Validator, say: notUTF8}}
		if c.decode != nil {
			steps = []transform.Transformer{c.decode.NewDecoder(), &placed{is: noReplacement{}, say: notDecoded}}
		}
		if c.newline != "" {
			steps = append(steps, &lineEnds{to: []byte(c.newline), nel: c.decode != nil && isEBCDIC(c.decode)})
		}
		if c.encode != nil {
			steps = append(steps, &placed{is: c.encode.NewEncoder(), say: notEncoded})
		}
		_, err := io.Copy(w, transform.NewReader(src, transform.Chain(steps...)))
		if err != nil && ctx.Err() == nil && fault.KindOf(err) == fault.Internal {
			err = fault.New("transcode", fault.Invalid, "%w", err)
		}
		return err
	})
}

// placed is a step whose error says in which line it is, and what is there.
type placed struct {
	is   transform.Transformer
	line int // that are over
	say  func(line int, rest []byte) error
}

// Reset implements transform.Transformer.
func (p *placed) Reset() {
	p.is.Reset()
	p.line = 0
}

// Transform implements transform.Transformer.
func (p *placed) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	nDst, nSrc, err = p.is.Transform(dst, src, atEOF)
	p.line += bytes.Count(src[:nSrc], []byte("\n"))
	if err != nil && err != transform.ErrShortDst && err != transform.ErrShortSrc {
		err = p.say(p.line+1, src[nSrc:])
	}
	return nDst, nSrc, err
}

func notUTF8(line int, rest []byte) error {
	return fault.New("transcode", fault.Invalid, "line %d has a byte, %#02x, that is not UTF-8: say with decode what the file is in", line, rest[0])
}

func notDecoded(line int, _ []byte) error {
	return fault.New("transcode", fault.Invalid, "line %d has bytes that are no character of decode", line)
}

func notEncoded(line int, rest []byte) error {
	r, _ := utf8.DecodeRune(rest)
	return fault.New("transcode", fault.Invalid, "line %d has %q (U+%04X), which the character set of encode has not", line, r, r)
}

var errReplaced = errors.New("a character could not be read")

// noReplacement refuses the character that decoders put for what they cannot read.
type noReplacement struct{ transform.NopResetter }

var replacement = []byte("\uFFFD")

// Transform implements transform.Transformer.
func (noReplacement) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	switch i := bytes.Index(src, replacement); {
	case i == 0:
		return 0, 0, errReplaced
	case i > 0: // first what is before it, so that its line is known
		n := copy(dst, src[:i])
		return n, n, transform.ErrShortDst
	}
	n := len(src)
	if !atEOF { // half of the character may be at the end
		for k := min(2, n); k > 0; k-- {
			if bytes.HasPrefix(replacement, src[n-k:]) {
				n -= k
				break
			}
		}
	}
	copied := copy(dst, src[:n])
	switch {
	case copied < n:
		err = transform.ErrShortDst
	case n < len(src):
		err = transform.ErrShortSrc
	}
	return copied, copied, err
}

// lineEnds makes every LF, CR LF and CR the same, and with nel every NEL.
type lineEnds struct {
	transform.NopResetter
	to  []byte
	nel bool
}

// Transform implements transform.Transformer.
func (l *lineEnds) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	for nSrc < len(src) {
		c, used := src[nSrc], 1
		ends, pair := c == '\r' || c == '\n', "\r\n"
		if l.nel && c == nel[0] {
			pair = nel
		}
		if c == pair[0] {
			if nSrc+1 == len(src) && !atEOF {
				return nDst, nSrc, transform.ErrShortSrc
			}
			if nSrc+1 < len(src) && src[nSrc+1] == pair[1] {
				ends, used = true, 2
			}
		}
		if ends {
			if nDst+len(l.to) > len(dst) {
				return nDst, nSrc, transform.ErrShortDst
			}
			nDst += copy(dst[nDst:], l.to)
		} else {
			if nDst == len(dst) {
				return nDst, nSrc, transform.ErrShortDst
			}
			dst[nDst] = c
			nDst++
		}
		nSrc += used
	}
	return nDst, nSrc, nil
}
