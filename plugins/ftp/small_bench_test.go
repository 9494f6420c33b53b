package ftp

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest/ftpserver"
	"github.com/pannier/pannier/plugins"
)

// BenchmarkFXPSmall copies files of 10 kB one after the other, within the driver's process.
func BenchmarkFXPSmall(b *testing.B) {
	for _, p := range [][2]string{{"vsftpd", "proftpd"}, {"vsftpd", "pure-ftpd"}, {"proftpd", "vsftpd"}, {"proftpd", "pure-ftpd"}, {"pure-ftpd", "vsftpd"}, {"pure-ftpd", "proftpd"}} {
		b.Run(p[0]+" to "+p[1], func(b *testing.B) {
			from, to := ftpserver.Start(b, p[0], ftpserver.FXP), ftpserver.Start(b, p[1], ftpserver.FXP)
			s, d := opens(b, from, "fxp", "any", "verify", "size"), opens(b, to, "fxp", "any", "verify", "size")
			puts(b, from, "f", randomBytes(10_000))
			began := cpu(); c0 := servercpu()
			for i := 0; b.Loop(); i++ {
				if _, err := s.Copy(b.Context(), "/f", d, fmt.Sprintf("/g%d", i%500), plugins.CopyRequest{}); err != nil {
					b.Fatal(err)
				}
			}
			c1 := servercpu(); for k := range c1 { b.ReportMetric(float64(c1[k]-c0[k])/float64(b.N)/1000, k+"-us/op") }; b.ReportMetric(float64((cpu()-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpu is what this process has computed.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
