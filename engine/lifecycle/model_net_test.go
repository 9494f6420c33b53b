package lifecycle

import "github.com/pannier/pannier/spec/fault"

// successors emits every world that one step leads to.
func (m *model) successors(w world, emit func(string, world)) {
	if w.flaw != 0 {
		return // what comes after a flaw is not counted
	}
	for i := range w.end {
		if w.end[i].known {
			m.commander(w, i, emit)
			m.step(w, i, emit)
			m.crash(w, i, emit)
			m.purge(w, i, emit)
			if m.operators {
				m.operator(w, i, emit)
			}
		}
	}
	m.network(w, emit)
	if m.changes && w.source == 0 && w.end[m.sender()].phase <= Ended {
		w.source = 1
		emit("the source changes", w)
	}
}

// commander claims what is due: it may be due at any time.
func (m *model) commander(w world, i int, emit func(string, world)) {
	e := &w.end[i]
	waits := e.state == ToSubmit || e.state == Interrupted && !e.stopped
	if waits && (i == requester || e.failing) {
		m.claim(&w, i, call{})
		emit("claim", w)
	}
}

// crash takes the process with what was not committed or synced.
func (m *model) crash(w world, i int, emit func(string, world)) {
	e, unsynced := &w.end[i], i == m.receiver() && w.disk.cached > w.disk.synced
	if e.state != Running && !unsynced {
		return
	}
	if unsynced {
		w.disk.cached = w.disk.synced
	}
	if e.state == Running {
		if r := m.record(&w, i); e.begun == 2 && !e.failing {
			l, _ := r.list()
			w.ran[i][l] = false // inside the task: another run is allowed
		}
		m.apply(&w, i, Recover{Due: modelTime})
	}
	w.letGo(i)
	emit("crash", w)
}

// purge drops a record; not while a call of it can still arrive, which is what the
// least retention is for.
func (m *model) purge(w world, i int, emit func(string, world)) {
	r := m.record(&w, i)
	if m.purgeable(&w, &r) {
		w.end[i] = end{purged: w.end[i].state == Done}
		emit("purge", w)
	}
}

// network loses, repeats and delays calls, loses answers and streams.
func (m *model) network(w world, emit func(string, world)) {
	for n, c := range w.calls {
		if c == (call{}) {
			continue
		}
		next := w
		next.calls[n] = call{}
		emit("lose", next)
		next = w // a delivered call stays on its way, for it may arrive once more
		if m.deliver(&next, c) {
			emit("deliver", next)
		}
	}
	if run := &w.run[requester]; run.on && w.awaited() {
		if w.answer.how != 0 {
			next := w
			m.hear(&next)
			emit("hear", next)
		}
		next := w
		m.allTold(&next, requester)
		m.wait(&next, requester, Retrying, Requester, fault.Lost)
		emit("give up", next)
	}
	if run := &w.run[requested]; run.on && run.bytes {
		m.allTold(&w, requested)
		m.wait(&w, requested, Awaiting, Requester, fault.Lost)
		emit("stream lost", w)
	}
}

// allTold notes at a sender that hears no verdict, or answer, what it has sent, where the receiver has told
// that all of it is safe.
func (m *model) allTold(w *world, i int) {
	run, s := &w.run[i], &w.stream
	if r := &w.end[m.receiver()]; i != m.sender() || !run.bytes || run.sent == 0 || w.end[i].phase != Moving ||
		w.disk.version != s.version || r.phase < Moving || r.rank != m.size(s.version) {
		return
	}
	m.apply(w, i, Durable{Epoch: modelEpoch, Rank: int64(m.size(s.version)), Proof: m.proof(s.version)})
}

// deliver is what the requested end does with a call.
func (m *model) deliver(w *world, c call) bool {
	var r *Record
	if w.end[requested].known {
		known := m.record(w, requested)
		r = &known
	}
	switch how := m.admit(r, c.said()); how {
	case AdmitWait:
		return false
	case AdmitNew:
		w.end[requested] = pack(&m.blank[requested])
		m.claim(w, requested, c)
	case AdmitServe:
		m.claim(w, requested, c)
	case AdmitRevive:
		m.claim(w, requested, c, Retry{Due: modelTime, Call: c.said()})
	case AdmitAnswer:
		m.reply(w, c, answer{how, w.end[requested].phase, w.end[requested].rank})
	default:
		m.reply(w, c, answer{how: how})
	}
	m.repeated(w, c)
	return true
}

// hear is what the requester does with an answer.
func (m *model) hear(w *world) {
	a, run := w.answer, &w.run[requester]
	w.answer = answer{}
	if run.bytes && !w.stream.verdict {
		run.sent = 0 // nobody has taken it
	}
	run.call, run.bytes = call{}, false
	switch a.how {
	case AdmitAnswer:
		run.peer = a.phase
		e := &w.end[requester]
		if m.push && a.phase >= Whole && a.phase <= Finished {
			run.whole = a.rank + 1
		}
		if m.push && e.phase == Moving && a.rank < e.rank {
			m.apply(w, requester, Rewind{Epoch: modelEpoch, Rank: int64(a.rank), Size: int64(e.size) - 1})
		}
	case RefuseStop:
		m.wait(w, requester, Stopped, Requested, 0)
	case RefuseFailed:
		m.fail(w, requester)
	default:
		w.flaw = staleAnswer // an awaited call is of the latest attempt
	}
}

// fail is Fail, and what follows when there are no error tasks.
func (m *model) fail(w *world, i int) {
	c := w.run[i].call
	m.apply(w, i, Fail{modelEpoch, Failure{Kind: fault.Refused, Side: fault.Peer}})
	w.run[i].body, w.run[i].bytes = 0, false
	if i == requester {
		w.run[i].call, w.answer = call{}, answer{}
	}
	if w.end[i].state == InError {
		w.letGo(i)
		m.reply(w, c, answer{how: RefuseFailed})
	}
}

// operator stops, resumes, cancels and retries; and whatever fails for good does
// so here: a task, the last attempt, patience.
func (m *model) operator(w world, i int, emit func(string, world)) {
	e, run := &w.end[i], &w.run[i]
	try := func(label string, may bool, change func(*world)) {
		if may {
			next := w
			change(&next)
			emit(label, next)
		}
	}
	idle, epoch := !run.on, uint64(0)
	if run.on {
		epoch = modelEpoch
	}
	try("stop", !e.state.Final() && !e.failing && !e.stopped && run.body == 0, func(w *world) {
		m.apply(w, i, Stop{epoch, modelTime})
		w.letGo(i)
	})
	try("resume", e.stopped, func(w *world) { m.apply(w, i, Resume{modelTime}) })
	try("cancel", e.state != Done && e.phase < Committed && run.body == 0 && !e.cancelled, func(w *world) {
		m.apply(w, i, Cancel{Epoch: epoch})
		if i == m.receiver() {
			w.disk.cached, w.disk.synced = 0, 0
		}
		w.letGo(i)
	})
	try("retry", e.state == InError, func(w *world) { m.apply(w, i, Retry{Due: modelTime}) })
	try("fail", run.on && !e.failing && run.body < 2, func(w *world) { m.fail(w, i) })
	try("abandon", i == requested && idle && e.state == Interrupted && !e.stopped && !e.failing, func(w *world) {
		m.claim(w, i, call{})
		m.fail(w, i)
	})
}
