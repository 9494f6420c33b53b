// Package push sends the records of finished requests to an HTTP endpoint, at least once
// each, whatever becomes of the endpoint or the node meanwhile. spec/metrics.md, "Finished
// records", has the format.
//
//	Open -> the store's Told -> Close
//
// What has ended waits in memory, some thousand records at the most; what does not fit there,
// or was there when the process died, is found in the store again by a durable cursor. No
// transfer waits for any of this.
package push
