package wire

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pannier/pannier/spec/fault"
)

// A struct that Check refuses is not sent, and the caller is told, not the peer
// blamed.
func TestAppendControlRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		typ    Type
		stream uint32
		v      Message
	}{
		{"over a limit", TypeReset, 1, Reset{Text: strings.Repeat("t", MaxText+1)}},
		{"not UTF-8", TypeReset, 1, Reset{Text: "\xff"}},
		{"another type", TypeClose, 0, Reset{}},
		{"no type", 0, 0, Reset{}},
		{"stream frame on the session", TypeReset, 0, Reset{}},
		{"session frame on a stream", TypeClose, 3, &Close{}},
		{"too large as a whole", TypeResume, 0, Resume{Streams: manyStreams(MaxResume)}},
	} {
		dst := []byte("before")
		got, err := AppendControl(dst, c.typ, c.stream, c.v)
		var e *fault.Error
		if !errors.As(err, &e) || e.Kind != fault.Invalid || e.Session {
			t.Errorf("%s: %v", c.name, err)
		}
		if string(got) != "before" {
			t.Errorf("%s: dst became %q", c.name, got)
		}
	}
}

func manyStreams(n int) []ResumeStream {
	s := make([]ResumeStream, n)
	for i := range s {
		s[i] = ResumeStream{ID: 1<<32 - 1, Received: MaxOffset, Durable: MaxOffset, Window: MaxOffset}
	}
	return s
}

// The number of streams a RESUME holds even when each takes the most bytes.
func TestResumeFits(t *testing.T) {
	const most = 1985
	if _, err := AppendControl(nil, TypeResume, 0, Resume{Epoch: 1<<32 - 1, Streams: manyStreams(most)}); err != nil {
		t.Error(err)
	}
	if _, err := AppendControl(nil, TypeResume, 0, Resume{Epoch: 1<<32 - 1, Streams: manyStreams(most + 1)}); err == nil {
		t.Error("more fit; correct the limit in the doc of Resume")
	}
}

func TestAppendControlAppends(t *testing.T) {
	dst := append(make([]byte, 0, 1000), "before"...)
	v := Verdict{Body: []byte("body")}
	one, err := AppendControl(dst, TypeVerdict, 1, v)
	if err != nil {
		t.Fatal(err)
	}
	alone, err := AppendControl(nil, TypeVerdict, 1, &v)
	if err != nil || !bytes.Equal(one, append([]byte("before"), alone...)) {
		t.Errorf("% x, %v", one, err)
	}
}

