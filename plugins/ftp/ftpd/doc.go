// Package ftpd serves foreign clients of FTP, plain, after AUTH TLS or with TLS from the first
// byte, from a node that is a plugins.Driver to it. The final reply to STOR is sent when the
// node's Commit has returned, and says what that said. spec/plugin.md, "ftp, as a server", has
// the options, the replies, and what is not done.
//
// A client has two goroutines: one reads its lines, one answers them in order; during a
// transfer a third moves the bytes. Nobody but the first reads the control connection.
//
// Files: options.go; serve.go accepting and ending; gate.go who gets in and how often; client.go
// the control connection; line.go its lines, reply.go its replies and what faults become;
// command.go the table of commands; login.go, tls.go, cert.go; port.go PASV and PORT; data.go, transfer.go
// data connections; store.go, retrieve.go, list.go, facts.go, files.go the commands on files;
// name.go.
package ftpd
