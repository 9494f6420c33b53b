// Scorecard runs the checks behind the promises of spec/reliability.md and
// prints one line for each: what was measured, whether it is what was promised,
// and whether the check fails when it must.
//
//	go run ./spec/scorecard                  # reduced counts, within a minute
//	go run ./spec/scorecard --full           # full counts
//	go run ./spec/scorecard --only 33,35 --json
//
// The exit code is 1 when a check fails, 3 when the scorecard could not run.
//
// # Adding a check
//
// Write a file named by what it checks, with one variable of type check, and
// name that in the table of main.go. The check's run gets a job (count, seed,
// scratch folder) and returns a result: figure, whether that is good, details.
// It uses the real packages, over real connections; what needs virtual time or
// the inside of a package is a test of that package, which goTest runs and
// which reports through package score.
//
// Every check needs its negative control, which runs with it, or the row does
// not pass:
//
//   - edits: changes of the source that break the mechanism. All edits of all
//     checks are built once, with the build's overlay, into a scorecard of their
//     own, in which mutant(id) switches on those of one check; or
//   - without edits, run is called with job.broken and takes the mechanism away
//     from outside: a peer that verifies nothing, a sink without its quota.
//
// A check that needs a process of its own adds a role to roles in main.go; see
// process.go.
package main
