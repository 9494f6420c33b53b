package wire

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func TestNumberFrames(t *testing.T) {
	const n = 0x0102030405060708
	for _, c := range []struct {
		frame []byte
		want  string
	}{
		{AppendCredit(nil, 5, n, 9), "07000000 00000005 00000010 00000000 0102030405060708 0000000000000009"},
		{AppendDurable(nil, 5, n), "09000000 00000005 00000008 00000000 0102030405060708"},
		{AppendPing(nil, n), "0c000000 00000000 00000008 00000000 0102030405060708"},
		{AppendPong(nil, n), "0d000000 00000000 00000008 00000000 0102030405060708"},
		{AppendPipeAck(nil, n), "0e000000 00000000 00000008 00000000 0102030405060708"},
		{AppendLanes(nil, n), "12000000 00000000 00000008 00000000 0102030405060708"},
	} {
		if want := vectorBytes(t, c.want); !bytes.Equal(c.frame, want) {
			t.Errorf("got %s\nwant %s", hex.EncodeToString(c.frame), c.want)
		}
		h, err := ParseHeader(c.frame)
		if err != nil {
			t.Fatal(err)
		}
		body := c.frame[HeaderSize:]
		if h.Type == TypeCredit {
			if g, r, err := ParseCredit(body); err != nil || g != n || r != 9 {
				t.Errorf("CREDIT says %d %d, %v", g, r, err)
			}
			continue
		}
		if got, err := ParseU64(body); err != nil || got != n {
			t.Errorf("%v says %d, %v", h.Type, got, err)
		}
	}
}

func TestNumberFramesAppend(t *testing.T) {
	b := []byte("before")
	b = AppendPong(AppendPing(b, 1), 2)
	if !bytes.HasPrefix(b, []byte("before")) || len(b) != 6+24+24 {
		t.Errorf("% x", b)
	}
}

func TestNumbersOfOtherLengths(t *testing.T) {
	for _, n := range []int{0, 7, 9, 15, 17} {
		_, err := ParseU64(make([]byte, n))
		mustEndSession(t, err)
		_, _, err = ParseCredit(make([]byte, n))
		mustEndSession(t, err)
	}
}
