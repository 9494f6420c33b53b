// Package crypt has tasks that encrypt files and sign statements about them. Keys are in
// files of the node's host, or are the node's own, and in no configuration.
package crypt

import "github.com/pannier/pannier/engine/task"

// Tasks are the tasks of this package.
func Tasks() task.Catalogue {
	return task.Catalogue{
		"encrypt": {Make: newEncrypt, Keys: []string{"to", "recipients", "remove"}, Other: true},
		"decrypt": {Make: newDecrypt, Keys: []string{"to", "identities", "remove"}, Other: true},
		"receipt": {Make: newReceipt, Keys: []string{"to"}},
	}
}
