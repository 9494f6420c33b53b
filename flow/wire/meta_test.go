package wire

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

type someMeta struct {
	Name  string
	Port  uint16
	Items []string
	Blob  []byte
	Flag  bool
}

func TestMeta(t *testing.T) {
	for _, v := range []someMeta{{}, {Name: "ä", Port: 65535, Items: []string{"a", ""}, Blob: []byte{0}, Flag: true}} {
		b, err := AppendMeta([]byte("x"), &v)
		if err != nil || b[0] != 'x' {
			t.Fatal(err)
		}
		var got someMeta
		if err := DecodeMeta(b[1:], &got); err != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("%+v became %+v, %v", v, got, err)
		}
		for n := range len(b) - 1 {
			if err := DecodeMeta(b[1:1+n], &got); fault.KindOf(err) != fault.Protocol {
				t.Errorf("%d of %d bytes: %v", n, len(b)-1, err)
			}
		}
	}
	var got someMeta
	for _, bad := range [][]byte{nil, {0xdd, 0xff, 0xff, 0xff, 0xf0}, {0xc0}, {0x80}, {0x95, 0xc0, 0xc0, 0xc0, 0xc0, 0xc0}, bytes.Repeat([]byte{0x91}, 100), make([]byte, MaxMeta+1)} {
		if err := DecodeMeta(bad, &got); fault.KindOf(err) != fault.Protocol {
			t.Errorf("% x: %v", bad[:min(len(bad), 8)], err)
		}
	}
	if err := DecodeMeta([]byte{0x90}, got); fault.KindOf(err) != fault.Invalid {
		t.Error(err)
	}
	if _, err := AppendMeta(nil, &someMeta{Blob: make([]byte, MaxMeta)}); fault.KindOf(err) != fault.TooLong {
		t.Error(err)
	}
}
