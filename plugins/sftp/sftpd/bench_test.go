package sftpd

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// busySince is the processor time of this process, which is the server's alone: clients
// are processes of their own.
func busySince(b *testing.B, from time.Duration) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano()+u.Stime.Nano()) - from
}

// BenchmarkOpenSSH has the system's sftp put and get 256 MiB.
func BenchmarkOpenSSH(b *testing.B) {
	const size = 256 << 20
	for _, put := range []bool{true, false} {
		name := map[bool]string{true: "put", false: "get"}[put]
		b.Run(name, func(b *testing.B) {
			n := newNode(b)
			p := started(b, n)
			at := filepath.Join(p.home, "f")
			if !put {
				at = filepath.Join(n.root, "f")
			}
			if err := os.WriteFile(at, content(size), 0o600); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
			b.ResetTimer()
			began := busySince(b, 0)
			for range b.N {
				p.must(name + " f")
			}
			b.ReportMetric(busySince(b, began).Seconds()*(1<<30)/size/float64(b.N), "cpu-s/GiB")
		})
	}
}
