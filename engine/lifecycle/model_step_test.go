package lifecycle

import "github.com/pannier/pannier/spec/fault"

// step is what the runner of one end does next: what engine's runner does, with
// every commit and every effect a step of its own. It emits each way to go on.
func (m *model) step(w world, i int, emit func(string, world)) {
	run := &w.run[i]
	switch {
	case !run.on:
	case run.body != 0:
		m.runTask(&w, i)
		emit("task", w)
	case run.bytes && i == m.sender():
		m.sendBytes(w, i, emit)
	case run.bytes:
		m.receiveBytes(w, i, emit)
	case i == requester && w.awaited():
	default:
		r := m.record(&w, i)
		act := m.next(&r, run.peer)
		if (act == Act{DoCall, Prepare} && m.mayOffer(&r)) {
			with := w
			m.startBytes(&with, i, act.Move)
			emit("call: prepare, bytes", with)
		}
		m.do(&w, i, act)
		emit(act.Do.String()+": "+act.Move.String(), w)
	}
}

// do does one Act.
func (m *model) do(w *world, i int, act Act) {
	run, e := &w.run[i], &w.end[i]
	switch act.Do {
	case DoTask:
		m.apply(w, i, BeginTask{modelEpoch})
		run.body = 1
	case DoClimb:
		if e.phase < Ready && act.Move > Prepare {
			m.catchUp(w, i)
			break
		}
		m.climb(w, i)
	case DoBytes:
		m.startBytes(w, i, act.Move)
	case DoCall:
		m.call(w, act.Move, false)
	case DoAnswer:
		said := answer{AdmitAnswer, m.reveal(i, e.phase), e.rank}
		c := run.call
		m.wait(w, i, Awaiting, Requester, 0)
		m.reply(w, c, said)
		m.handsOver(w, c, act)
	case DoConclude:
		m.apply(w, i, Conclude{modelEpoch})
		c := run.call
		w.letGo(i)
		m.reply(w, c, answer{AdmitAnswer, e.phase, e.rank})
	case DoSettle:
		m.apply(w, i, Settle{modelEpoch})
		c := run.call
		w.letGo(i)
		m.reply(w, c, answer{how: RefuseFailed})
	case DoFail:
		w.flaw = mismatched
		m.fail(w, i)
	}
}

// climb makes true what the next rung says, then commits it.
func (m *model) climb(w *world, i int) {
	to := w.end[i].phase + 1
	if i == m.receiver() && to == Committed && !w.disk.named {
		w.disk.named = true
		return
	}
	up := Advance{Epoch: modelEpoch, To: to, Size: m.known(w, i)}
	if to == Ended {
		up.Rank, up.Proof = m.ended(w, i)
	}
	m.apply(w, i, up)
}

// ended is what a sender that hears how far the receiver is knows of the whole: what it has sent in this
// claim, what a requester hears with the answer, what the record has.
func (m *model) ended(w *world, i int) (size int64, proof string) {
	run, e, r := &w.run[i], &w.end[i], m.record(w, i)
	switch {
	case run.sent > 0:
		return int64(m.size(run.sent - 1)), m.proof(run.sent - 1)
	case run.whole == 0:
		return max(r.Rank, r.Size), r.Proof
	case e.rank == run.whole-1:
		proof = r.Proof
	}
	return int64(run.whole) - 1, proof
}

// catchUp climbs to MOVING in one commit.
func (m *model) catchUp(w *world, i int) {
	var up []Event
	for p := w.end[i].phase + 1; p <= Moving; p++ {
		up = append(up, Advance{Epoch: modelEpoch, To: p, Size: m.known(w, i)})
	}
	m.apply(w, i, up...)
}

// runTask lets the present task have its effect, or records that it had.
func (m *model) runTask(w *world, i int) {
	r := m.record(w, i)
	if w.run[i].body == 1 {
		if l, ok := r.list(); ok && l != ErrorList {
			w.taskRuns(i, l)
		}
		w.run[i].body = 2
		return
	}
	m.apply(w, i, EndTask{Epoch: modelEpoch})
	w.run[i].body = 0
}

func (w *world) taskRuns(i int, l List) {
	if w.ran[i][l] {
		w.flaw = ranTwice
	}
	w.ran[i][l] = true
}

// call sends the requester's present call. One claim makes each call once, unless an
// operator of the other end cancels and retries meanwhile: a runner takes an answer that
// has it call again for nonsense, and makes another attempt.
func (m *model) call(w *world, move Move, bytes bool) {
	if w.run[requester].made&(1<<move) != 0 && !m.operators {
		w.flaw = spins
	}
	w.run[requester].made |= 1 << move
	e := w.end[requester]
	c := call{e.attempt, e.round, m.reveal(requester, e.phase), bytes}
	w.run[requester].call = c
	m.send(w, c)
}

