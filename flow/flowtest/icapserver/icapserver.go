// Package icapserver runs Debian's c-icap on loopback for tests. Its services are those of its
// packages: echo, which leaves everything as it is, and srv_content_filtering, which blocks what
// has the word Forbidden in it. Without the program tests are skipped, and .ci/test tells.
package icapserver

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest/freeport"
)

// Forbidden is what the content filter looks for.
const Forbidden = "forbiddenword"

// The services.
const (
	Echo   = "/echo"
	Filter = "/srv_content_filtering"
)

const config = `PidFile DIR/pid
CommandsSocket DIR/ctl
Port ADDRESS
StartServers 1
MaxServers 2
MinSpareThreads 1
MaxSpareThreads 4
ThreadsPerChild 4
TmpDir DIR
ModulesDir MODULES
ServicesDir MODULES
TemplateDir /usr/share/c_icap/templates/
LoadMagicFile /etc/c-icap/c-icap.magic
ServerLog DIR/server.log
AccessLog DIR/access.log
Service echo srv_echo.so
Service srv_cfg_filter srv_content_filtering.so
srv_content_filtering.Match Bad body /FORBIDDEN/i score=10
srv_content_filtering.Action block score{Bad>5}
`

// Start runs one until the end of the test, and returns its address as "icap://127.0.0.1:20001".
func Start(t testing.TB) string {
	t.Helper()
	program, err := exec.LookPath("c-icap")
	if err != nil {
		t.Skip("no c-icap: install the packages c-icap and libc-icap-mod-contentfiltering")
	}
	modules, err := filepath.Glob("/usr/lib/*/c_icap/srv_content_filtering.so")
	if err != nil || len(modules) == 0 {
		t.Skip("no content filter for c-icap: install the package libc-icap-mod-contentfiltering")
	}
	dir, address := t.TempDir(), freeport.For(t, "127.0.0.1")
	text := strings.NewReplacer("DIR", dir, "ADDRESS", address, "MODULES", filepath.Dir(modules[0]), "FORBIDDEN", Forbidden).Replace(config)
	conf := filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(program, "-N", "-f", conf)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(over)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-over
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "server.log"))
			t.Logf("c-icap says\n%s%s", &said, log)
		}
	})
	for range 6000 { // a minute
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return "icap://" + address
		}
		select {
		case <-over:
			t.Fatal("c-icap has ended")
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatal("c-icap does not listen")
	return ""
}
