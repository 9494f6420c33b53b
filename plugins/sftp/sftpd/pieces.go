package sftpd

import "slices"

// early is how far from where a file is a piece of it may be, in bytes.
const early = 8 << 20

// pieceCosts is what a piece costs beside its bytes.
const pieceCosts = 256

// pieces are parts of a file that are there before their turn, in the order of their
// offsets, none overlapping another. Their bytes are of a budget.
type pieces struct {
	budget *budget
	all    []piece
}

type piece struct {
	at   int64
	data []byte
	cost int // of the budget
}

func (p piece) end() int64 { return p.at + int64(len(p.data)) }

// put keeps data, which is the pieces' then. Why it cannot be is "" if all is well.
func (s *pieces) put(at int64, data []byte) (why string) {
	i, _ := slices.BinarySearchFunc(s.all, at, func(p piece, at int64) int {
		switch {
		case p.at < at:
			return -1
		case p.at > at:
			return 1
		}
		return 0
	})
	p := piece{at, data, len(data) + pieceCosts}
	if i > 0 && s.all[i-1].end() > at || i < len(s.all) && s.all[i].at < p.end() {
		return "bytes came twice"
	}
	if !s.budget.take(p.cost) {
		return "too many bytes came before those in front of them"
	}
	s.all = slices.Insert(s.all, i, p)
	return ""
}

// first takes away the first piece, if it begins there or before.
func (s *pieces) first(at int64) (piece, bool) {
	if len(s.all) == 0 || s.all[0].at > at {
		return piece{}, false
	}
	return s.remove(0), true
}

func (s *pieces) remove(i int) piece {
	p := s.all[i]
	s.all = slices.Delete(s.all, i, i+1)
	s.budget.give(p.cost)
	return p
}

// copy fills b with what there is from at on, without a hole. What was copied is gone.
func (s *pieces) copy(b []byte, at int64) (n int) {
	for i := 0; i < len(s.all) && n < len(b) && s.all[i].at <= at; i++ {
		if s.all[i].end() <= at {
			continue
		}
		p := s.remove(i)
		m := copy(b[n:], p.data[at-p.at:])
		before, after := p.data[:at-p.at], p.data[at-p.at+int64(m):]
		n, at = n+m, at+int64(m)
		if len(before) > 0 {
			_ = s.put(p.at, before)
		}
		if len(after) > 0 { // there is no room in b any more
			_ = s.put(at, after)
			break
		}
		if len(before) == 0 {
			i--
		}
	}
	return n
}

// bytes is what of the budget is taken.
func (s *pieces) bytes() (n int) {
	for _, p := range s.all {
		n += p.cost
	}
	return n
}

// clear gives all up.
func (s *pieces) clear() {
	for len(s.all) > 0 {
		s.remove(len(s.all) - 1)
	}
}
