// Package sftpd is the server of the bridge for SFTP: foreign clients log in with ssh and
// put or get files, and what they may do is a session of the node. SSH is
// golang.org/x/crypto's; the messages of SFTP are read and answered here, because the kept
// library answers nothing while a file is being closed, which is when a transfer is
// decided: see "Rejected" in spec/plugin.md, "sftp, as a server", which also has the
// options and what each failure is to a client.
//
// Files: serve.go the listener and its end; options.go; hostkey.go; limits.go how many may
// come; login.go who may; guest.go a connection, watch.go whether it is there;
// subsystem.go requests and replies, gate.go how many at a time, order.go in which order;
// message.go the wire, status.go what failures are; names.go the simple requests; open.go,
// upload.go, download.go, listing.go what is open; pieces.go bytes that came early.
package sftpd
