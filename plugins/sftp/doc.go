// Package sftp is the bridge for SFTP, version 3 of the protocol, which is what servers
// have: OpenSSH's and those that follow it. SSH is golang.org/x/crypto's; the messages of
// SFTP are read and written here, because the kept library hides what servers say: see
// "Rejected" in spec/plugin.md, "sftp", which also has the options and what was measured.
//
// Files: driver.go options; hostkey.go whom to trust; login.go the way to a subsystem;
// line.go the TCP connection; message.go the messages; conn.go requests and replies;
// session.go connections; names.go the simple calls; list.go, read.go, write.go, token.go,
// commit.go, sum.go; whole.go servers that name files themselves; fail.go what replies mean.
package sftp
