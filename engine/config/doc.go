// Package config reads the configuration of a node: a TOML file that says what
// the node is, who its partners are and what its rules allow. The document is
// spec/config.md.
//
//	bytes -> document (what stands where) -> file (shape) -> Config (meaning)
//
// The TOML library parses. The shape is filled here instead of there, because
// the library stops at the first value of a wrong type; here everything that is wrong
// with a file is found in one go, each with its place in the text and what to
// write instead.
package config
