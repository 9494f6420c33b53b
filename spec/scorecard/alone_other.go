//go:build !linux

package main

func alone() (code int, ran bool) { return 0, false }
