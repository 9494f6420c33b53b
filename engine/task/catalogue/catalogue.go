// Package catalogue is all the tasks that a rule may name, put together.
package catalogue

import (
	"maps"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/engine/task/crypt"
	"github.com/pannier/pannier/engine/task/icap"
	"github.com/pannier/pannier/engine/task/notify"
	"github.com/pannier/pannier/engine/task/pack"
)

// Tasks are the tasks there are, described in spec/tasks.md.
func Tasks() task.Catalogue {
	all := task.Standard()
	for _, some := range []task.Catalogue{pack.Tasks(), crypt.Tasks(), notify.Tasks(), icap.Tasks()} {
		maps.Copy(all, some)
	}
	return all
}
