// Package schedule is what a node does by the clock, as spec/schedule.md says.
//
//	ParseCron, Times         when something is due
//	OpenNotes                the memory of all schedules of a node
//	Start -> Runner          schedules at work: each run is made once, until Stop
//	Expect -> Awaiter        files that are to come: told when late, until Stop
//
// Everything a Runner decides is decided in Runner.loop, one goroutine, which alone
// writes its notes; so it is with Awaiter.loop. It never looks at what is in a file.
package schedule
