package engine

// Enter takes one of the places of Serving for what a partner wants to know beside its
// requests, until leave; false: there is none now.
func (e *Engine) Enter(partner string) (leave func(), ok bool) {
	if _, ok := e.enter(partner); !ok {
		return nil, false
	}
	return func() { e.leave(partner) }, true
}
