package config

import _ "embed"

// Example is a file with comments, to begin with.
//
//go:embed example.toml
var Example []byte
