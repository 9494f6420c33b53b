package rpctest

import "math/rand/v2"

const (
	coverTries = 400 // rows tried before a tuple counts as impossible
	coverWidth = 6   // possible rows of which the best is taken
)

// covering is a small table of rows in which every strength values of different
// columns occur together, as far as allowed permits: all pairs, all triples.
// Column i of at most 32 has sizes[i] values, at most 16. The same arguments
// give the same table.
func covering(sizes []int, strength int, allowed func(row []int) bool) [][]int {
	c := &cover{sizes: sizes, allowed: allowed, rng: rand.New(rand.NewPCG(1, 2)), seen: map[tuple]bool{}}
	var all []tuple
	combine(sizes, strength, func(columns []int) { all = append(all, c.values(columns, 0)...) }, nil)
	c.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	combine(sizes, strength, func(columns []int) { c.columns = append(c.columns, append([]int(nil), columns...)) }, nil)
	var rows [][]int
	for _, t := range all {
		if c.seen[t] {
			continue
		}
		if row := c.best(t); row != nil {
			c.mark(row)
			rows = append(rows, row)
		}
	}
	return rows
}

// combine calls f with every choice of columns, in descending order.
func combine(sizes []int, strength int, f func([]int), chosen []int) {
	if strength == 0 {
		f(chosen)
		return
	}
	for i := range sizes {
		combine(sizes[:i], strength-1, f, append(chosen, i))
	}
}

// tuple is some columns and a value of each: ten bits a column, of which the
// highest is set.
type tuple uint64

func (t tuple) with(column, value int) tuple { return t<<10 | 1<<9 | tuple(column<<4|value) }

// set puts the values of a tuple into a row.
func (t tuple) set(row []int) {
	for ; t != 0; t >>= 10 {
		row[t>>4&31] = int(t & 15)
	}
}

// cover is the state of one covering.
type cover struct {
	sizes   []int
	columns [][]int // every choice of them
	allowed func([]int) bool
	rng     *rand.Rand
	seen    map[tuple]bool
}

// values are all tuples of some columns behind one that is begun.
func (c *cover) values(columns []int, begun tuple) (all []tuple) {
	if len(columns) == 0 {
		return []tuple{begun}
	}
	for v := range c.sizes[columns[0]] {
		all = append(all, c.values(columns[1:], begun.with(columns[0], v))...)
	}
	return all
}

// best is the row with the tuple that has the most tuples not seen yet; nil
// when none is allowed.
func (c *cover) best(t tuple) (best []int) {
	most, found := -1, 0
	row := make([]int, len(c.sizes))
	for range coverTries {
		for i, n := range c.sizes {
			row[i] = c.rng.IntN(n)
		}
		t.set(row)
		if !c.allowed(row) {
			continue
		}
		if n := c.fresh(row); n > most {
			most, best = n, append([]int(nil), row...)
		}
		if found++; found == coverWidth {
			break
		}
	}
	return best
}

func (c *cover) fresh(row []int) (n int) {
	for _, columns := range c.columns {
		if !c.seen[tupleOf(row, columns)] {
			n++
		}
	}
	return n
}

func (c *cover) mark(row []int) {
	for _, columns := range c.columns {
		c.seen[tupleOf(row, columns)] = true
	}
}

func tupleOf(row, columns []int) (t tuple) {
	for _, i := range columns {
		t = t.with(i, row[i])
	}
	return t
}
