package web

// Fill gives the graph an hour of samples.
func Fill(p *Page, at func(i int) (in, out float64)) {
	for i := range samples {
		in, out := at(i)
		p.graph.add(sample{in, out})
	}
}

// LimitWords has one word be said on at most n requests.
func LimitWords(p *Page, n int) { p.most = n }

// ClockOf is clockOf.
func ClockOf(zone string) string { return clockOf(zone) }
