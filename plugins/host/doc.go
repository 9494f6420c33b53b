// Package host runs plugins with bridges (package plugins): it starts their processes,
// watches and stops them, and makes what they can do a plugins.Session that is used as
// if the driver were in this process. spec/plugin.md says what it promises.
package host

//go:generate go run combine_gen.go
