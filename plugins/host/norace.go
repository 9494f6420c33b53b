//go:build !race

package host

// limited says whether plugins' memory is limited.
const limited = true
