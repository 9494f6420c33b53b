package sideeffect

import (
	"fmt"
	"runtime/debug"
)

// A Panic is what a panic of a user's own Reader, Writer or callback, on a goroutine that moves bytes, is
// raised as on the goroutine that waits for them, where it can be recovered. errors.As
// finds it in what recover returns, and what it was itself if that was an error.
type Panic struct {
	Value any    // of the panic
	Stack []byte // of the goroutine where it came up
}

// PanicOf is the Panic for what recover has returned, in the deferred function that has called
// it; nil for nil. A Panic stays what it is.
func PanicOf(recovered any) *Panic {
	switch p := recovered.(type) {
	case nil:
		return nil
	case *Panic:
		return p
	}
	return &Panic{recovered, debug.Stack()}
}

// Error implements error.
func (p *Panic) Error() string {
	return fmt.Sprintf("%v\n\nthe side effect's goroutine:\n%s", p.Value, p.Stack)
}

// Unwrap is the value, if that is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}
