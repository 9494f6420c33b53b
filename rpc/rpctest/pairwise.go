package rpctest

import "math/rand/v2"

const (
	pairTries = 400 // rows tried before a pair counts as impossible
	pairWidth = 6   // possible rows of which the best is taken
)

// pairwise is a small table of rows in which every two values of different
// columns occur together, as far as allowed permits. Column i has sizes[i]
// values. The same arguments give the same table.
func pairwise(sizes []int, allowed func(row []int) bool) [][]int {
	p := &pairing{sizes: sizes, allowed: allowed, rng: rand.New(rand.NewPCG(1, 2)), seen: map[[4]int]bool{}}
	var rows [][]int
	for _, pair := range p.all() {
		if p.seen[pair] {
			continue
		}
		if row := p.best(pair); row != nil {
			p.mark(row)
			rows = append(rows, row)
		}
	}
	return rows
}

// pairing is the state of one pairwise. A pair is column, value, column, value.
type pairing struct {
	sizes   []int
	allowed func([]int) bool
	rng     *rand.Rand
	seen    map[[4]int]bool
}

// all are the pairs, in random order.
func (p *pairing) all() [][4]int {
	var all [][4]int
	for i := range p.sizes {
		for j := range i {
			for a := range p.sizes[i] {
				for b := range p.sizes[j] {
					all = append(all, [4]int{j, b, i, a})
				}
			}
		}
	}
	p.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// best is the row with the pair that has the most pairs not seen yet; nil when
// none is allowed.
func (p *pairing) best(pair [4]int) (best []int) {
	most, found := -1, 0
	row := make([]int, len(p.sizes))
	for range pairTries {
		for i, n := range p.sizes {
			row[i] = p.rng.IntN(n)
		}
		row[pair[0]], row[pair[2]] = pair[1], pair[3]
		if !p.allowed(row) {
			continue
		}
		if n := p.fresh(row); n > most {
			most, best = n, append([]int(nil), row...)
		}
		if found++; found == pairWidth {
			break
		}
	}
	return best
}

func (p *pairing) fresh(row []int) (n int) {
	for i, a := range row {
		for j, b := range row[:i] {
			if !p.seen[[4]int{j, b, i, a}] {
				n++
			}
		}
	}
	return n
}

func (p *pairing) mark(row []int) {
	for i, a := range row {
		for j, b := range row[:i] {
			p.seen[[4]int{j, b, i, a}] = true
		}
	}
}
