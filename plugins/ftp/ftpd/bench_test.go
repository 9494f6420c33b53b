package ftpd_test

import (
	"crypto/tls"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// BenchmarkBytes moves 256 MiB to and from a directory, in clear and with TLS. The processor
// time is that of both ends.
//
//	TMPDIR=/dev/shm go test -run NONE -bench Bytes -benchtime 3x ./plugins/ftp/ftpd
func BenchmarkBytes(b *testing.B) {
	const size = 256 << 20
	piece := randomBytes(1 << 20)
	for _, way := range []string{"off", "implicit"} {
		s := serve(b, nil, "tls", way, "settle", "0s")
		r := s.connectFrom("127.0.0.1")
		if way == "implicit" {
			r.secureImplicit()
		} else {
			r.wants("220")
		}
		r.login()
		open := func(command string) net.Conn {
			c := r.begin(command)
			_ = c.SetDeadline(time.Now().Add(5 * time.Minute))
			if way == "implicit" {
				return tls.Client(c, r.data)
			}
			return c
		}
		if way == "implicit" {
			r.is("PROT P", "200")
		}
		for _, verb := range []string{"STOR", "RETR"} {
			b.Run(verb+" tls="+way, func(b *testing.B) {
				b.SetBytes(size)
				before := processor(b)
				for range b.N {
					c := open(verb + " f")
					if verb == "STOR" {
						for range size / len(piece) {
							if _, err := c.Write(piece); err != nil {
								b.Fatal(err)
							}
						}
					} else if n, err := io.Copy(io.Discard, c); n != size || err != nil {
						b.Fatal(n, err)
					}
					_ = c.Close()
					r.wants("226")
				}
				b.ReportMetric((processor(b)-before).Seconds()/float64(b.N)*(1<<30)/size, "cpu-s/GiB")
			})
		}
	}
}

// processor is the time that this process has had.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
