package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
)

// shell makes a command whose "rcat" is this program, in a folder that has what the
// examples name, with a state of its own.
func shell(dir, script string) *exec.Cmd {
	cmd := exec.Command("sh", "-e", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(dir, "config"))
	return cmd
}

// exampleFolder has the files that the examples name.
func exampleFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, size := range map[string]int64{"notes.txt": 100, "log": 2 << 20, "disk.img": 1 << 20, "header": 512, "docs/a": 10} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, content(size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// serveExample runs a line of serve's examples and returns the address it prints.
func serveExample(t *testing.T, dir, line string) string {
	t.Helper()
	if !strings.Contains(line, "--listen") {
		line += " --listen 127.0.0.1:0"
	}
	cmd := shell(dir, "exec "+line)
	var messages bytes.Buffer
	cmd.Stderr = &messages
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, &messages)
		}
	})
	first, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, &messages)
	}
	return strings.TrimSpace(strings.TrimPrefix(first, "listening on "))
}

// TestExamplesWorkAsPasted: every command that a help text shows does what it says, one
// after the other, on one machine. Only address and socket differ.
func TestExamplesWorkAsPasted(t *testing.T) {
	for _, line := range lines(serveCommand()) {
		t.Run(line, func(t *testing.T) {
			short, err := os.MkdirTemp("", "rcat") // for a socket's name
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(short) })
			serveExample(t, exampleFolder(t), strings.ReplaceAll(line, "/tmp/rcat.sock", filepath.Join(short, "s")))
		})
	}
	for _, cmd := range []*cobra.Command{rootCommand(), getCommand(), putCommand()} {
		t.Run(cmd.Name(), func(t *testing.T) {
			dir := exampleFolder(t)
			address := serveExample(t, dir, lines(serveCommand())[1]) // the one that takes files
			for _, line := range lines(cmd) {
				if strings.HasPrefix(line, "rcat serve") {
					continue
				}
				script := strings.ReplaceAll(line, "localhost:", strings.TrimPrefix(address, "tls://")+":")
				if out, err := shell(dir, script).CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s", script, err, out)
				}
			}
		})
	}
}

// lines are the commands of a help text's examples.
func lines(cmd *cobra.Command) (all []string) {
	for line := range strings.Lines(cmd.Example) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			all = append(all, line)
		}
	}
	return all
}