// Decoding into a struct that was used before leaves nothing of it, does not
// write to its slices, and keeps nothing of the body.
func TestDecodeStartsAfresh(t *testing.T) {
	body := []byte{0x91, 0xc4, 2, 'a', 'b'}
	old := []byte("old bytes")
	v := Verdict{Body: old}
	if err := Decode(body, &v); err != nil {
		t.Fatal(err)
	}
	clear(body)
	if string(v.Body) != "ab" || string(old) != "old bytes" {
		t.Errorf("body %q, the former one %q", v.Body, old)
	}
	h := Hello{Features: []string{"x"}}
	full := Hello{MinVersion: 1, MaxVersion: 1, Purpose: Bulk}
	b, err := AppendControl(nil, TypeHello, 0, full)
	if err != nil {
		t.Fatal(err)
	}
	if err := Decode(b[HeaderSize:], &h); err != nil || !reflect.DeepEqual(h, full) {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestDecodeNeedsAPointer(t *testing.T) {
	for _, v := range []Message{Close{}, (*Close)(nil)} {
		if err := Decode([]byte{0x92, 0, 0xa0}, v); !errors.Is(err, fault.Invalid) {
			t.Errorf("%T: %v", v, err)
		}
	}
}

// Numbers in longer forms than needed are read; other msgpack writers make them.
func TestDecodeLongForms(t *testing.T) {
	var c Close
	for _, body := range []string{"92 01 a1 61", "dc 00 02 cc 01 d9 01 61", "dd 00 00 00 02 cf 00*7 01 db 00 00 00 01 61"} {
		if err := Decode(vectorBytes(t, body), &c); err != nil || c != (Close{1, "a"}) {
			t.Errorf("%s: %+v, %v", body, c, err)
		}
	}
}

// Whatever Check accepts and the frame holds comes back equal.
func TestControlRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHello(t)
		roundTrip(t, h)
		roundTrip(t, &HelloAck{
			Version: h.MaxVersion, Session: h.Session, Token: h.Token, Node: h.Node, Epoch: h.Epoch, Name: h.Name,
			Features: h.Features, MaxFrame: h.MaxFrame, Window: h.Window, MaxStreams: h.MaxStreams,
			Kind: rapid.Uint16().Draw(t, "kind"), Text: drawText(t, 0, MaxText),
		})
		roundTrip(t, &Open{
			Kind: drawText(t, 1, MaxKind), Blocks: rapid.Bool().Draw(t, "blocks"), Send: rapid.Bool().Draw(t, "send"),
			BlockSize: rapid.Uint32Max(MaxFrame).Draw(t, "size"), Start: offset(t), Window: offset(t),
			Class: rapid.Uint8Max(3).Draw(t, "class"), Meta: meta(t),
		})
		roundTrip(t, &Accept{BlockSize: rapid.Uint32Max(MaxFrame).Draw(t, "size"), Start: offset(t), Window: offset(t), Root: id(t), Meta: meta(t)})
		roundTrip(t, &End{Total: offset(t), Root: id(t), Trailer: meta(t)})
		roundTrip(t, &Reset{Kind: rapid.Uint16().Draw(t, "kind"), Text: drawText(t, 0, MaxText)})
		roundTrip(t, &Close{Kind: rapid.Uint16().Draw(t, "kind"), Text: drawText(t, 0, MaxText)})
		roundTrip(t, &Verdict{Body: meta(t)})
		roundTrip(t, &GoAway{Last: rapid.Uint32().Draw(t, "last"), Kind: rapid.Uint16().Draw(t, "kind"), Text: drawText(t, 0, MaxText)})
		var streams []ResumeStream
		for range rapid.IntRange(0, 40).Draw(t, "streams") {
			streams = append(streams, ResumeStream{ID: rapid.Uint32Min(1).Draw(t, "id"), Received: offset(t), Durable: offset(t), Window: offset(t)})
		}
		roundTrip(t, &Resume{Epoch: rapid.Uint32().Draw(t, "epoch"), Streams: streams})
	})
}

func drawHello(t *rapid.T) *Hello {
	var features []string
	for range rapid.IntRange(0, MaxFeatures).Draw(t, "features") {
		features = append(features, drawText(t, 0, MaxFeature))
	}
	low := rapid.Uint16Min(1).Draw(t, "low")
	return &Hello{
		MinVersion: low, MaxVersion: rapid.Uint16Min(low).Draw(t, "high"),
		Purpose: Purpose(rapid.IntRange(1, 3).Draw(t, "purpose")), Session: id(t), Token: id(t), Node: id(t),
		Epoch: rapid.Uint32().Draw(t, "epoch"), Name: drawText(t, 0, MaxName), Features: features,
		MaxFrame: rapid.Uint32().Draw(t, "frame"), Window: offset(t),
		MaxStreams: rapid.Uint32().Draw(t, "streams"), Single: rapid.Bool().Draw(t, "single"),
	}
}

func offset(t *rapid.T) uint64 { return rapid.Uint64Max(MaxOffset).Draw(t, "offset") }

func drawText(t *rapid.T, least, most int) string {
	return rapid.StringN(least, -1, most).Draw(t, "text")
}

func meta(t *rapid.T) []byte {
	if b := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "meta"); len(b) > 0 {
		return b
	}
	return nil
}

func id(t *rapid.T) (b [16]byte) {
	copy(b[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	return b
}

type failer interface {
	Fatalf(string, ...any)
	Helper()
}

// roundTrip sends v and compares what arrives.
func roundTrip(t failer, v Message) {
	t.Helper()
	stream := uint32(0)
	if v.frame().rule().stream {
		stream = 7
	}
	b, err := AppendControl(nil, v.frame(), stream, v)
	if err != nil {
		t.Fatalf("%+v: %v", v, err)
	}
	got := reflect.New(reflect.TypeOf(v).Elem()).Interface().(Message)
	if err := Decode(b[HeaderSize:], got); err != nil || !reflect.DeepEqual(got, v) {
		t.Fatalf("%+v became %+v, %v", v, got, err)
	}
}
