package sftp

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	pkgsftp "github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/pannier/pannier/flow/flowtest/sshserver"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
)

// contestant is one who moves files, and what its runs took.
type contestant struct {
	name string
	run  func() error
	took []time.Duration
	cpu  []time.Duration // of the client: this process, or programs that have ended
}

// race has each contestant run in turn, b.N times, and reports the medians.
func race(b *testing.B, bytes int64, clean func(), all ...*contestant) {
	b.Helper()
	for b.Loop() {
		for _, c := range all {
			clean()
			cpu, began := cpuTime(b), time.Now()
			if err := c.run(); err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
			c.took, c.cpu = append(c.took, time.Since(began)), append(c.cpu, cpuTime(b)-cpu)
		}
	}
	b.ReportMetric(0, "ns/op")
	for _, c := range all {
		slices.Sort(c.took)
		slices.Sort(c.cpu)
		b.ReportMetric(float64(bytes)/1e6/c.took[len(c.took)/2].Seconds(), c.name+"-MB/s")
		b.ReportMetric(c.cpu[len(c.cpu)/2].Seconds()*(1<<30)/float64(bytes), c.name+"-cpu-s/GiB")
	}
}

func cpuTime(b *testing.B) (sum time.Duration) {
	b.Helper()
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

func command(argv ...string) func() error {
	return func() error {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%q: %w: %s", argv, err, out)
		}
		return nil
	}
}

// BenchmarkFile moves a file of 256 MiB, or of as many MiB as $PANNIER_BENCH_MIB says, up and down:
// this driver, in this process and in one of its own; OpenSSH's sftp; and package
// github.com/pkg/sftp.
//
//	TMPDIR=/dev/shm go test -run - -bench File -benchtime 5x ./plugins/sftp
func BenchmarkFile(b *testing.B) {
	size := int64(256) << 20
	if n, err := strconv.ParseInt(os.Getenv("PANNIER_BENCH_MIB"), 10, 64); err == nil {
		size = n << 20
	}
	s, local, remote := sshserver.Start(b), filepath.Join(b.TempDir(), "big"), b.TempDir()
	makes(b, local, size)
	up, down := filepath.Join(remote, "up"), local+".down"
	d, err := Driver{}.Open(b.Context(), endpoint(b, s, remote))
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	p := host.New(host.Bundled("sftp"))
	defer func() { _ = p.Close(context.Background()) }()
	process, err := p.Open(b.Context(), endpoint(b, s, remote))
	if err != nil {
		b.Fatal(err)
	}
	defer process.Close()
	other := pkgClient(b, s)
	batch := func(text string) func() error {
		file := filepath.Join(b.TempDir(), "batch")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
		return command(append(s.Client("sftp"), "-q", "-b", file, "-P", s.Port, s.Host)...)
	}
	b.Run("up", func(b *testing.B) {
		race(b, size, func() { _ = os.Remove(up) },
			&contestant{name: "driver", run: func() error { return puts(b, d, local, "/up", size) }},
			&contestant{name: "sftp", run: batch("put " + local + " " + up + "\n")},
			&contestant{name: "process", run: func() error { return puts(b, process, local, "/up", size) }},
			&contestant{name: "pkg", run: func() error {
				in, err := os.Open(local)
				if err != nil {
					return err
				}
				defer in.Close()
				f, err := other.Create(up)
				if err == nil {
					_, err = f.ReadFrom(in)
				}
				if err == nil {
					err = f.Close()
				}
				return err
			}})
	})
	same(b, local, up, size)
	b.Run("down", func(b *testing.B) {
		race(b, size, func() { _ = os.Remove(down) },
			&contestant{name: "driver", run: func() error { return gets(b, d, "/up", down) }},
			&contestant{name: "sftp", run: batch("get " + up + " " + down + "\n")},
			&contestant{name: "process", run: func() error { return gets(b, process, "/up", down) }},
			&contestant{name: "pkg", run: func() error {
				f, err := other.Open(up)
				if err != nil {
					return err
				}
				out, err := os.Create(down)
				if err == nil {
					_, err = f.WriteTo(out)
				}
				if err == nil {
					err = out.Close()
				}
				_ = f.Close()
				return err
			}})
	})
	same(b, local, down, size)
}

