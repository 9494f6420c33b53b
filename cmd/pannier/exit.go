package main

import (
	"github.com/spf13/cobra"

	"github.com/pannier/pannier/spec/fault"
)

// Exit codes. They are API: never renumbered, only added to.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitSome        = 3
	exitPermission  = 4
	exitNotFound    = 5
	exitCorrupt     = 6
	exitUnreachable = 7
	exitNoSpace     = 10
	exitRefused     = 11
	exitInterrupted = 130
)

const exitText = `0    done
1    failed, not otherwise classified
2    usage: a flag or an argument is wrong
3    some cases failed; the others are on stdout, the failures on stderr
4    permission denied or not authenticated
5    not found
6    what arrived is not what was sent
7    the peer is unreachable or stopped answering
10   no space, or a quota is used up
11   the peer refused
130  interrupted

New codes may be added; treat an unknown one as failure.`

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: exitText}
}

// exitCode is the code for what a command returned; partial: it has printed
// results all the same.
func exitCode(err error, partial bool) int {
	switch {
	case err == nil:
		return exitDone
	case partial:
		return exitSome
	}
	switch fault.KindOf(err) {
	case fault.Invalid:
		return exitUsage
	case fault.Permission, fault.Unauthenticated:
		return exitPermission
	case fault.NotFound:
		return exitNotFound
	case fault.Corrupt, fault.SourceChanged:
		return exitCorrupt
	case fault.Lost, fault.DeadPeer, fault.Deadline, fault.Draining:
		return exitUnreachable
	case fault.NoSpace, fault.QuotaExceeded:
		return exitNoSpace
	case fault.Refused:
		return exitRefused
	case fault.Canceled:
		return exitInterrupted
	}
	return exitFailed
}
