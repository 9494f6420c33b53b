package carrier

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/pannier/pannier/flow/wire"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func preface() []byte { return wire.Preface[:] }

func readPreface(t testing.TB, c net.Conn) {
	t.Helper()
	p := make([]byte, len(wire.Preface))
	if _, err := io.ReadFull(c, p); err != nil || !bytes.Equal(p, preface()) {
		t.Fatalf("preface %q, %v", p, err)
	}
}