// BenchmarkFiles moves 1,000 files of 250 kB, 16 at a time: this driver, and rclone, which
// does not compute checksums either, nor set times.
//
//	TMPDIR=/dev/shm go test -run - -bench Files -benchtime 5x ./plugins/sftp
func BenchmarkFiles(b *testing.B) {
	rclone, err := exec.LookPath("rclone")
	if err != nil {
		b.Skip("there is no rclone: nothing to compare with")
	}
	const n, size, at = 1000, 250_000, 16
	s, local, back, remote := sshserver.Start(b), b.TempDir(), b.TempDir(), b.TempDir()
	name := func(i int) string { return fmt.Sprintf("f%03d", i) }
	for i := range n {
		makes(b, filepath.Join(local, name(i)), size)
	}
	d, err := Driver{}.Open(b.Context(), endpoint(b, s, remote))
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	parallel := func(f func(name string) error) func() error {
		return func() error {
			var all sync.WaitGroup
			failed := make([]error, at)
			for k := range at {
				all.Go(func() {
					for i := k; i < n && failed[k] == nil; i += at {
						failed[k] = f(name(i))
					}
				})
			}
			all.Wait()
			return firstOf(failed)
		}
	}
	copies := func(from, to string) func() error {
		return command(rclone, "copy", from, to, "--config", "/dev/null", "--transfers", strconv.Itoa(at), "--checkers", strconv.Itoa(at), "--sftp-host", s.Host, "--sftp-port", s.Port,
			"--sftp-user", s.User, "--sftp-key-file", s.Key, "--sftp-disable-hashcheck", "--sftp-set-modtime=false", "--sftp-shell-type", "none")
	}
	empty := func(dir string) func() {
		return func() {
			files, _ := filepath.Glob(filepath.Join(dir, "*"))
			for _, f := range files {
				_ = os.Remove(f)
			}
		}
	}
	b.Run("up", func(b *testing.B) {
		race(b, n*size, empty(remote),
			&contestant{name: "driver", run: parallel(func(name string) error { return puts(b, d, filepath.Join(local, name), "/"+name, size) })},
			&contestant{name: "rclone", run: copies(local, ":sftp:"+remote)})
	})
	b.Run("down", func(b *testing.B) {
		race(b, n*size, empty(back),
			&contestant{name: "driver", run: parallel(func(name string) error { return gets(b, d, "/"+name, filepath.Join(back, name)) })},
			&contestant{name: "rclone", run: copies(":sftp:"+remote, back)})
	})
	same(b, filepath.Join(local, name(n-1)), filepath.Join(back, name(n-1)), size)
}

func firstOf(all []error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

// makes makes a file of random bytes.
func makes(b *testing.B, name string, size int64) {
	b.Helper()
	f, err := os.Create(name)
	if err == nil {
		_, err = io.CopyN(f, rand.Reader, size)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		b.Fatal(err)
	}
}

// same fails when two files are not the same.
func same(b *testing.B, x, y string, size int64) {
	b.Helper()
	p, err := os.ReadFile(x)
	if err != nil {
		b.Fatal(err)
	}
	q, err := os.ReadFile(y)
	if err != nil || int64(len(p)) != size || !bytes.Equal(p, q) {
		b.Fatalf("%s has %d bytes, %s %d, %v", x, len(p), y, len(q), err)
	}
}

func puts(b *testing.B, s plugins.Session, from, to string, size int64) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := s.(plugins.Writer).Write(b.Context(), to, plugins.WriteRequest{Size: size})
	if err != nil {
		return err
	}
	if _, err := io.Copy(st, struct{ io.Reader }{in}); err != nil {
		return err
	}
	_, err = st.Commit(b.Context())
	return err
}

func gets(b *testing.B, s plugins.Session, from, to string) error {
	r, err := s.Read(b.Context(), from, 0)
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(struct{ io.Writer }{out}, r); err != nil {
		return err
	}
	if err := r.Close(); err != nil {
		return err
	}
	return out.Close()
}

// pkgClient is one of package github.com/pkg/sftp, as quick as its options make it.
func pkgClient(b *testing.B, s *sshserver.Server) *pkgsftp.Client {
	b.Helper()
	key, err := os.ReadFile(s.Key)
	if err != nil {
		b.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		b.Fatal(err)
	}
	c, err := ssh.Dial("tcp", s.Address(), &ssh.ClientConfig{User: s.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	p, err := pkgsftp.NewClient(c, pkgsftp.UseConcurrentReads(true), pkgsftp.UseConcurrentWrites(true))
	if err != nil {
		b.Fatal(err)
	}
	return p
}
