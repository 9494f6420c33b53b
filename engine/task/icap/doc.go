// Package icap has the task that lets a server look at a file, as virus scanners do, by
// RFC 3507.
package icap

import "github.com/pannier/pannier/engine/task"

// Tasks are the tasks of this package.
func Tasks() task.Catalogue {
	return task.Catalogue{"icap": {Make: newScan, Keys: []string{"url"}}}
}
