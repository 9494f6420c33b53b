//go:build !linux

package socket

func setLow(uintptr, int) bool { return false }
