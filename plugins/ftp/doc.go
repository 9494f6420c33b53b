// Package ftp is the bridge for FTP: plain, with TLS from the first byte (ftps) or after
// AUTH TLS, and server to server (FXP). It has a control connection of its own, because
// no kept library sends what FXP needs. spec/plugin.md, "ftp", has the options, what is
// used at which server, and what was measured at three of them.
//
// Files: driver.go options and login; conn.go, reply.go the control connection; data.go
// data connections; tls.go certificates; session.go the pool and the simple calls; list.go,
// read.go, write.go, sum.go; copy.go, duo.go FXP; fail.go what replies mean.
package ftp
