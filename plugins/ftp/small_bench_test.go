package ftp

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/flowtest/ftpserver"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
)

// Files of 10 kB from server to server, as the driver copies them, and as quickly as the
// servers can. A server that has sent some 7,000 files within a minute takes five times as
// long for each, since the kernel looks long for a port: run it with 500x, and in a network
// of its own (unshare -n).

// pairsOf runs a benchmark for each ordered pair of servers.
func pairsOf(b *testing.B, f func(b *testing.B, from, to *ftpserver.Server)) {
	for _, from := range ftpserver.Kinds {
		for _, to := range ftpserver.Kinds {
			if from != to {
				b.Run(from+" to "+to, func(b *testing.B) {
					a := ftpserver.Start(b, from, ftpserver.FXP)
					puts(b, a, "f", randomBytes(10_000))
					f(b, a, ftpserver.Start(b, to, ftpserver.FXP))
				})
			}
		}
	}
}

// BenchmarkFXPSmall copies one after the other, within the driver's process.
func BenchmarkFXPSmall(b *testing.B) {
	pairsOf(b, func(b *testing.B, from, to *ftpserver.Server) {
		s, d := opens(b, from, "fxp", "any", "verify", "size"), opens(b, to, "fxp", "any", "verify", "size")
		defer used(b)()
		for i := 0; b.Loop(); i++ {
			if _, err := s.Copy(b.Context(), "/f", d, fmt.Sprintf("/g%d", i%500), plugins.CopyRequest{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkFXPPlugin is the same with the driver in a process of its own, as a node has it.
func BenchmarkFXPPlugin(b *testing.B) { plugged(b, 1) }

// BenchmarkFXPQueued is FXPPlugin with the next copies asked for before the last is over. There is one connection to each
// server, for which they wait in the plugin.
func BenchmarkFXPQueued(b *testing.B) {
	for _, many := range []int{1, 2, 3} {
		b.Run(fmt.Sprintf("%d asked for", many), func(b *testing.B) { plugged(b, many, "connections", "1") })
	}
}

func plugged(b *testing.B, many int, options ...string) {
	pairsOf(b, func(b *testing.B, from, to *ftpserver.Server) {
		p := host.New(host.Config{Name: "ftp", Path: os.Args[0], Args: []string{"plugin"}})
		defer func() { _ = p.Close(context.Background()) }()
		var both [2]plugins.Session
		for i, f := range []*ftpserver.Server{from, to} {
			var err error
			if both[i], err = p.Open(b.Context(), endpoint(f, append([]string{"fxp", "any", "verify", "size"}, options...)...)); err != nil {
				b.Fatal(err)
			}
			defer both[i].Close()
		}
		b.ResetTimer()
		defer used(b)()
		var all sync.WaitGroup
		for lane := range many {
			all.Go(func() {
				for i := lane; i < b.N; i += many {
					if _, err := both[0].(plugins.Copier).Copy(b.Context(), "/f", both[1], fmt.Sprintf("/g%d", i%500), plugins.CopyRequest{}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
	})
}

// BenchmarkFXPFloor has the servers exchange files by the fewest commands that do it,
// without checks of any kind; and with what the driver asks besides: sizes, a name beside
// the target, and a rename.
func BenchmarkFXPFloor(b *testing.B) {
	for _, pairs := range []int{1, 4} {
		for _, whole := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d at a time %s", pairs, map[bool]string{false: "bare", true: "whole"}[whole]), func(b *testing.B) {
				pairsOf(b, func(b *testing.B, from, to *ftpserver.Server) {
					var all sync.WaitGroup
					var ends [][2]*bare
					for range pairs {
						ends = append(ends, [2]*bare{barely(b, from), barely(b, to)})
					}
					b.ResetTimer()
					defer used(b)()
					for lane, e := range ends {
						all.Go(func() {
							for i := range b.N/pairs + 1 {
								exchange(e[0], e[1], fmt.Sprintf("g%d.%d", lane, i%500), whole)
							}
						})
					}
					all.Wait()
				})
			})
		}
	}
}

// bare is a control connection without limits, which panics when anything is unusual.
type bare struct {
	net.Conn
	r *bufio.Reader
}

func barely(b *testing.B, s *ftpserver.Server) *bare {
	c, err := net.Dial("tcp", s.Address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	x := &bare{c, bufio.NewReader(c)}
	x.wants("220")
	if x.says("USER " + s.User); x.wants("")[0] == '3' {
		x.says("PASS " + s.Password)
		x.wants("230")
	}
	x.says("TYPE I")
	x.wants("200")
	return x
}

func (b *bare) says(lines ...string) {
	if _, err := b.Write([]byte(strings.Join(lines, "\r\n") + "\r\n")); err != nil {
		panic(err)
	}
}

// wants reads a reply for each code, and returns the last.
func (b *bare) wants(codes ...string) string {
	var r reply
	for _, code := range codes {
		var err error
		if r, err = readReply(b.r); err != nil || !strings.HasPrefix(fmt.Sprint(r.code), code) {
			panic(fmt.Sprintf("%d %s instead of %s, %v", r.code, r.text(), code, err))
		}
	}
	return fmt.Sprint(r.code, " ", r.text())
}

func exchange(from, to *bare, name string, whole bool) {
	host, _, _ := net.SplitHostPort(to.RemoteAddr().String())
	if whole {
		from.says("SIZE f")
	}
	to.says("EPSV")
	if whole {
		from.wants("213")
	}
	port, _ := extendedPort(to.wants("229"))
	from.says(fmt.Sprintf("EPRT |1|%s|%d|", host, port), "RETR f")
	to.says("STOR " + name)
	to.wants("150", "226")
	from.wants("200", "150", "226")
	if whole {
		to.says("SIZE "+name, "RNFR "+name)
		to.wants("213", "350")
		to.says("RNTO x" + name)
		to.wants("250")
	}
}

// used reports the processor time of this process and of each server, until what it
// returns is called.
func used(b *testing.B) func() {
	before := usages()
	return func() {
		for who, now := range usages() {
			b.ReportMetric(float64((now-before[who]).Microseconds())/float64(b.N), who+"-cpu-µs/op")
		}
	}
}

func usages() map[string]time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	all := map[string]time.Duration{"controller": time.Duration(u.Utime.Nano() + u.Stime.Nano())}
	for _, pid := range flowtest.Family(os.Getpid())[1:] {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		who := strings.TrimSpace(string(name))
		if strings.Trim(who, "0123456789") == "" { // executed by the number of its descriptor
			who = "plugin"
		}
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, thread := range threads {
			text, _ := os.ReadFile(thread)
			var ns time.Duration
			_, _ = fmt.Sscan(string(text), &ns)
			all[who] += ns
		}
	}
	return all
}
