// Package lifecycle is how a request lives, as pure code: no I/O, no clock, no
// goroutines. A Record is changed by Apply and by nothing else; what two ends do
// after a crash is Reconcile's answer for their two phases.
//
// The document is spec/engine.md; a test compares its diagrams and tables with
// the ones here.
//
// Scheduling states, and the events that lead from one to another:
//
//	          register                       Claim
//	(none) -------------> TOSUBMIT ------------------------> RUNNING -----> DONE
//	                        ^  ^                              |  |    Advance
//	                        |  |  Due                         |  |
//	                        |  '-------- INTERRUPTED <--------'  |
//	                        |      |           ^   Interrupt     | Fail
//	                        |      | Fail      '- - Resume       v
//	                        |      '------------------------> INERROR
//	                        '----------------------------------- Retry
//
// Phases, one ladder at each end, climbed rung by rung:
//
//	sender    ACCEPTED > PRE > READY > MOVING > ENDED > ACKED     > POST > POSTED > FINISHED
//	receiver  ACCEPTED > PRE > READY > MOVING > WHOLE > COMMITTED > POST > POSTED > FINISHED
package lifecycle
