//go:build !linux

package loopback

func unpace(uintptr) bool { return false }

func repace(uintptr) {}
