//go:build race

package host

// limited is not so: the race detector's own memory has more than any plugin's limit.
const limited = false
