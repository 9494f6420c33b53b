// Package audit keeps who has told a node what, so that nobody changes it afterwards
// without being found out. spec/audit.md is the document.
//
//	Open -> Record ... Close        the daemon
//	Verify, Read                    pannier audit, without the daemon
//
// The log is files of JSON lines. Each record has the hash of the one before, and its
// own; a checkpoint, signed with the log's key, says how far the log had come.
package audit
