package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/flow/flowtest/sshserver"
)

// sshServer is the system's sshd on a port of the loopback device, with keys of the
// test's, and the command line of a client of it.
type sshServer struct {
	port   string
	config string
	client []string // ssh and its flags, with the user, without port, host and command
}

// newSSHServer starts one at a free port of the loopback device.
func newSSHServer(t *testing.T) *sshServer {
	t.Helper()
	return newSSHServerAt(t, "127.0.0.1", freeport.Port(t, "127.0.0.1"))
}

// newSSHServerAt starts one by a command that its own is appended to, or skips the test.
func newSSHServerAt(t *testing.T, host, port string, wrap ...string) *sshServer {
	t.Helper()
	s := sshserver.Start(t, sshserver.At(host, port), sshserver.Behind(wrap...))
	return &sshServer{port: port, config: s.Config, client: s.Client("ssh")}
}

// run is what a command prints that the server at a port runs.
func (s *sshServer) run(t *testing.T, port, command string, input []byte) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args := append(append([]string{}, s.client[1:]...), "-p"+port, "127.0.0.1", command)
	cmd := exec.CommandContext(ctx, s.client[0], args...)
	cmd.Stdin = bytes.NewReader(input)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%q: %v: %s", args, err, &said)
	}
	return out.Bytes()
}

func portIn(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// TestRelayOpenSSH: the system's ssh and sftp reach the system's sshd through relays: its port at
// either end's wish, sshd as a command for each connection, and a node that is reached only by
// ssh itself.
func TestRelayOpenSSH(t *testing.T) {
	s := newSSHServer(t)
	inetd, err := json.Marshal([]string{"/usr/sbin/sshd", "-i", "-f", s.config})
	if err != nil {
		t.Fatal(err)
	}
	c := newConduit(t)
	to := "tcp://127.0.0.1:" + s.port
	c.write(relaySection("port", freePort, "here", to)+relaySection("back", freePort, "there", to)+relaySection("command", freePort, "here", "exec:"+string(inetd)),
		fmt.Sprintf("[[relay_policy]]\npartner = \"hosta\"\ndial = [%q, %q]\nlisten = [\"tcp://127.0.0.1:*\"]\n", to, "exec:"+string(inetd)))
	c.start(c.b, c.a)
	data := make([]byte, 4<<20)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	for _, name := range []string{"port", "back", "command"} {
		if got := s.run(t, portIn(c.at(c.a, name)), "cat", data); !bytes.Equal(got, data) {
			t.Errorf("%s: %d of %d bytes came back", name, len(got), len(data))
		}
	}
	files := t.TempDir()
	large := put(t, filepath.Join(files, "large"), 16<<20)
	batch := filepath.Join(files, "batch")
	if err := os.WriteFile(batch, fmt.Appendf(nil, "put %[1]s/large %[1]s/there\nget %[1]s/there %[1]s/back\n", files), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"port", "back"} {
		sftp := append([]string{systemProgram(t, "sftp", "openssh-client"), "-q", "-b", batch, "-P", portIn(c.at(c.a, name))}, s.client[1:]...)
		runs(t, append(sftp, "127.0.0.1")...)
		if digestOf(t, files+"/there") != large || digestOf(t, files+"/back") != large {
			t.Errorf("%s: sftp has made another file", name)
		}
		for _, made := range []string{"there", "back"} {
			_ = os.Remove(filepath.Join(files, made))
		}
	}
	self, err := exec.LookPath("pannier")
	if err != nil {
		t.Fatal(err)
	}
	over, err := json.Marshal(append(append([]string{}, s.client...), "-p"+s.port, "127.0.0.1", self+" --config "+c.b.Config()+" stdio"))
	if err != nil {
		t.Fatal(err)
	}
	printed, said := &messages{}, &messages{}
	once := exec.Command("pannier", "relay", "--config", c.a.Config(), "--from", freePort, "--to", to, "--key", c.b.Key, "--over", "exec:"+string(over))
	once.Stdout, once.Stderr = printed, said
	if err := once.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = once.Process.Signal(os.Interrupt)
		if err := once.Wait(); err != nil {
			t.Errorf("%v: %s", err, said)
		}
	}()
	c.until("the command listens", func() bool { return strings.Contains(printed.String(), "\n") })
	if got := s.run(t, portIn(strings.TrimSpace(printed.String())), "cat", data); !bytes.Equal(got, data) {
		t.Errorf("over ssh: %d of %d bytes came back: %s", len(got), len(data), said)
	}
}
