//go:build !linux

package sideeffect

import "os"

// SyncData is Sync, which on macOS is F_FULLFSYNC: past the drive's cache.
func (f osFile) SyncData() error { return f.Sync() }

// Allocate reserves nothing: a full disk is found out when it is full.
func (f osFile) Allocate(int64) error { return nil }

// willNeed has no hint to give.
func willNeed(*os.File, int64, int64) {}
