// Package lifecycle is how a request lives, as pure code: no I/O, no clock, no
// goroutines. A Record is changed by Apply and by nothing else. What two ends do
// after a crash is Reconcile's answer for their two phases, what one end does
// next is Next, and what it does with a call is Admit.
//
// The document is spec/engine.md; a test compares its diagrams and tables with
// the ones here and with what the code does.
//
// Scheduling states, and the events that lead from one to another:
//
//	 Register                 Claim                Conclude
//	----------> TOSUBMIT ---------------> RUNNING ----------> DONE
//	              ^   |                   ^  |  |
//	       Resume |   | Stop        Claim |  |  | Fail, Settle, Cancel
//	              |   v                   |  |  v
//	----------> INTERRUPTED --------------'  |  INERROR
//	 Accept       ^                          |
//	              '--------------------------'
//	                Interrupt, Stop, Recover
//
// Cancel also leads from TOSUBMIT and INTERRUPTED to INERROR. Retry leads from
// INERROR to where Resume leads: TOSUBMIT at the requester, INTERRUPTED at the
// requested end. The full table is transitions.
//
// Phases, one ladder at each end, climbed rung by rung:
//
//	sender    ACCEPTED > PRE > READY > MOVING > ENDED > ACKED     > POST > POSTED > FINISHED
//	receiver  ACCEPTED > PRE > READY > MOVING > WHOLE > COMMITTED > POST > POSTED > FINISHED
package lifecycle