// reply answers a call, if the requester still waits for it.
func (m *model) reply(w *world, c call, a answer) {
	if c != (call{}) && w.run[requester].call == c {
		w.answer = a
	}
}

// handsOver: an answer gives the turn to the requester, or the two would ask and
// answer for ever.
func (m *model) handsOver(w *world, c call, act Act) {
	if c == (call{}) || w.run[requester].call != c || act.Move == Mismatch {
		return
	}
	r := m.record(w, requester)
	if m.next(&r, w.answer.phase).Do == DoCall {
		w.flaw = spins
	}
}

// startBytes is the beginning of DoBytes at either end, and of a call that offers them.
func (m *model) startBytes(w *world, i int, move Move) {
	run := &w.run[i]
	if w.end[i].phase < Moving && move == Transfer {
		m.catchUp(w, i)
		return
	}
	if i == requester {
		m.call(w, move, true)
		w.stream = stream{attempt: w.end[requester].attempt}
	} else if !run.call.bytes {
		m.do(w, i, Act{DoAnswer, Transfer})
		return
	} else if w.stream.attempt != run.call.attempt {
		m.wait(w, i, Awaiting, Requester, fault.Lost)
		return
	}
	run.bytes = true
	if i == m.sender() {
		if w.stream.version != w.source && !w.stream.verdict { // of a call that comes once more
			w.stream.sent, w.stream.ended = 0, false
		}
		w.stream.open, w.stream.version = true, w.source
	} else {
		w.disk.cached, w.disk.synced = w.end[i].rank, min(w.disk.synced, w.end[i].rank) // the partial file is cut to the offset
		w.disk.named = false
	}
}

// sendBytes is the sender's part of DoBytes. A requested one is ENDED with the verdict, a
// requester when it hears an answer that says so.
func (m *model) sendBytes(w world, i int, emit func(string, world)) {
	s, changed := &w.stream, w.source != w.stream.version
	switch {
	case s.verdict && i == requested:
		if w.end[i].phase == Moving {
			size, proof := m.ended(&w, i)
			m.apply(&w, i, Advance{Epoch: modelEpoch, To: Ended, Rank: size, Proof: proof})
		}
		w.run[i].bytes, w.run[i].peer = false, Whole
		emit("verdict", w)
	case s.sent < m.size(s.version):
		s.sent++
		emit("send", w)
	case s.ended:
	case changed:
		m.wait(&w, i, Retrying, Requester, fault.SourceChanged)
		emit("source changed", w)
	case m.saysOther(&w, i):
		m.apply(&w, i, Rewind{Epoch: modelEpoch, Rank: int64(min(w.end[i].rank, m.size(s.version))), Size: int64(m.size(s.version))})
		emit("write down what is sent", w)
	default:
		s.ended, w.run[i].sent = true, s.version+1
		emit("send end", w)
	}
}

// saysOther: the sender's record is of another version than its stream, and would stay so.
func (m *model) saysOther(w *world, i int) bool {
	e, size := &w.end[i], m.size(w.stream.version)
	switch {
	case e.phase < Moving || m.mutant == unsaid:
		return false
	case e.proof > 0 && e.proof != w.stream.version+1:
		return true
	}
	return e.size != size+1 && (i == requested || e.phase == Ended)
}

// receiveBytes is the receiver's: write, sync, commit the offset; WHOLE after the end.
func (m *model) receiveBytes(w world, i int, emit func(string, world)) {
	d, s, e := &w.disk, &w.stream, &w.end[i]
	try := func(label string, may bool, change func(*world)) {
		if may {
			next := w
			change(&next)
			emit(label, next)
		}
	}
	if !s.open {
		return
	}
	if d.version != s.version && m.mutant == splice {
		d.mixed, d.version = d.cached > 0, s.version
	}
	if d.version != s.version {
		try("rewind", e.rank > 0, func(w *world) { m.apply(w, i, Rewind{Epoch: modelEpoch, Size: -1}) })
		try("cut", e.rank == 0, func(w *world) { w.disk = disk{version: s.version} })
		return
	}
	try("write", d.cached < s.sent, func(w *world) { w.disk.cached++ })
	try("sync", d.synced < d.cached, func(w *world) { w.disk.synced = w.disk.cached })
	safe := m.safe(d)
	try("durable", safe > e.rank, func(w *world) { m.apply(w, i, Durable{Epoch: modelEpoch, Rank: int64(safe)}) })
	try("climb: whole", s.ended && d.synced == m.size(s.version), func(w *world) {
		m.apply(w, i, Advance{Epoch: modelEpoch, To: Whole, Rank: int64(d.synced), Proof: m.proof(s.version)})
		w.run[i].bytes, w.run[i].peer = false, Ended
		w.stream.verdict = true
		if i == requester {
			w.run[i].call, w.answer = call{}, answer{}
		}
	})
}
