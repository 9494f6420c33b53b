package carrier

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pannier/pannier/spec/fault"
)

func TestRecognize(t *testing.T) {
	lane := string(preface())
	for text, want := range map[string]string{
		lane + "more":                          ProtocolLane,
		lane:                                   ProtocolLane,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":     ProtocolHTTP2,
		"PRI * HTTP/1.1\r\n":                   "",
		"GET / HTTP/1.1\r\n":                   "",
		"P\xf1":                                "",
		lane[:7] + "x":                         "",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc": "",
	} {
		whole := strings.NewReader(text)
		got, read, err := recognize(whole)
		if got != want || (want == "") != errors.Is(err, fault.Protocol) {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
		if !strings.HasPrefix(text, string(read)) || len(read)+whole.Len() != len(text) {
			t.Errorf("%q: read %q and left %d bytes", text, read, whole.Len())
		}
		if got, _, _ = recognize(iotest.OneByteReader(strings.NewReader(text))); got != want {
			t.Errorf("%q byte by byte: %q, want %q", text, got, want)
		}
	}
	if _, _, err := recognize(strings.NewReader(lane[:5])); err == nil {
		t.Error("half a preface is recognized")
	}
}

// A stranger is known by its first byte: waiting for more would hold a place.
func TestRecognizeGivesUpEarly(t *testing.T) {
	if _, read, err := recognize(strings.NewReader("G")); !errors.Is(err, fault.Protocol) || len(read) != 1 {
		t.Errorf("read %q, %v", read, err)
	}
}

func FuzzRecognize(f *testing.F) {
	f.Add(preface())
	f.Add([]byte(http2Preface))
	f.Add([]byte("PRI * HTTP/2"))
	f.Add([]byte{0xf1, 'P', 'R', 'I'})
	f.Fuzz(func(t *testing.T, text []byte) {
		got, read, err := recognize(bytes.NewReader(text))
		want := ""
		switch {
		case bytes.HasPrefix(text, preface()):
			want = ProtocolLane
		case bytes.HasPrefix(text, []byte(http2Preface)):
			want = ProtocolHTTP2
		}
		if got != want || (err == nil) != (want != "") || !bytes.HasPrefix(text, read) {
			t.Fatalf("%q: %q, %q, %v", text, got, read, err)
		}
	})
}
