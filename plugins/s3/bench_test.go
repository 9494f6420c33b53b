package s3

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest/s3server"
	"github.com/pannier/pannier/plugins"
)

// sizeEnv says how many MiB the benchmarks' file has, instead of 256.
const sizeEnv = "PANNIER_S3_BENCH_MIB"

// figures are of one way: wall clock and processor time, s/GiB.
type figures struct{ wall, cpu []float64 }

func (f *figures) add(size int64, wall, cpu time.Duration) {
	gib := float64(size) / (1 << 30)
	f.wall, f.cpu = append(f.wall, wall.Seconds()/gib), append(f.cpu, cpu.Seconds()/gib)
}

func (f *figures) report(b *testing.B, who string) {
	median := func(of []float64) float64 { slices.Sort(of); return of[len(of)/2] }
	b.ReportMetric(1024/median(f.wall), who+"-MiB/s")
	b.ReportMetric(median(f.cpu), who+"-cpu-s/GiB")
}

// spent is the processor time of this process.
func spent() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// field is a server, a local file, and a rival.
type field struct {
	f      *s3server.Server
	s      *session
	size   int64
	local  string
	rclone string
}

func newField(b *testing.B, secure bool, options ...string) *field {
	rclone, err := exec.LookPath("rclone")
	if err != nil {
		b.Skip("there is no rclone: nothing to compare with")
	}
	mib := int64(256)
	if text := os.Getenv(sizeEnv); text != "" {
		if mib, err = strconv.ParseInt(text, 10, 64); err != nil || mib < 1 {
			b.Fatalf("%s is %q", sizeEnv, text)
		}
	}
	x := &field{f: s3server.Start(b, secure), size: mib << 20, local: filepath.Join(b.TempDir(), "big"), rclone: rclone}
	x.s = opens(b, endpoint(x.f, options...))
	out, err := os.Create(x.local)
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	for block := randomBytes(1 << 20); mib > 0; mib-- {
		if _, err := out.Write(block); err != nil {
			b.Fatal(err)
		}
	}
	return x
}

// theirs has the rival copy from one path to another; "s3:" begins the server's.
func (x *field) theirs(b *testing.B, from, to string, secure bool) (cpu time.Duration) {
	url := "http://" + x.f.Address
	args := []string{"copyto", "--ignore-times", "--config", "/dev/null", "--expect-continue-timeout", "0", from, to} // or it waits a second for each part at this server
	if secure {
		url = "https://" + x.f.Address
		args = append(args, "--ca-cert", x.f.CA)
	}
	cmd := exec.Command(x.rclone, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.TempDir(), "RCLONE_CONFIG_S3_TYPE=s3", "RCLONE_CONFIG_S3_PROVIDER=Other", "RCLONE_CONFIG_S3_ENDPOINT=" + url, "RCLONE_CONFIG_S3_REGION=us-east-1",
		"RCLONE_CONFIG_S3_ACCESS_KEY_ID=" + s3server.AccessKey, "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY=" + s3server.SecretKey, "RCLONE_CONFIG_S3_NO_CHECK_BUCKET=true"}
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// BenchmarkUpload sends a file, and has rclone send it in turn.
//
//	TMPDIR=/dev/shm go test -run - -bench . -benchtime 5x ./plugins/s3
func BenchmarkUpload(b *testing.B) {
	for _, secure := range []bool{false, true} {
		b.Run(map[bool]string{false: "http", true: "tls"}[secure], func(b *testing.B) {
			x := newField(b, secure)
			var ours, theirs figures
			for b.Loop() {
				began, cpu := time.Now(), spent()
				x.upload(b)
				ours.add(x.size, time.Since(began), spent()-cpu)
				began = time.Now()
				cpu = x.theirs(b, x.local, "s3:"+s3server.Bucket+"/theirs", secure)
				theirs.add(x.size, time.Since(began), cpu)
			}
			ours.report(b, "ours")
			theirs.report(b, "rclone")
		})
	}
}

func (x *field) upload(b *testing.B) {
	in, err := os.Open(x.local)
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	st, err := x.s.Write(b.Context(), "/ours", plugins.WriteRequest{Size: x.size})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{st}, struct{ io.Reader }{in}, make([]byte, plugins.BlockSize)); err != nil {
		b.Fatal(err)
	}
	if _, err := st.Commit(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkDownload is the same the other way, into a file.
func BenchmarkDownload(b *testing.B) {
	for _, secure := range []bool{false, true} {
		b.Run(map[bool]string{false: "http", true: "tls"}[secure], func(b *testing.B) {
			x := newField(b, secure)
			x.upload(b)
			var ours, theirs figures
			got := filepath.Join(b.TempDir(), "got")
			for b.Loop() {
				_ = os.Remove(got)
				began, cpu := time.Now(), spent()
				x.download(b, got)
				ours.add(x.size, time.Since(began), spent()-cpu)
				_ = os.Remove(got)
				began = time.Now()
				cpu = x.theirs(b, "s3:"+s3server.Bucket+"/ours", got, secure)
				theirs.add(x.size, time.Since(began), cpu)
			}
			ours.report(b, "ours")
			theirs.report(b, "rclone")
		})
	}
}

func (x *field) download(b *testing.B, to string) {
	out, err := os.Create(to)
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	in, err := x.s.Read(b.Context(), "/ours", 0)
	if err != nil {
		b.Fatal(err)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{in}, make([]byte, plugins.BlockSize))
	if err == nil {
		err = in.Close()
	}
	if err != nil || n != x.size {
		b.Fatal(fmt.Errorf("%d bytes: %w", n, err))
	}
}
