package ftp

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/flow/flowtest/ftpserver"
)

// bare is a control connection without checks, limits and waits.
type bare struct {
	net.Conn
	r *bufio.Reader
}

func (b *bare) say(lines ...string) {
	if _, err := b.Write([]byte(strings.Join(lines, "\r\n") + "\r\n")); err != nil {
		panic(err)
	}
}

func (b *bare) want(code string) string {
	for {
		l, err := b.r.ReadString('\n')
		if err != nil {
			panic(err)
		}
		if l[3] == '-' || l[0] == ' ' {
			continue
		}
		if !strings.HasPrefix(l, code) {
			panic(fmt.Sprintf("%q instead of %s", l, code))
		}
		return l
	}
}

func (b *bare) do(line, code string) string { b.say(line); return b.want(code) }

func barely(b *testing.B, s *ftpserver.Server) *bare {
	c, err := net.Dial("tcp", s.Address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	x := &bare{c, bufio.NewReader(c)}
	x.want("220")
	x.say("USER " + s.User)
	if l := x.want(""); l[0] == '3' {
		x.do("PASS "+s.Password, "230")
	}
	x.do("TYPE I", "200")
	return x
}

// BenchmarkFXPFloor is the fewest commands with which two servers exchange a file.
func BenchmarkFXPFloor(b *testing.B) {
	for _, from := range ftpserver.Kinds {
		for _, to := range ftpserver.Kinds {
			if from == to {
				continue
			}
			for _, pairs := range []int{1, 4} {
				for _, whole := range []bool{false, true} {
					b.Run(fmt.Sprintf("%s to %s/%d/%v", from, to, pairs, whole), func(b *testing.B) {
						fromS, toS := ftpserver.Start(b, from, ftpserver.FXP), ftpserver.Start(b, to, ftpserver.FXP)
						puts(b, fromS, "f", randomBytes(10_000))
						var as, bs []*bare
						for range pairs {
							as, bs = append(as, barely(b, fromS)), append(bs, barely(b, toS))
						}
						host, _, _ := net.SplitHostPort(toS.Address)
						c0, began := servercpu(), cpu()
						b.ResetTimer()
						var wg sync.WaitGroup
						for i := range pairs {
							wg.Add(1)
							go func() {
								defer wg.Done()
								one(as[i], bs[i], host, i, b.N/pairs+1, whole)
							}()
						}
						wg.Wait()
						b.ReportMetric(float64((cpu()-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
						c1 := servercpu()
						for k := range c1 {
							b.ReportMetric(float64(c1[k]-c0[k])/float64(b.N)/1000, k+"-us/op")
						}
					})
				}
			}
		}
	}
}

func servercpu() map[string]int64 {
	all := map[string]int64{}
	for _, pid := range flowtest.Family(os.Getpid())[1:] {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
		var n int64
		fmt.Sscan(string(text), &n)
		all[strings.TrimSpace(string(name))] += n
	}
	return all
}

func one(x, y *bare, host string, lane, n int, whole bool) {
	for i := range n {
		name := fmt.Sprintf("g%d.%d", lane, i%500)
		if whole {
			x.say("SIZE f")
		}
		y.say("EPSV")
		if whole {
			x.want("213")
		}
		p, _ := extendedPort(y.want("229")[4:])
		x.say(fmt.Sprintf("EPRT |1|%s|%d|", host, p), "RETR f")
		y.say("STOR " + name)
		x.want("200")
		x.want("150")
		x.want("226")
		y.want("150")
		y.want("226")
		if whole {
			x.say("SIZE f")
			y.say("SIZE "+name, "RNFR "+name, "RNTO x"+name)
			x.want("213")
			y.want("213")
			y.want("350")
			y.want("250")
		}
	}
}
