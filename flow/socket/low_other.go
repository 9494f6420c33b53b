//go:build !linux

package socket

func setLow(uintptr, int) bool { return false }

func room(uintptr) int { return 0 }
