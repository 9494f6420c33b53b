package command

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// stubborn is the argument that makes the test binary a command which does not heed
// its context.
const stubborn = "stubborn"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == stubborn {
		root := &cobra.Command{Use: "tool", Args: cobra.ArbitraryArgs, RunE: func(*cobra.Command, []string) error {
			fmt.Println("ready")
			time.Sleep(20 * time.Second)
			return nil
		}}
		Main(root)
	}
	os.Exit(m.Run())
}

// TestSecondSignal: a second signal ends the process, however soon it comes.
func TestSecondSignal(t *testing.T) {
	for i := range 40 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], stubborn)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
			t.Fatal(line, err)
		}
		began := time.Now()
		for _, s := range []os.Signal{syscall.SIGTERM, os.Interrupt} { // two of one sort at once are one
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(i) * 10 * time.Microsecond)
		}
		_ = cmd.Wait()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
			t.Fatalf("time %d: it ended with %v after %v", i, cmd.ProcessState, time.Since(began).Round(time.Second))
		}
	}
}
