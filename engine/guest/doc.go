// Package guest is the node as foreign clients see it: people and programs that speak FTP
// or SFTP to a plugin of this node, and log in as a user of a listener. What one of them
// uploads becomes a request, and its answer is how that ended; what it downloads is
// fetched by one (spec/plugin.md, "Listeners").
//
//	node.go      plugins.Driver: who is let in
//	secret.go    passwords and keys
//	session.go   what is there
//	upload.go    a file that comes
//	keep.go      what is left of one that has broken off, and going on with it
//	remains.go   all that is left, and its end
//	download.go  a file that goes
//	limits.go    how much at a time
package guest
