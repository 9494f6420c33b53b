package sftp

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/scorecard/score"
)

// TestHostile is check 38, as far as servers of SSH go: one that is not who it should be, or
// that has nothing but what can be cut at its beginning unseen, learns nothing of the user.
func TestHostile(t *testing.T) {
	tries, leaks := 0, 0
	refused := func(what string, kind fault.Kind, f *fake, options ...string) {
		t.Helper()
		tries++
		_, err := Driver{}.Open(t.Context(), f.endpoint(options...))
		isKind(t, err, kind)
		if n := f.tried.Load() + f.logins.Load(); n > 0 || err == nil {
			leaks++
			t.Errorf("%s: the user has proved who it is, %v", what, err)
		}
	}
	other := ssh.FingerprintSHA256(newKey(t, "ed25519").PublicKey())
	refused("wrong host key", fault.Unauthenticated, fakes(t, nil), "hostkey", other)
	refused("unknown host key", fault.Unauthenticated, fakes(t, nil), "hostkey", "")

	// Messages before the keys can be left out unseen with this cipher, where one of both ends has
	// no strict key exchange: it is not offered at all.
	weak := fakes(t, func(f *fake) {
		f.config = func(c *ssh.ServerConfig) { c.Ciphers = []string{ssh.CipherChaCha20Poly1305} }
	})
	refused("ChaCha20", fault.Unsupported, weak)
	cbc := fakes(t, func(f *fake) {
		f.config = func(c *ssh.ServerConfig) { c.Ciphers = []string{ssh.InsecureCipherAES128CBC} }
	})
	refused("CBC", fault.Unsupported, cbc)
	// and ours is said to be strict, so that whoever can is.
	var said bytes.Buffer
	var mu sync.Mutex
	strict := fakes(t, func(f *fake) {
		f.first = func(c net.Conn) {
			_, _ = io.WriteString(c, "SSH-2.0-fake\r\n")
			b := make([]byte, 4096)
			for n := 0; n < 1500; {
				m, err := c.Read(b)
				if n += m; err != nil {
					return
				}
				mu.Lock()
				said.Write(b[:m])
				mu.Unlock()
			}
			_ = c.Close()
		}
	})
	tries++
	_, err := Driver{}.Open(t.Context(), strict.endpoint("timeout", "1s"))
	mu.Lock()
	if err == nil || !strings.Contains(said.String(), "kex-strict-c-v00@openssh.com") {
		leaks++
		t.Errorf("strict key exchange is not offered: %v", err)
	}
	mu.Unlock()

	endless := fakes(t, func(f *fake) {
		f.first = func(c net.Conn) {
			for {
				if _, err := io.WriteString(c, strings.Repeat("x", 1000)+"\r\n"); err != nil {
					return
				}
			}
		}
	})
	refused("endless lines before SSH", fault.Protocol, endless)

	f := fakes(t, nil)
	s := f.opens()
	for _, name := range []string{"/a\r\nb", "/a\nb", "/a\x00b"} {
		tries++
		_, err := s.Stat(t.Context(), name)
		isKind(t, err, fault.Invalid)
		_, err = s.Write(t.Context(), name, plugins.WriteRequest{Size: -1})
		isKind(t, err, fault.Invalid)
	}
	score.Report(t, float64(leaks), fmt.Sprintf("sftp: %d lies", tries))
}
