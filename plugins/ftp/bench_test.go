package ftp

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pannier/pannier/flow/flowtest/ftpserver"
	"github.com/pannier/pannier/plugins"
)

// BenchmarkFXP copies 1 GiB, and 500 files of 10 kB, from one server to another, and has
// lftp do the same in turn.
//
//	TMPDIR=/dev/shm go test -run - -bench FXP -benchtime 3x ./plugins/ftp
func BenchmarkFXP(b *testing.B) {
	lftp, err := exec.LookPath("lftp")
	if err != nil {
		b.Skip("there is no lftp: nothing to compare with")
	}
	all := farm(b, ftpserver.FXP)
	const n = 500
	for _, kind := range ftpserver.Kinds {
		sparse(b, all[kind], "big", 1<<30)
		if err := os.Mkdir(filepath.Join(all[kind].Data, "many"), 0o777); err != nil {
			b.Fatal(err)
		}
		for i := range n {
			puts(b, all[kind], fmt.Sprintf("many/%03d", i), randomBytes(10_000))
		}
		for _, d := range []string{"in", "in/many"} {
			if err := os.MkdirAll(filepath.Join(all[kind].Data, d), 0o777); err != nil {
				b.Fatal(err)
			}
			if err := os.Chmod(filepath.Join(all[kind].Data, d), 0o777); err != nil {
				b.Fatal(err)
			}
		}
	}
	for _, from := range ftpserver.Kinds {
		for _, to := range ftpserver.Kinds {
			if from == to {
				continue
			}
			x, y := all[from], all[to]
			s, d := opens(b, x, "fxp", "any", "verify", "size"), opens(b, y, "fxp", "any", "verify", "size")
			clean := func(b *testing.B) {
				b.StopTimer()
				for _, g := range []string{"in/big", "in/many/*"} {
					files, _ := filepath.Glob(filepath.Join(y.Data, g))
					for _, f := range files {
						_ = os.Remove(f)
					}
				}
				b.StartTimer()
			}
			copies := func(b *testing.B, name string) {
				if _, err := s.Copy(b.Context(), "/"+name, d, "/in/"+name, plugins.CopyRequest{}); err != nil {
					b.Error(err)
				}
			}
			theirs := func(b *testing.B, command string) {
				script := "set cmd:fail-exit yes; set net:max-retries 2; set ftp:use-fxp yes; set ftp:fxp-force yes; set ftp:ssl-allow no; " + command
				cmd := exec.Command(lftp, "-c", script)
				cmd.Env = append(os.Environ(), "HOME="+b.TempDir())
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
			}
			at := func(f *ftpserver.Server, rest string) string {
				user := f.User + ":" + f.Password + "@"
				if f.Kind == "proftpd" {
					rest = "/%2F" + strings.TrimPrefix(f.Data, "/") + rest // absolute
				}
				return "ftp://" + user + f.Address + rest
			}
			run := func(name string, size int64, f func(b *testing.B)) {
				b.Run(from+" to "+to+"/"+name, func(b *testing.B) {
					b.SetBytes(size)
					for b.Loop() {
						clean(b)
						f(b)
					}
				})
			}
			run("1GiB", 1<<30, func(b *testing.B) { copies(b, "big") })
			run("1GiB lftp", 1<<30, func(b *testing.B) { theirs(b, "get -O "+at(y, "/in")+" "+at(x, "/big")) })
			run("500x10kB", n*10_000, func(b *testing.B) {
				for i := range n {
					copies(b, fmt.Sprintf("many/%03d", i))
				}
			})
			run("500x10kB parallel 4", n*10_000, func(b *testing.B) {
				var wg sync.WaitGroup
				for k := range 4 {
					wg.Add(1)
					go func() {
						defer wg.Done()
						for i := k; i < n; i += 4 {
							copies(b, fmt.Sprintf("many/%03d", i))
						}
					}()
				}
				wg.Wait()
			})
			run("500x10kB lftp", n*10_000, func(b *testing.B) {
				var names []string
				for i := range n {
					names = append(names, at(x, fmt.Sprintf("/many/%03d", i)))
				}
				theirs(b, "mget -O "+at(y, "/in/many")+" "+strings.Join(names, " "))
			})
		}
	}
}

// sparse makes a large file at a server.
func sparse(b *testing.B, f *ftpserver.Server, name string, size int64) {
	b.Helper()
	puts(b, f, name, nil)
	if err := os.Truncate(filepath.Join(f.Data, name), size); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkUpload sends 1 GiB, and has lftp do the same in turn.
func BenchmarkUpload(b *testing.B) {
	lftp, err := exec.LookPath("lftp")
	if err != nil {
		b.Skip("there is no lftp: nothing to compare with")
	}
	local := filepath.Join(b.TempDir(), "big")
	if err := os.WriteFile(local, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	if err := os.Truncate(local, 1<<30); err != nil {
		b.Fatal(err)
	}
	for _, kind := range ftpserver.Kinds {
		f := ftpserver.Start(b, kind)
		for _, verify := range []string{"hash", "size"} {
			s := opens(b, f, "verify", verify)
			b.Run(kind+"/"+verify, func(b *testing.B) {
				b.SetBytes(1 << 30)
				for b.Loop() {
					in, err := os.Open(local)
					if err != nil {
						b.Fatal(err)
					}
					st, err := s.Write(b.Context(), "/big", plugins.WriteRequest{Size: 1 << 30})
					if err != nil {
						b.Fatal(err)
					}
					if _, err := io.Copy(st, in); err != nil {
						b.Fatal(err)
					}
					if _, err := st.Commit(b.Context()); err != nil {
						b.Fatal(err)
					}
					_ = in.Close()
				}
			})
		}
		b.Run(kind+"/lftp", func(b *testing.B) {
			b.SetBytes(1 << 30)
			for b.Loop() {
				cmd := exec.Command(lftp, "-c", "set cmd:fail-exit yes; set net:max-retries 2; set ftp:ssl-allow no; open -u "+f.User+","+f.Password+" ftp://"+f.Address+"; put "+local+" -o big")
				cmd.Env = append(os.Environ(), "HOME="+b.TempDir())
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
			}
		})
	}
}
